/** A server that behaves as badly as a test wants: its status, its WebSockets and its event streams. */

import { vi } from "vitest";
import { NetworkError, type HaulyardClient } from "../src/client.ts";
import type { JobMessage, JobStatus, Progress } from "../src/types.ts";

export const JOB = "job_01M8839Z4QZG3CF200REK9H3YS";

export function progress(bytes: number, total: number, current = 0): Progress {
  return { current, total: 2, percentage: current * 50, bytes_current: bytes, bytes_total: total };
}

export function jobStatus(more: Partial<JobStatus> = {}): JobStatus {
  return {
    job_id: JOB,
    status: "processing",
    progress: progress(0, 100),
    files: [1, 2].map((id) => ({ file_id: id, status: "processing", size_bytes: 50, name: `${id}.txt`, error: null })),
    created_at: "2026-11-25T00:00:00Z",
    updated_at: "2026-11-25T00:00:00Z",
    completed_at: null,
    error: null,
    filename: "quarter.zip",
    size_bytes: null,
    expires_at: null,
    sequence: 1,
    ...more,
  };
}

export function update(sequence: number, bytes = sequence * 10, current = 0): JobMessage {
  const timestamp = "2026-11-25T00:00:01Z";
  return {
    type: "status_update",
    job_id: JOB,
    status: "processing",
    progress: progress(bytes, 100, current),
    timestamp,
    sequence,
  };
}

export function completed(sequence: number): JobMessage {
  const timestamp = "2026-11-25T00:00:09Z";
  return {
    type: "completed",
    job_id: JOB,
    download_url: "https://store/archive",
    size_bytes: 120,
    timestamp,
    sequence,
  };
}

/** One connection as the server sees it. */
export interface Peer {
  way: "websocket" | "sse";
  url: URL;
  isOpen: boolean;
  open(): void;
  say(message: JobMessage): void;
  /** End it from the server's side. */
  drop(code?: number): void;
}

export class FakeServer {
  /** Every connection that was ever made. */
  peers: Peer[] = [];
  job = jobStatus();
  /** Status requests that were answered. */
  polls = 0;
  isAway = false;
  /** What becomes of a new connection. */
  onConnect: (peer: Peer) => void = (peer) => peer.open();

  readonly client: HaulyardClient;

  constructor() {
    const refuse = () => Promise.reject(new Error("not part of this test"));
    this.client = {
      initiate: vi.fn(refuse),
      status: vi.fn(() => {
        if (this.isAway) return Promise.reject(new NetworkError(null));
        this.polls += 1;
        return Promise.resolve(this.job);
      }),
      liveLinks: vi.fn((_: string, fresh: boolean) => {
        if (this.isAway) return Promise.reject(new NetworkError(null));
        const ticket = fresh ? "fresh" : "first";
        return Promise.resolve({
          websocket_url: `wss://live/ws?ticket=${ticket}`,
          events_url: `https://live/events?ticket=${ticket}`,
        });
      }),
      archiveLink: vi.fn(refuse),
      cancel: vi.fn(refuse),
      retry: vi.fn(refuse),
      remove: vi.fn(refuse),
      jobs: vi.fn(refuse),
      files: vi.fn(refuse),
      file: vi.fn(refuse),
      addFiles: vi.fn(refuse),
      upload: vi.fn(refuse),
      removeFile: vi.fn(refuse),
    };
    const connected = (peer: Peer) => {
      this.peers.push(peer);
      queueMicrotask(() => this.onConnect(peer));
    };
    vi.stubGlobal("WebSocket", fakeWebSocket(connected));
    vi.stubGlobal("EventSource", fakeEventSource(connected));
  }

  get open(): Peer[] {
    return this.peers.filter((peer) => peer.isOpen);
  }

  get last(): Peer {
    const peer = this.peers.at(-1);
    if (peer === undefined) throw new Error("nobody has connected");
    return peer;
  }

  /** Let polls see a message's state as well, and send it to whoever is connected. */
  tell(message: JobMessage): void {
    this.job = {
      ...this.job,
      sequence: message.sequence,
      ...(message.type === "status_update" ? { status: message.status, progress: message.progress } : {}),
      ...(message.type === "completed"
        ? { status: "completed", progress: progress(100, 100, 2), size_bytes: 120 }
        : {}),
    };
    for (const peer of this.open) peer.say(message);
  }
}

function fakeWebSocket(connected: (peer: Peer) => void) {
  return class {
    onopen: (() => void) | null = null;
    onmessage: ((event: { data: string }) => void) | null = null;
    onclose: ((event: { code: number }) => void) | null = null;
    private readonly peer: Peer;

    constructor(url: URL) {
      this.peer = {
        way: "websocket",
        url,
        isOpen: false,
        open: () => {
          this.peer.isOpen = true;
          this.onopen?.();
        },
        say: (message) => this.onmessage?.({ data: JSON.stringify(message) }),
        drop: (code = 1006) => {
          this.peer.isOpen = false;
          this.onclose?.({ code });
        },
      };
      connected(this.peer);
    }

    close(): void {
      this.peer.isOpen = false;
    }
  };
}

function fakeEventSource(connected: (peer: Peer) => void) {
  return class extends EventTarget {
    onopen: (() => void) | null = null;
    private readonly peer: Peer;

    constructor(url: URL) {
      super();
      this.peer = {
        way: "sse",
        url,
        isOpen: false,
        open: () => {
          this.peer.isOpen = true;
          this.onopen?.();
        },
        say: (message) => this.dispatchEvent(new MessageEvent(message.type, { data: JSON.stringify(message) })),
        drop: () => {
          this.peer.isOpen = false;
          this.dispatchEvent(new Event("error"));
        },
      };
      connected(this.peer);
    }

    close(): void {
      this.peer.isOpen = false;
    }
  };
}
