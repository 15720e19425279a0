import type { JobSummary } from "@haulyard/react";

/** A job of the list; without a summary nothing but its id is known yet. */
export interface ListedJob {
  jobId: string;
  summary: JobSummary | null;
}

/** Return the jobs that the server lists and those that were started here, newest first, without the deleted ones. */
export function withPage(
  jobs: readonly JobSummary[],
  started: readonly string[],
  removed: readonly string[],
): ListedJob[] {
  const byId = new Map<string, JobSummary | null>(started.map((jobId) => [jobId, null]));
  for (const job of jobs) byId.set(job.job_id, job);
  for (const jobId of removed) byId.delete(jobId);
  // A job's id is a ULID: it begins with the time.
  return [...byId].sort(([a], [b]) => (a < b ? 1 : -1)).map(([jobId, summary]) => ({ jobId, summary }));
}
