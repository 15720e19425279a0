import { useHaulyard, type JobSummary } from "@haulyard/react";
import { useCallback, useEffect, useMemo, useState } from "react";
import { withPage, type ListedJob } from "./jobList.ts";
import { messageOf } from "./messages.ts";

const KEY = "haulyard.started";
const PAGE = 20;

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
 * The user's jobs. A job that was just started may not be in the server's record for a moment, so its id is kept in
 * this tab as well: a reload right after the start still shows it.
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
          setState((old) => ({
            jobs: cursor === null ? page.items : [...(old.jobs ?? []), ...page.items],
            cursor: page.next_cursor,
            problem: null,
          }));
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
    reload();
    addEventListener("online", reload);
    return () => {
      stopping.abort();
      removeEventListener("online", reload);
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
