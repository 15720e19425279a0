/** One connection over which a job's messages come, from its start to its end, whatever ends it. */

import { parseMessage } from "./merge.ts";
import type { JobMessage } from "./types.ts";

export type LiveWay = "websocket" | "sse";

export interface LiveConnection {
  way: LiveWay;
  /** With its ticket. */
  url: string;
  /** The last sequence that was seen: only what is newer will be sent. */
  after: number;
  /** Ends the connection. */
  signal: AbortSignal;
  onOpen: () => void;
  onMessage: (message: JobMessage) => void;
}

/** A connection that is not open by then never will be. */
const OPEN_TIMEOUT = 8_000;
/** A connection that lived so long was let in, even if there was nothing to say. */
const PROVEN = 5_000;

/** Whether this browser can do it. */
export function canListen(way: LiveWay): boolean {
  return way === "websocket" ? typeof WebSocket !== "undefined" : typeof EventSource !== "undefined";
}

/** Listen until the connection ends; return whether it ever worked. Never throws, and leaves nothing open. */
export function listen(connection: LiveConnection): Promise<boolean> {
  const { way, after, signal, onMessage } = connection;
  const url = new URL(connection.url);
  if (after > 0) url.searchParams.set("last_event_id", String(after));
  return new Promise((resolve) => {
    let openedAt: number | null = null;
    let heard = false;
    let close = () => {};

    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      removeEventListener("offline", end);
      close();
      resolve(heard || (openedAt !== null && Date.now() - openedAt >= PROVEN));
    };
    const handlers: Handlers = {
      open: () => {
        clearTimeout(timer);
        openedAt = Date.now();
        connection.onOpen();
      },
      text: (text) => {
        const message = parseMessage(text);
        if (message === null) return;
        heard = true;
        onMessage(message);
      },
      end,
    };
    const timer = setTimeout(end, OPEN_TIMEOUT);
    signal.addEventListener("abort", end);
    // The browser may take minutes to notice that a connection died with its network.
    addEventListener("offline", end);
    try {
      close = way === "websocket" ? openSocket(url, handlers) : openEvents(url, handlers);
    } catch {
      end(); // such as ws: from an https page
    }
  });
}

interface Handlers {
  open: () => void;
  text: (text: unknown) => void;
  end: () => void;
}

function openSocket(url: URL, { open, text, end }: Handlers): () => void {
  const socket = new WebSocket(url);
  socket.onopen = open;
  socket.onmessage = (event) => text(event.data);
  socket.onclose = end;
  return () => {
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  };
}

function openEvents(url: URL, { open, text, end }: Handlers): () => void {
  const source = new EventSource(url);
  const take = (event: Event) => {
    // "error" is both a message of ours, which has data, and how the browser says that the connection broke. We
    // reconnect by ourselves: the browser gives up for good after any answer but 200.
    if (event instanceof MessageEvent) text(event.data);
    else end();
  };
  const kinds: JobMessage["type"][] = ["status_update", "completed", "error"];
  source.onopen = open;
  for (const kind of kinds) source.addEventListener(kind, take);
  return () => {
    source.onopen = null;
    for (const kind of kinds) source.removeEventListener(kind, take);
    source.close();
  };
}
