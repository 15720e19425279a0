import { useEffect, useState } from "react";
import { useHaulyard } from "./context.tsx";
import type { HaulyardClient } from "./client.ts";
import { followJob, type Connection } from "./follow.ts";
import { addSample, bytesPerSecond, secondsLeft, type Sample } from "./speed.ts";
import type { JobStatus } from "./types.ts";

export interface UseDownloadJobOptions {
  /** The job to follow; null for none. */
  jobId: string | null;
  /** False: begin with server-sent events. */
  useWebSocket?: boolean;
  /** Milliseconds between two polls while there is no live connection. */
  pollInterval?: number;
  /** Instead of the provider's. */
  client?: HaulyardClient;
}

export interface DownloadJob {
  /** What is known of the job; null until the first answer. */
  status: JobStatus | null;
  /** Why the job cannot be followed, or why it failed. */
  error: Error | null;
  /** How news arrive at the moment. */
  connection: Connection;
  /** Bytes of the sources per second; null when that cannot be said yet. */
  speed: number | null;
  /** Seconds until the archive is ready, about; null when that cannot be said. */
  secondsLeft: number | null;
}

interface Snapshot {
  jobId: string | null;
  status: JobStatus | null;
  error: Error | null;
  connection: Connection;
  samples: readonly Sample[];
}

function nothingKnown(jobId: string | null): Snapshot {
  return { jobId, status: null, error: null, connection: jobId === null ? "closed" : "connecting", samples: [] };
}

/** Follow a job to its end, however news can get here. One connection for each use; it ends with the component. */
export function useDownloadJob({
  jobId,
  useWebSocket = true,
  pollInterval = 2000,
  client: given,
}: UseDownloadJobOptions): DownloadJob {
  const provided = useHaulyard();
  const client = given ?? provided;
  const [snapshot, setSnapshot] = useState<Snapshot>(() => nothingKnown(jobId));

  useEffect(() => {
    if (jobId === null) return;
    const update = (change: (known: Snapshot) => Partial<Snapshot>) =>
      setSnapshot((old) => {
        const known = old.jobId === jobId ? old : nothingKnown(jobId);
        return { ...known, ...change(known) };
      });
    return followJob(client, jobId, {
      useWebSocket,
      pollInterval,
      onStatus: (status) => {
        const sample = { at: Date.now(), bytes: status.progress.bytes_current };
        update(({ samples }) => ({
          status,
          error: status.error === null ? null : new Error(status.error.message),
          samples: status.status === "processing" ? addSample(samples, sample) : samples,
        }));
      },
      onConnection: (connection) => update(() => ({ connection })),
      onError: (error) => update(() => ({ error })),
    });
  }, [client, jobId, useWebSocket, pollInterval]);

  // Between a new id and its first news, nothing of the job before may show.
  const { status, error, connection, samples } = snapshot.jobId === jobId ? snapshot : nothingKnown(jobId);
  const isMoving = status?.status === "processing";
  return {
    status,
    error,
    connection,
    speed: isMoving ? bytesPerSecond(samples) : null,
    secondsLeft: isMoving ? secondsLeft(samples, status.progress.bytes_total) : null,
  };
}
