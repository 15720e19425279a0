import type { JobSummary, Page } from "@haulyard/react";

/** A job of the list; without a summary nothing but its id is known yet. */
export interface ListedJob {
  jobId: string;
  summary: JobSummary | null;
}

/** What is known of the server's list: its first so many jobs, and where it goes on. */
export interface Known {
  jobs: readonly JobSummary[] | null;
  cursor: string | null;
}

/** Return what is known after the first page was read again. Older jobs than those of the page stay as they were. */
export function withNewest(known: Known, page: Page<JobSummary>): Known {
  const last = page.items.at(-1);
  if (last === undefined || page.next_cursor === null) return { jobs: page.items, cursor: null };
  const listed = new Set(page.items.map((job) => job.job_id));
  const place = known.jobs?.findIndex((job) => job.job_id === last.job_id) ?? -1;
  const older = place < 0 ? [] : (known.jobs ?? []).slice(place + 1).filter((job) => !listed.has(job.job_id));
  return { jobs: [...page.items, ...older], cursor: older.length > 0 ? known.cursor : page.next_cursor };
}

/** Return what is known after the page that follows was read. */
export function withNext(known: Known, page: Page<JobSummary>): Known {
  return { jobs: [...(known.jobs ?? []), ...page.items], cursor: page.next_cursor };
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
