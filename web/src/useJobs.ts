import { useHaulyard, type JobSummary } from "@haulyard/react";
import { useCallback, useEffect, useMemo, useState } from "react";
import { withNewest, withNext, withPage, type ListedJob } from "./jobList.ts";
import { messageOf } from "./messages.ts";

const KEY = "haulyard.started";
const PAGE = 20;
/** Milliseconds between two looks for jobs that were started elsewhere. */
const EVERY = 10_000;

export interface Jobs {
  /** Newest first; null until the first answer. */
  listed: readonly ListedJob[] | null;
  problem: string | null;
  hasMore: boolean;
  more: () => void;
  reload: () => void;
  /** A job was started here. */
  add: (jobId: string) => void;
  remove: (jobId: string) => void;
}

interface State {
  jobs: readonly JobSummary[] | null;
  cursor: string | null;
  problem: string | null;
}

/**
 * The user's jobs, also those that are started elsewhere while the page is looked at. A job that was just started may
 * not be in the server's record for a moment, so its id is kept in this tab as well: a reload right after the start
 * still shows it.
 */
export function useJobs(): Jobs {
  const client = useHaulyard();
  const [state, setState] = useState<State>({ jobs: null, cursor: null, problem: null });
  const [started, setStarted] = useState<readonly string[]>(readStarted);
  const [removed, setRemoved] = useState<readonly string[]>([]);

  const load = useCallback(
    (cursor: string | null, signal?: AbortSignal) => {
      client
        .jobs({ cursor, limit: PAGE, ...(signal ? { signal } : {}) })
        .then((page) => {
          if (signal?.aborted) return;
          setState((old) => ({ ...(cursor === null ? withNewest(old, page) : withNext(old, page)), problem: null }));
        })
        .catch((error: unknown) => {
          if (!signal?.aborted) setState((old) => ({ ...old, problem: messageOf(error) }));
        });
    },
    [client],
  );

  useEffect(() => {
    const stopping = new AbortController();
    const reload = () => load(null, stopping.signal);
    const look = () => {
      if (document.visibilityState === "visible" && navigator.onLine) reload();
    };
    reload();
    const looking = setInterval(look, EVERY);
    addEventListener("online", reload);
    document.addEventListener("visibilitychange", look);
    return () => {
      stopping.abort();
      clearInterval(looking);
      removeEventListener("online", reload);
      document.removeEventListener("visibilitychange", look);
    };
  }, [load]);

  useEffect(() => sessionStorage.setItem(KEY, JSON.stringify(started)), [started]);

  const listed = useMemo(
    () => (state.jobs === null && started.length === 0 ? null : withPage(state.jobs ?? [], started, removed)),
    [state.jobs, started, removed],
  );
  return {
    listed,
    problem: state.problem,
    hasMore: state.cursor !== null,
    more: () => load(state.cursor),
    reload: () => load(null),
    add: (jobId) => setStarted((ids) => [jobId, ...ids].slice(0, PAGE)),
    remove: (jobId) => {
      setStarted((ids) => ids.filter((id) => id !== jobId));
      setRemoved((ids) => [...ids, jobId]);
    },
  };
}

function readStarted(): string[] {
  try {
    const ids: unknown = JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
    return Array.isArray(ids) ? ids.filter((id) => typeof id === "string") : [];
  } catch {
    return [];
  }
}
