import { describe, expect, it } from "vitest";
import { parseMessage, withMessage, withPolled } from "../src/merge.ts";
import type { JobMessage, JobStatus } from "../src/types.ts";
import { completed, JOB, jobStatus, update } from "./fakes.ts";

/** Every order of the items, each taken any number of times up to twice. */
function orders<T>(items: readonly T[]): T[][] {
  if (items.length === 0) return [[]];
  return items.flatMap((item, at) =>
    orders([...items.slice(0, at), ...items.slice(at + 1)]).map((rest) => [item, ...rest, item]),
  );
}

describe("withMessage", () => {
  it("ends the same whatever the order, and however often a message comes", () => {
    const messages: JobMessage[] = [update(2), update(3), update(4), completed(5)];
    for (const order of orders(messages)) {
      const end = order.reduce(withMessage, jobStatus());
      expect(end).toMatchObject({
        status: "completed",
        sequence: 5,
        size_bytes: 120,
        download_url: "https://store/archive",
      });
    }
  });

  it("never goes back", () => {
    let known = jobStatus();
    let highest = 0;
    for (const sequence of [3, 2, 7, 7, 1, 9, 4]) {
      known = withMessage(known, update(sequence));
      highest = Math.max(highest, sequence);
      expect(known.progress.bytes_current).toBe(highest * 10);
    }
  });

  it("returns what it was given when there is no news", () => {
    const known = jobStatus({ sequence: 5 });
    expect(withMessage(known, update(5))).toBe(known);
    const over = jobStatus({ sequence: 5, status: "failed" });
    expect(withMessage(over, update(6))).toBe(over);
    expect(withMessage(known, { ...update(6), type: "from the future" } as unknown as JobMessage)).toBe(known);
  });

  it("tells why a job failed, and that an archive expired", () => {
    const error = { code: "PROCESSING_FAILED", message: "File 70001 not found" };
    const failed = withMessage(jobStatus(), { type: "error", job_id: JOB, error, timestamp: "", sequence: 2 });
    expect(failed).toMatchObject({ status: "failed", error });
    const expired = withMessage(jobStatus({ status: "completed" }), { ...update(9), status: "expired" } as JobMessage);
    expect(expired.status).toBe("expired");
  });
});

describe("withPolled", () => {
  const files: JobStatus["files"] = [{ file_id: 1, status: "completed", size_bytes: 50, name: "a", error: null }];

  it("takes a newer state whole, and keeps the link that only live messages bring", () => {
    const known = withMessage(jobStatus(), completed(5));
    const polled = jobStatus({ sequence: 5, status: "completed", files, expires_at: "2026-12-02T00:00:00Z" });
    expect(withPolled(known, polled)).toEqual({ ...polled, download_url: "https://store/archive" });
  });

  it("takes only the files of an older one", () => {
    const known = withMessage(jobStatus(), update(5));
    expect(withPolled(known, jobStatus({ sequence: 3, files }))).toEqual({ ...known, files });
  });
});

describe("parseMessage", () => {
  it.each(["", "{", "null", "3", "{}", '{"type":"status_update","sequence":"1","job_id":"x"}', new ArrayBuffer(1)])(
    "takes %s for nothing",
    (text) => expect(parseMessage(text)).toBeNull(),
  );
  it("reads what the server sends", () => expect(parseMessage(JSON.stringify(update(3)))).toEqual(update(3)));
});
