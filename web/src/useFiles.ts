import { useHaulyard, type CatalogueFile } from "@haulyard/react";
import { useCallback, useEffect, useState } from "react";
import { messageOf } from "./messages.ts";

const PAGE = 100;
/** Files of a page that are looked up one by one because the catalogue still awaits them. */
const LOOK_UPS = 5;
/** Milliseconds to wait for the next letter. */
const TYPING = 250;

export interface Files {
  /** Null until the first answer. */
  files: readonly CatalogueFile[] | null;
  problem: string | null;
  hasMore: boolean;
  more: () => void;
  reload: () => void;
  /** A file was uploaded here. */
  add: (file: CatalogueFile) => void;
}

interface State {
  files: readonly CatalogueFile[] | null;
  cursor: string | null;
  problem: string | null;
}

/** The user's files whose name has `search` in it. */
export function useFiles(search: string): Files {
  const client = useHaulyard();
  const [state, setState] = useState<State>({ files: null, cursor: null, problem: null });

  const load = useCallback(
    async (cursor: string | null, signal?: AbortSignal) => {
      try {
        const page = await client.files({ cursor, search, limit: PAGE, ...(signal ? { signal } : {}) });
        if (signal?.aborted) return;
        setState((old) => ({
          files: cursor === null ? page.items : [...(old.files ?? []), ...page.items],
          cursor: page.next_cursor,
          problem: null,
        }));
        // The catalogue learns that an upload has arrived when somebody asks for that file.
        for (const { file_id } of page.items.filter((file) => file.status === "pending").slice(0, LOOK_UPS)) {
          const file = await client.file(file_id, signal);
          if (signal?.aborted) return;
          setState((old) => ({ ...old, files: (old.files ?? []).map((f) => (f.file_id === file_id ? file : f)) }));
        }
      } catch (error) {
        if (!signal?.aborted) setState((old) => ({ ...old, problem: messageOf(error) }));
      }
    },
    [client, search],
  );

  useEffect(() => {
    const stopping = new AbortController();
    const reload = () => void load(null, stopping.signal);
    const timer = setTimeout(reload, search === "" ? 0 : TYPING);
    addEventListener("online", reload);
    return () => {
      clearTimeout(timer);
      stopping.abort();
      removeEventListener("online", reload);
    };
  }, [load, search]);

  return {
    files: state.files,
    problem: state.problem,
    hasMore: state.cursor !== null,
    more: () => void load(state.cursor),
    reload: () => void load(null),
    add: (file) =>
      setState((old) => ({ ...old, files: [file, ...(old.files ?? []).filter((f) => f.file_id !== file.file_id)] })),
  };
}
