/** What the API answers and what live updates say, as far as a page needs it. Times are ISO 8601, sizes bytes. */

export type JobState = "queued" | "processing" | "completed" | "failed" | "cancelled" | "expired";
export type FileState = "queued" | "processing" | "completed" | "failed";

/** Why a job or a file failed. */
export interface Failure {
  code: string;
  message: string;
}

export interface Progress {
  /** Files that are finished, whether archived or failed. */
  current: number;
  total: number;
  /** `current` of `total`. */
  percentage: number;
  bytes_current: number;
  /** 0 until the job is planned. */
  bytes_total: number;
}

export interface JobFile {
  file_id: number;
  status: FileState;
  size_bytes: number | null;
  /** The file's path inside the archive; null until the job is planned. */
  name: string | null;
  error: Failure | null;
}

/** `GET /v1/jobs/{job_id}/status`. */
export interface JobStatus {
  job_id: string;
  status: JobState;
  progress: Progress;
  files: JobFile[];
  created_at: string;
  updated_at: string;
  completed_at: string | null;
  error: Failure | null;
  filename: string;
  /** Size of the archive, when there is one. */
  size_bytes: number | null;
  /** When the archive is deleted. */
  expires_at: string | null;
  /** Grows with each change of the job. */
  sequence: number;
  /** A link to the archive, as a live update brought it. */
  download_url?: string | null;
}

/** A job in a list: without its files. */
export interface JobSummary extends Omit<JobStatus, "files" | "sequence"> {
  /** How many files could not be archived. */
  failed_files?: number;
}

/** Where to follow a job. Each URL holds a ticket for this job, good for an hour or so. */
export interface LiveLinks {
  websocket_url: string;
  events_url: string;
}

/** The answer to `POST /v1/download/initiate`. */
export interface AcceptedJob extends LiveLinks {
  job_id: string;
  status: JobState;
  created_at: string;
  total_files: number;
  status_url: string;
}

/** `GET /v1/jobs/{job_id}/download`. */
export interface ArchiveLink {
  job_id: string;
  download_url: string;
  expires_at: string;
  size_bytes: number | null;
  filename: string;
}

/** A file of the catalogue. */
export interface CatalogueFile {
  file_id: number;
  name: string;
  status: "available" | "pending";
  size_bytes: number | null;
  created_at: string;
  upload?: { method: "PUT"; url: string; expires_at: string } | null;
}

/** Part of a list; ask with `next_cursor` for what follows. */
export interface Page<T> {
  items: T[];
  next_cursor: string | null;
}

interface LiveMessage {
  job_id: string;
  timestamp: string;
  /** Of two messages about a job the one with the higher sequence is newer. */
  sequence: number;
}

/** What the notifier sends, over WebSocket and as server-sent events alike. */
export type JobMessage =
  | (LiveMessage & { type: "status_update"; status: JobState; progress: Progress })
  | (LiveMessage & {
      type: "completed";
      download_url: string;
      filename?: string;
      size_bytes?: number | null;
      failed_files?: number[];
    })
  | (LiveMessage & { type: "error"; error: Failure });

export function isOver(state: JobState): boolean {
  return state !== "queued" && state !== "processing";
}
