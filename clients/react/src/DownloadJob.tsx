import { useId, useState, type ReactNode } from "react";
import { useHaulyard } from "./context.tsx";
import {
  describeProgress,
  failedFiles,
  FILE_STATE_NAMES,
  fileName,
  fractionDone,
  STATE_NAMES,
  type ShownJob,
} from "./describe.ts";
import type { Connection } from "./follow.ts";
import { counted, formatBytes, formatMoment } from "./format.ts";
import { ProgressBar } from "./ProgressBar.tsx";
import { isOver, type JobFile, type JobSummary } from "./types.ts";
import { useDownloadJob, type UseDownloadJobOptions } from "./useDownloadJob.ts";

export interface DownloadJobProps extends Pick<UseDownloadJobOptions, "useWebSocket" | "pollInterval"> {
  jobId: string;
  /** What a list said of the job. One that is over is then not asked for again, until its files are to be seen. */
  known?: JobSummary;
  /** The files that failed are done again, by this job. */
  onRetried?: (jobId: string) => void;
  /** The job was deleted. */
  onRemoved?: (jobId: string) => void;
}

const CONNECTION_NAMES: Partial<Record<Connection, string>> = {
  websocket: "live",
  sse: "live",
  polling: "checking regularly",
  offline: "reconnecting…",
};

/** One job: its bar, its files, and what can be done with it. */
export function DownloadJob({ jobId, known, onRetried, onRemoved, ...following }: DownloadJobProps) {
  const [isFollowed, setFollowed] = useState(known === undefined || !isOver(known.status));
  const followed = useDownloadJob({ jobId: isFollowed ? jobId : null, ...following });
  const { error, connection, speed, secondsLeft } = followed;
  const job = followed.status ?? (known === undefined ? null : { ...known, files: null });
  const { run, busy, problem } = useAction();
  const heading = useId();

  const name = job?.filename ?? jobId;
  const failed = job === null ? 0 : failedFiles(job);
  const line = job === null ? (error === null ? "Asking…" : "") : describeProgress(job, speed, secondsLeft);
  const message = problem ?? (job?.status === "failed" ? null : (error?.message ?? null));

  return (
    <article className="hy-job" aria-labelledby={heading} data-state={job?.status} data-connection={connection}>
      <header className="hy-job-head">
        <h3 className="hy-job-name" id={heading}>
          {name}
        </h3>
        {job !== null && <JobBadge job={job} connection={connection} />}
      </header>
      <Bar job={job} name={name} line={line} />
      <p className="hy-job-line">
        <span>{line}</span>
        {job !== null && <Times job={job} />}
      </p>
      {message !== null && (
        <p className="hy-problem" role="alert">
          {message}
        </p>
      )}
      <Actions {...{ jobId, job, name, failed, onRetried, onRemoved, run, busy }} isLost={error !== null} />
      {job !== null && (
        <Files files={job.files} total={job.progress.total} failed={failed} onOpen={() => setFollowed(true)} />
      )}
      <p className="hy-hidden" role="status">
        {job !== null && isOver(job.status) ? `${name}: ${STATE_NAMES[job.status]}` : ""}
      </p>
    </article>
  );
}

interface ActionsProps {
  jobId: string;
  job: ShownJob | null;
  name: string;
  failed: number;
  /** The job cannot be followed. */
  isLost: boolean;
  onRetried: ((jobId: string) => void) | undefined;
  onRemoved: ((jobId: string) => void) | undefined;
  run: (action: () => Promise<void>) => void;
  busy: boolean;
}

function Actions({ jobId, job, name, failed, isLost, onRetried, onRemoved, run, busy }: ActionsProps) {
  const client = useHaulyard();
  const download = async () => followLink(await client.archiveLink(jobId));
  const retry = async () => onRetried?.((await client.retry(jobId)).job_id);
  const remove = async () => {
    if (job !== null) await client.remove(jobId);
    onRemoved?.(jobId);
  };
  const state = job?.status;
  const isEnded = state !== undefined && isOver(state);
  const canRetry = state === "failed" || state === "cancelled" || (isEnded && failed > 0);
  const common = { name, busy };
  return (
    <div className="hy-actions">
      {state === "completed" && (
        <Action {...common} primary onClick={() => run(download)}>
          Download
        </Action>
      )}
      {canRetry && (
        <Action {...common} onClick={() => run(retry)}>
          Retry
        </Action>
      )}
      {state !== undefined && !isEnded && (
        <Action {...common} onClick={() => run(() => client.cancel(jobId))}>
          Cancel
        </Action>
      )}
      {onRemoved !== undefined && (isEnded || (job === null && isLost)) && (
        <Action {...common} onClick={() => run(remove)}>
          {job === null ? "Dismiss" : "Delete"}
        </Action>
      )}
    </div>
  );
}

function Bar({ job, name, line }: { job: ShownJob | null; name: string; line: string }) {
  if (job?.status === "cancelled" || job?.status === "expired") return null;
  const tone = job?.status === "completed" ? "done" : job?.status === "failed" ? "failed" : "working";
  return (
    <ProgressBar
      value={job === null ? null : fractionDone(job)}
      label={`Progress of ${name}`}
      text={line}
      tone={tone}
    />
  );
}

function JobBadge({ job, connection }: { job: ShownJob; connection: Connection }) {
  const how = isOver(job.status) ? undefined : CONNECTION_NAMES[connection];
  return (
    <span className={`hy-badge hy-badge-${job.status}`}>
      {STATE_NAMES[job.status]}
      {how !== undefined && <span className="hy-badge-how"> · {how}</span>}
    </span>
  );
}

function Times({ job }: { job: ShownJob }) {
  const [now] = useState(Date.now);
  return (
    <span>
      <time dateTime={job.created_at} title={new Date(job.created_at).toLocaleString()}>
        {formatMoment(job.created_at, now)}
      </time>
      {job.status === "completed" && job.expires_at !== null && (
        <>
          {", kept until "}
          <time dateTime={job.expires_at}>{formatMoment(job.expires_at, now)}</time>
        </>
      )}
    </span>
  );
}

interface FilesProps {
  /** Null: not asked for yet. */
  files: readonly JobFile[] | null;
  total: number;
  failed: number;
  onOpen: () => void;
}

function Files({ files, total, failed, onOpen }: FilesProps) {
  const done = files?.filter((file) => file.status === "completed").length;
  return (
    <details className="hy-files" onToggle={(event) => event.currentTarget.open && onOpen()}>
      <summary>
        {counted(total, "file")}
        {done !== undefined && `: ${done} done`}
        {failed > 0 && `, ${failed} failed`}
      </summary>
      <ul className="hy-file-list" tabIndex={0} aria-label="Files of the job">
        {files?.map((file) => (
          <li key={file.file_id} className={`hy-file hy-file-${file.status}`}>
            <span className="hy-file-name">{fileName(file)}</span>
            <span className="hy-file-size">{file.size_bytes === null ? "" : formatBytes(file.size_bytes)}</span>
            <span className="hy-file-state">{FILE_STATE_NAMES[file.status]}</span>
            {file.error !== null && <span className="hy-file-error">{file.error.message}</span>}
          </li>
        ))}
      </ul>
    </details>
  );
}

interface ActionProps {
  primary?: boolean;
  /** The job's name: ten buttons "Download" would all sound the same. */
  name: string;
  busy: boolean;
  onClick: () => void;
  children: ReactNode;
}

function Action({ primary = false, name, busy, onClick, children }: ActionProps) {
  // Not `disabled`: that would throw keyboard users back to the top of the page.
  return (
    <button
      type="button"
      className={primary ? "hy-button hy-button-primary" : "hy-button"}
      aria-disabled={busy}
      onClick={busy ? undefined : onClick}
    >
      {children} <span className="hy-hidden">{name}</span>
    </button>
  );
}

/** Run one action at a time and keep what went wrong. */
function useAction() {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const run = (action: () => Promise<void>) => {
    setBusy(true);
    setProblem(null);
    action()
      .catch((error: unknown) => setProblem(error instanceof Error ? error.message : String(error)))
      .finally(() => setBusy(false));
  };
  return { run, busy, problem };
}

/** Let the browser download: the store's answer says that it is an attachment, so the page stays. */
function followLink({ download_url: url }: { download_url: string }): void {
  const link = document.createElement("a");
  link.href = url;
  link.rel = "noreferrer";
  link.click();
}
