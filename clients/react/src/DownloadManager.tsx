import { useId, useState } from "react";
import { useHaulyard } from "./context.tsx";
import { DownloadJob, type DownloadJobProps } from "./DownloadJob.tsx";
import { counted } from "./format.ts";

export interface DownloadManagerProps extends Pick<DownloadJobProps, "useWebSocket" | "pollInterval"> {
  /** What to put into the archive. */
  fileIds: readonly number[];
  /** What the archive is called. */
  filename?: string;
  /** A job that was started before, to go on with. */
  initialJobId?: string | null;
  /** A job was started: keep its id to go on with it after a reload. */
  onJob?: (jobId: string) => void;
  title?: string;
}

/** A button that makes one archive of some files, and then how that goes. */
export function DownloadManager({
  fileIds,
  filename,
  initialJobId = null,
  onJob,
  title = "Download files",
  ...following
}: DownloadManagerProps) {
  const client = useHaulyard();
  const [jobId, setJobId] = useState<string | null>(initialJobId);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const heading = useId();

  const take = (started: string) => {
    setJobId(started);
    onJob?.(started);
  };
  const start = async () => {
    setBusy(true);
    setProblem(null);
    try {
      const job = await client.initiate({ fileIds, ...(filename === undefined ? {} : { filename }) });
      take(job.job_id);
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error));
    } finally {
      setBusy(false);
    }
  };

  return (
    <section className="hy-manager" aria-labelledby={heading}>
      <h2 id={heading}>{title}</h2>
      {jobId === null ? (
        <button
          type="button"
          className="hy-button hy-button-primary"
          aria-disabled={busy || fileIds.length === 0}
          onClick={() => {
            if (!busy && fileIds.length > 0) void start();
          }}
        >
          {busy ? "Starting…" : `Download ${counted(fileIds.length, "file")} as ZIP`}
        </button>
      ) : (
        <DownloadJob jobId={jobId} onRetried={take} onRemoved={() => setJobId(null)} {...following} />
      )}
      {problem !== null && (
        <p className="hy-problem" role="alert">
          {problem}
        </p>
      )}
    </section>
  );
}
