import { useHaulyard, type CatalogueFile } from "@haulyard/react";
import { useEffect, useRef, useState } from "react";
import { messageOf } from "./messages.ts";

const AT_ONCE = 3;

export interface Upload {
  id: number;
  name: string;
  size: number;
  sent: number;
  problem: string | null;
}

export interface Uploads {
  /** What is not done yet, failed ones included. */
  uploads: readonly Upload[];
  start: (files: readonly File[]) => void;
  dismiss: (id: number) => void;
}

interface Waiting {
  id: number;
  added: CatalogueFile;
  bytes: File;
}

/** Sends files to the store, a few at a time. */
export function useUploads(onDone: (file: CatalogueFile) => void): Uploads {
  const client = useHaulyard();
  const [uploads, setUploads] = useState<readonly Upload[]>([]);
  const waiting = useRef<Waiting[]>([]);
  const running = useRef(0);
  const lastId = useRef(0);
  const stopping = useRef(new AbortController());

  useEffect(() => {
    stopping.current = new AbortController();
    return () => stopping.current.abort();
  }, []);

  const change = (id: number, what: Partial<Upload>) =>
    setUploads((all) => all.map((upload) => (upload.id === id ? { ...upload, ...what } : upload)));
  const dismiss = (id: number) => setUploads((all) => all.filter((upload) => upload.id !== id));

  const work = async () => {
    running.current += 1;
    const { signal } = stopping.current;
    for (let next = waiting.current.shift(); next && !signal.aborted; next = waiting.current.shift()) {
      const { id, added, bytes } = next;
      try {
        onDone(await client.upload(added, bytes, { signal, onProgress: (sent) => change(id, { sent }) }));
        dismiss(id);
      } catch (error) {
        change(id, { problem: messageOf(error) });
      }
    }
    running.current -= 1;
  };

  const start = async (files: readonly File[]) => {
    if (files.length === 0) return;
    const begun = files.map((bytes) => {
      lastId.current += 1;
      // A folder that was chosen keeps its structure.
      return { id: lastId.current, bytes, name: bytes.webkitRelativePath || bytes.name };
    });
    setUploads((all) => [
      ...all,
      ...begun.map(({ id, name, bytes }) => ({ id, name, size: bytes.size, sent: 0, problem: null })),
    ]);
    try {
      const names = begun.map(({ name }) => name);
      const added = await client.addFiles(names, stopping.current.signal);
      added.forEach((file, at) => {
        const one = begun[at];
        if (one) waiting.current.push({ id: one.id, added: file, bytes: one.bytes });
      });
    } catch (error) {
      for (const { id } of begun) change(id, { problem: messageOf(error) });
      return;
    }
    for (let free = AT_ONCE - running.current; free > 0; free -= 1) void work();
  };

  return { uploads, start: (files) => void start(files), dismiss };
}
