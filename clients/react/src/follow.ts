/**
 * Following one job to its end: over WebSocket, else server-sent events, else polling. No React here.
 *
 * The polled state is the ground: it is asked for first, after every connection that broke, when a live job has been
 * quiet for long, and when a file was finished (live messages do not list files). Live messages only make it faster. So
 * whatever is lost on the way, the picture is right a moment later.
 */

import { backoffDelay } from "./backoff.ts";
import { HaulyardError, type HaulyardClient } from "./client.ts";
import { canListen, listen, type LiveWay } from "./live.ts";
import { withMessage, withPolled } from "./merge.ts";
import { pause } from "./pause.ts";
import { isOver, type JobMessage, type JobStatus } from "./types.ts";

/** How news arrive at the moment; `offline`: they do not, and it is tried again; `closed`: nothing is to come. */
export type Connection = "connecting" | LiveWay | "polling" | "offline" | "closed";

export interface FollowOptions {
  useWebSocket?: boolean;
  /** Milliseconds between two polls when there is no live connection. */
  pollInterval?: number;
  onStatus: (status: JobStatus) => void;
  onConnection: (connection: Connection) => void;
  /** There is no use in going on: no such job, or not for this user. */
  onError: (error: Error) => void;
}

/** Tries of one way before the next one. */
const TRIES = 2;
/** Milliseconds of polling after which live updates are tried again. */
const REVIVE = 30_000;
/** Milliseconds of silence after which a live job is asked for. */
const QUIET = 20_000;
/** Seconds that a poll may wait for a change: a quiet job costs few requests. */
const LONG_POLL = 10;
/** Milliseconds that a server may ask for before it is asked again. */
const MOST_PATIENCE = 60_000;
/** Milliseconds after which finished files are looked up: soon at first, and less and less often in a long job. */
const FILES_FIRST = 1_000;
const FILES_LATER = 15_000;

/** Follow a job; returns what stops that. */
export function followJob(client: HaulyardClient, jobId: string, options: FollowOptions): () => void {
  const stopping = new AbortController();
  const follower = new Follower(client, jobId, options, stopping.signal);
  follower.run().catch((error: unknown) => {
    if (stopping.signal.aborted) return;
    options.onConnection("closed");
    options.onError(error instanceof Error ? error : new Error(String(error)));
  });
  return () => stopping.abort();
}

class Follower {
  private known: JobStatus | null = null;
  private connection: Connection = "connecting";
  private filesPause = FILES_FIRST;

  constructor(
    private readonly client: HaulyardClient,
    private readonly jobId: string,
    private readonly options: FollowOptions,
    private readonly signal: AbortSignal,
  ) {}

  async run(): Promise<void> {
    await this.pollUntilAnswered();
    let ways = this.ways();
    let failures = 0;
    let isFirst = true;
    while (this.goesOn()) {
      const [way] = ways;
      if (way === undefined) {
        await this.pollFor(REVIVE);
        ways = this.ways();
        continue;
      }
      const worked = await this.listenBy(way, !isFirst);
      isFirst = false;
      if (!this.goesOn()) break;
      failures = worked ? 0 : failures + 1;
      if (failures >= TRIES) {
        ways = ways.slice(1);
        failures = 0;
      } else {
        await pause(backoffDelay(failures, Math.random(), { base: 500 }), this.signal);
      }
      await this.pollUntilAnswered();
    }
    if (!this.signal.aborted) this.tell("closed");
  }

  private goesOn(): boolean {
    return !this.signal.aborted && (this.known === null || !isOver(this.known.status));
  }

  private ways(): LiveWay[] {
    const wanted: LiveWay[] = this.options.useWebSocket === false ? ["sse"] : ["websocket", "sse"];
    return wanted.filter(canListen);
  }

  /** Listen until the connection ends; return whether it worked. */
  private async listenBy(way: LiveWay, withFreshLinks: boolean): Promise<boolean> {
    const links = await this.untilAnswered(() => this.client.liveLinks(this.jobId, withFreshLinks, this.signal));
    if (links === null || !this.goesOn()) return true;
    const ending = new AbortController();
    const end = () => ending.abort();
    this.signal.addEventListener("abort", end, { once: true });
    const quiet = new Alarm(QUIET, () => void check());
    const files = new Alarm(this.filesPause, () => {
      this.filesPause = Math.min(this.filesPause * 1.5, FILES_LATER);
      files.milliseconds = this.filesPause;
      void this.poll().catch(() => {});
    });
    let isStale = false;

    // A connection that kept silent about news is dead, or something in between holds it back.
    const check = async () => {
      const before = this.known;
      await this.poll().catch(() => {});
      if (ending.signal.aborted) return;
      isStale = this.known !== null && before !== null && this.known.sequence > before.sequence;
      if (isStale || !this.goesOn()) end();
      else quiet.set();
    };
    const take = (message: JobMessage) => {
      quiet.set();
      if (this.take(message)) files.setOnce();
      if (!this.goesOn()) end();
    };

    quiet.set();
    const worked = await listen({
      way,
      url: way === "websocket" ? links.websocket_url : links.events_url,
      after: this.known?.sequence ?? 0,
      signal: ending.signal,
      onOpen: () => this.tell(way),
      onMessage: take,
    });
    quiet.clear();
    files.clear();
    this.signal.removeEventListener("abort", end);
    if (!this.signal.aborted && this.known !== null && isOver(this.known.status)) {
      await this.poll().catch(() => {}); // how each file ended
    }
    return worked && !isStale;
  }

  /** Take in a live message; return whether more files are finished than before. */
  private take(message: JobMessage): boolean {
    const before = this.known;
    if (this.signal.aborted || before === null || message.job_id !== this.jobId) return false;
    this.known = withMessage(before, message);
    if (this.known === before) return false;
    this.options.onStatus(this.known);
    return this.known.progress.current !== before.progress.current || this.known.status !== before.status;
  }

  private async pollFor(milliseconds: number): Promise<void> {
    const until = Date.now() + milliseconds;
    this.tell("polling");
    while (this.goesOn() && Date.now() < until) {
      await pause(this.options.pollInterval ?? 2000, this.signal);
      await this.pollUntilAnswered(LONG_POLL);
      if (this.goesOn()) this.tell("polling");
    }
  }

  private async pollUntilAnswered(wait = 0): Promise<void> {
    await this.untilAnswered((attempt) => this.poll(attempt === 0 ? wait : 0));
  }

  /** Ask until there is an answer; null when it is no longer wanted. What the server refuses for good is raised. */
  private async untilAnswered<T>(ask: (attempt: number) => Promise<T>): Promise<T | null> {
    for (let attempt = 0; this.goesOn(); attempt += 1) {
      try {
        return await ask(attempt);
      } catch (error) {
        if (this.signal.aborted) return null;
        const isBusy = error instanceof HaulyardError && error.status === 429;
        if (error instanceof HaulyardError && error.status < 500 && !isBusy) throw error;
        if (!isBusy) this.tell("offline");
        const asked = error instanceof HaulyardError ? error.retryAfter : null;
        await pause(Math.min(asked ?? backoffDelay(attempt, Math.random()), MOST_PATIENCE), this.signal);
      }
    }
    return null;
  }

  /** Ask how the job is; with `wait`, for so many seconds until that changes. */
  private async poll(wait = 0): Promise<void> {
    const since = wait > 0 && this.known !== null ? { since: this.known.sequence, wait } : {};
    const polled = await this.client.status(this.jobId, { ...since, signal: this.signal });
    if (this.signal.aborted) return;
    this.known = withPolled(this.known, polled);
    this.options.onStatus(this.known);
  }

  private tell(connection: Connection): void {
    if (this.connection === connection || this.signal.aborted) return;
    this.connection = connection;
    this.options.onConnection(connection);
  }
}

/** A timer that can be set anew. */
class Alarm {
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    public milliseconds: number,
    private readonly ring: () => void,
  ) {}

  set(): void {
    this.clear();
    this.timer = setTimeout(() => {
      this.timer = undefined;
      this.ring();
    }, this.milliseconds);
  }

  /** Set it unless it is set. */
  setOnce(): void {
    if (this.timer === undefined) this.set();
  }

  clear(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
  }
}
