import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { HaulyardError } from "../src/client.ts";
import { followJob, type Connection } from "../src/follow.ts";
import type { JobStatus } from "../src/types.ts";
import { completed, FakeServer, JOB, jobStatus, update } from "./fakes.ts";

let server: FakeServer;
let seen: JobStatus[];
let connections: Connection[];
let errors: Error[];
let stop: () => void;

beforeEach(() => {
  vi.useFakeTimers();
  server = new FakeServer();
  seen = [];
  connections = [];
  errors = [];
});

afterEach(() => stop());

function follow(more: { useWebSocket?: boolean; pollInterval?: number } = {}): void {
  stop = followJob(server.client, JOB, {
    ...more,
    onStatus: (status) => seen.push(status),
    onConnection: (connection) => connections.push(connection),
    onError: (error) => errors.push(error),
  });
}

/** Let that much time pass, with all that happens in it. */
const pass = (milliseconds: number) => vi.advanceTimersByTimeAsync(milliseconds);
const now = () => seen.at(-1);

describe("a job that is followed", () => {
  it("is asked for, then listened to, and closed with its end", async () => {
    follow();
    await pass(0);
    expect(server.last.way).toBe("websocket");
    expect(server.last.url.searchParams.get("last_event_id")).toBe("1");
    server.tell(update(2));
    expect(now()?.progress.bytes_current).toBe(20);
    server.tell(completed(3));
    await pass(0);
    expect(now()).toMatchObject({ status: "completed", download_url: "https://store/archive", size_bytes: 120 });
    expect(connections).toEqual(["websocket", "closed"]);
    expect(server.open).toEqual([]);
    expect(vi.getTimerCount()).toBe(0);
  });

  it("is not listened to when it is over already", async () => {
    server.job = jobStatus({ status: "failed" });
    follow();
    await pass(60_000);
    expect(server.peers).toEqual([]);
    expect(server.polls).toBe(1);
    expect(connections).toEqual(["closed"]);
  });

  it("is asked again when files were finished, which live messages do not list", async () => {
    follow();
    await pass(0);
    const polls = server.polls;
    server.tell(update(2, 20, 0));
    await pass(2000);
    expect(server.polls).toBe(polls);
    server.tell(update(3, 50, 1));
    server.tell(update(4, 60, 1));
    await pass(2000);
    expect(server.polls).toBe(polls + 1);
  });

  it("leaves nothing behind when that is stopped, at whatever moment", async () => {
    for (const after of [0, 1, 500, 8000, 25_000]) {
      follow();
      await pass(after);
      stop();
      await pass(0);
      expect(server.open).toEqual([]);
      expect(vi.getTimerCount()).toBe(0);
      const told = seen.length;
      server.tell(update(99));
      await pass(60_000);
      expect(seen.length).toBe(told);
    }
  });
});

describe("a connection that breaks", () => {
  it("is made again, from where it was cut, with a fresh ticket", async () => {
    follow();
    await pass(0);
    expect(server.last.url.searchParams.get("ticket")).toBe("first");
    server.tell(update(4));
    server.last.drop();
    server.tell(update(6)); // nobody hears it
    await pass(1000);
    expect(now()?.sequence).toBe(6);
    expect(server.peers).toHaveLength(2);
    expect(server.last.url.searchParams.get("last_event_id")).toBe("6");
    expect(server.last.url.searchParams.get("ticket")).toBe("fresh");
  });

  it("loses nothing and repeats nothing however often it is cut", async () => {
    follow();
    await pass(0);
    for (let sequence = 2; sequence < 60; sequence += 1) {
      server.tell(update(sequence));
      if (sequence % 7 === 0) server.last.drop(1012);
      if (sequence % 3 === 0) await pass(sequence * 13);
    }
    server.tell(completed(60));
    await pass(5000);
    const sequences = seen.map((status) => status.sequence);
    expect(sequences).toEqual([...sequences].sort((a, b) => a - b));
    expect(now()).toMatchObject({ status: "completed", sequence: 60 });
    expect(server.open).toEqual([]);
  });

  it("is given up when it never opens, and when it is silent about news", async () => {
    server.onConnect = () => {};
    follow();
    await pass(8_000 + 1_000);
    expect(server.peers).toHaveLength(2);
    server.onConnect = (peer) => peer.open();
    await pass(10_000);
    expect(server.last).toMatchObject({ way: "sse", isOpen: true });
    server.job = jobStatus({ sequence: 9 });
    await pass(22_000);
    expect(now()?.sequence).toBe(9);
    expect(server.open).toHaveLength(1);
    expect(server.open[0]?.url.searchParams.get("last_event_id")).toBe("9");
  });

  it("is dropped at once when the browser goes offline, and made again when it is back", async () => {
    follow();
    await pass(0);
    server.isAway = true;
    dispatchEvent(new Event("offline"));
    expect(server.open).toEqual([]);
    await pass(3000);
    expect(connections.at(-1)).toBe("offline");
    server.isAway = false;
    server.tell(update(5));
    dispatchEvent(new Event("online"));
    await pass(0);
    expect(now()?.sequence).toBe(5);
    await pass(1000);
    expect(connections.at(-1)).toBe("websocket");
  });
});

describe("where WebSocket is blocked", () => {
  it("server-sent events are used", async () => {
    server.onConnect = (peer) => (peer.way === "websocket" ? peer.drop() : peer.open());
    follow();
    await pass(2000);
    expect(server.last).toMatchObject({ way: "sse", isOpen: true });
    expect(connections).toEqual(["sse"]);
    server.tell(update(3));
    expect(now()?.sequence).toBe(3);
    server.tell({ type: "error", job_id: JOB, error: { code: "X", message: "broken" }, timestamp: "", sequence: 4 });
    expect(now()?.status).toBe("failed");
    await pass(0);
    expect(server.open).toEqual([]);
  });

  it("and these too, it is polled, and tried again now and then", async () => {
    server.onConnect = (peer) => peer.drop();
    follow({ pollInterval: 1000 });
    await pass(3000);
    expect(server.peers.map((peer) => peer.way)).toEqual(["websocket", "websocket", "sse", "sse"]);
    expect(connections).toEqual(["polling"]);
    const polls = server.polls;
    await pass(5000);
    expect(server.polls).toBe(polls + 5);
    expect(server.client.status).toHaveBeenLastCalledWith(JOB, expect.objectContaining({ since: 1, wait: 10 }));
    server.onConnect = (peer) => peer.open();
    await pass(30_000);
    expect(connections.at(-1)).toBe("websocket");
  });

  it.each([
    ["useWebSocket is false", { useWebSocket: false }, "sse"],
    ["the browser has none", {}, "sse"],
  ])("because %s, it is not even tried", async (why, options, way) => {
    if (why.startsWith("the browser")) vi.stubGlobal("WebSocket", undefined);
    follow(options);
    await pass(0);
    expect(server.peers.map((peer) => peer.way)).toEqual([way]);
  });
});

describe("a server that does not answer", () => {
  it("is asked until it does", async () => {
    server.isAway = true;
    follow();
    await pass(20_000);
    expect(connections).toEqual(["offline"]);
    expect(errors).toEqual([]);
    server.isAway = false;
    await pass(10_000);
    expect(now()?.job_id).toBe(JOB);
    expect(connections).toEqual(["offline", "websocket"]);
  });

  it("because there were too many requests, is asked when it says, and is not called away", async () => {
    const busy = new HaulyardError("Too many requests.", 429, "rate-limited", 20_000);
    vi.mocked(server.client.liveLinks).mockRejectedValueOnce(busy);
    follow();
    await pass(19_000);
    expect(server.peers).toEqual([]);
    await pass(2_000);
    expect(connections).toEqual(["websocket"]);
  });

  it("but says that there is no such job, ends it", async () => {
    vi.mocked(server.client.status).mockRejectedValue(
      new HaulyardError("You have no job with this id.", 404, "not-found"),
    );
    follow();
    await pass(60_000);
    expect(errors.map((error) => error.message)).toEqual(["You have no job with this id."]);
    expect(connections).toEqual(["closed"]);
    expect(server.client.status).toHaveBeenCalledTimes(1);
    expect(vi.getTimerCount()).toBe(0);
  });
});
