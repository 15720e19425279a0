import { DownloadJob } from "@haulyard/react";
import type { RefObject } from "react";
import type { Jobs } from "./useJobs.ts";

export function JobsPanel({ jobs, heading }: { jobs: Jobs; heading: RefObject<HTMLHeadingElement | null> }) {
  return (
    <section className="panel" aria-labelledby="jobs">
      <div className="panel-head">
        <h2 id="jobs" ref={heading}>
          Downloads
        </h2>
      </div>
      {jobs.problem !== null && (
        <div className="hy-problem trouble" role="alert">
          <span>{jobs.problem}</span>
          <button type="button" className="hy-button" onClick={jobs.reload}>
            Try again
          </button>
        </div>
      )}
      {jobs.listed === null && jobs.problem === null && <p className="empty">Loading…</p>}
      {jobs.listed?.length === 0 && jobs.problem === null && (
        <div className="empty">
          <p className="empty-title">No downloads yet</p>
          <p>Choose files and press “Download as ZIP”. You may close this page meanwhile: the job goes on.</p>
        </div>
      )}
      <ol className="jobs">
        {jobs.listed?.map(({ jobId, summary }) => (
          <li key={jobId}>
            <DownloadJob
              jobId={jobId}
              {...(summary === null ? {} : { known: summary })}
              onRetried={jobs.add}
              onRemoved={jobs.remove}
            />
          </li>
        ))}
      </ol>
      {jobs.hasMore && (
        <button type="button" className="hy-button" onClick={jobs.more}>
          Show older ones
        </button>
      )}
    </section>
  );
}
