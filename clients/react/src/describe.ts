/** A job's state in words. Pure. */

import { counted, formatBytes, formatSeconds } from "./format.ts";
import type { FileState, JobFile, JobState, JobSummary } from "./types.ts";

export const STATE_NAMES: Record<JobState, string> = {
  queued: "Waiting",
  processing: "Packing",
  completed: "Ready",
  failed: "Failed",
  cancelled: "Cancelled",
  expired: "Expired",
};

export const FILE_STATE_NAMES: Record<FileState, string> = {
  queued: "waiting",
  processing: "packing",
  completed: "done",
  failed: "failed",
};

/** How much is done, from 0 to 1: by bytes, because files differ in size; null until the job is planned. */
export function fractionDone({ status, progress }: Pick<JobSummary, "status" | "progress">): number | null {
  if (status === "completed" || status === "expired") return 1;
  if (progress.bytes_total > 0) return progress.bytes_current / progress.bytes_total;
  if (status === "queued") return null;
  return progress.total > 0 ? progress.current / progress.total : 0;
}

/** A job as it is shown: all of it, or what a list says, without its files. */
export type ShownJob = JobSummary & { files: readonly JobFile[] | null };

/** How many files could not be archived, as far as that is known. */
export function failedFiles(job: ShownJob): number {
  return job.files?.filter((file) => file.status === "failed").length ?? job.failed_files ?? 0;
}

/** One line about where a job is. */
export function describeProgress(job: ShownJob, speed: number | null, secondsLeft: number | null): string {
  const { progress } = job;
  switch (job.status) {
    case "queued":
      return `${counted(progress.total, "file")}, waiting for a free slot`;
    case "processing": {
      if (progress.bytes_total === 0) return `${progress.current} of ${counted(progress.total, "file")}`;
      const parts = [`${formatBytes(progress.bytes_current)} of ${formatBytes(progress.bytes_total)}`];
      if (speed !== null) parts.push(`${formatBytes(speed)}/s`);
      if (secondsLeft !== null) parts.push(`${formatSeconds(secondsLeft)} left`);
      return parts.join(" · ");
    }
    case "completed": {
      const failed = failedFiles(job);
      const size = job.size_bytes === null ? "" : ` · ${formatBytes(job.size_bytes)}`;
      const missing = failed > 0 ? ` · ${failed} could not be packed` : "";
      return `${counted(progress.total - failed, "file")}${size}${missing}`;
    }
    case "failed":
      return job.error?.message ?? "The job failed.";
    case "cancelled":
      return "Stopped; nothing was kept.";
    case "expired":
      return "The archive was deleted after its time.";
  }
}

/** What a file is called: by its path in the archive, or by its id until that is known. */
export function fileName(file: Pick<JobFile, "file_id" | "name">): string {
  return file.name ?? `File ${file.file_id}`;
}
