/** One picture of a job out of polled states and live messages, which arrive in any order and more than once. Pure. */

import { isOver, type JobMessage, type JobStatus } from "./types.ts";

/** Take in a polled state. An older one only adds what live messages do not have: the files. */
export function withPolled(known: JobStatus | null, polled: JobStatus): JobStatus {
  if (known === null) return polled;
  if (polled.sequence < known.sequence) return { ...known, files: polled.files };
  return { ...polled, download_url: known.download_url ?? null };
}

/** Take in a live message; return `known` itself when it is no news. */
export function withMessage(known: JobStatus, message: JobMessage): JobStatus {
  if (message.sequence <= known.sequence || isSettled(known, message)) return known;
  const base = { ...known, updated_at: message.timestamp, sequence: message.sequence };
  switch (message.type) {
    case "status_update":
      return {
        ...base,
        status: message.status,
        progress: message.progress,
        completed_at: isOver(message.status) ? message.timestamp : known.completed_at,
      };
    case "completed":
      return {
        ...base,
        status: "completed",
        progress: {
          ...known.progress,
          current: known.progress.total,
          percentage: 100,
          bytes_current: known.progress.bytes_total,
        },
        completed_at: message.timestamp,
        filename: message.filename ?? known.filename,
        size_bytes: message.size_bytes ?? known.size_bytes,
        download_url: message.download_url,
      };
    case "error":
      return { ...base, status: "failed", error: message.error, completed_at: message.timestamp };
    default:
      return known; // a kind of message that a later version of the server has
  }
}

/** A job that is over can only expire. */
function isSettled(known: JobStatus, message: JobMessage): boolean {
  return isOver(known.status) && !(message.type === "status_update" && message.status === "expired");
}

/** Read a message as it came over the wire; null for what is none. */
export function parseMessage(text: unknown): JobMessage | null {
  if (typeof text !== "string") return null;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof value !== "object" || value === null) return null;
  const { type, sequence, job_id: jobId } = value as Record<string, unknown>;
  return typeof type === "string" && typeof sequence === "number" && typeof jobId === "string"
    ? (value as JobMessage)
    : null;
}
