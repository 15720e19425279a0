import { describe, expect, it } from "vitest";
import { backoffDelay, retryAfter } from "../src/backoff.ts";
import { describeProgress, fractionDone } from "../src/describe.ts";
import { counted, formatBytes, formatMoment, formatSeconds } from "../src/format.ts";
import { addSample, bytesPerSecond, secondsLeft, type Sample } from "../src/speed.ts";
import { jobStatus, progress } from "./fakes.ts";

describe("backoffDelay", () => {
  it("doubles up to the cap, with at most half of it random", () => {
    expect([0, 1, 2, 3, 4, 50].map((attempt) => backoffDelay(attempt, 1))).toEqual([
      1000, 2000, 4000, 8000, 10_000, 10_000,
    ]);
    expect([0, 1, 2].map((attempt) => backoffDelay(attempt, 0))).toEqual([500, 1000, 2000]);
  });
});

describe("retryAfter", () => {
  it.each([
    ["3", 3000],
    ["0", 0],
    ["Wed, 21 Oct 2026 07:28:05 GMT", 5000],
    ["Wed, 21 Oct 2026 07:27:00 GMT", 0],
    ["-1", null],
    ["soon", null],
    ["", null],
    [null, null],
  ])("reads %s as %s", (header, milliseconds) => {
    expect(retryAfter(header, Date.parse("2026-10-21T07:28:00Z"))).toBe(milliseconds);
  });
});

describe("formatBytes", () => {
  it.each([
    [0, "0 B"],
    [999, "999 B"],
    [1000, "1.00 kB"],
    [999_499, "999 kB"],
    [999_500, "1.00 MB"],
    [1_048_576, "1.05 MB"],
    [316_700_000, "317 MB"],
    [15e9, "15.0 GB"],
    [2e18, "2000 PB"],
    [-5, "0 B"],
  ])("shows %d as %s", (bytes, text) => expect(formatBytes(bytes)).toBe(text));
});

describe("formatSeconds", () => {
  it.each([
    [0.2, "less than a second"],
    [42.4, "42 s"],
    [59.9, "60 s"],
    [60, "1 min"],
    [3599, "1 h"],
    [3900, "1 h 5 min"],
  ])("shows %d as %s", (seconds, text) => expect(formatSeconds(seconds)).toBe(text));
});

it("counts in English", () => {
  expect([counted(0, "file"), counted(1, "file"), counted(2, "file")]).toEqual(["0 files", "1 file", "2 files"]);
});

describe("speed", () => {
  const steady: Sample[] = [0, 1, 2, 3].map((second) => ({ at: second * 1000, bytes: second * 50 }));

  it("is told from how the count grew", () => {
    expect(bytesPerSecond(steady)).toBe(50);
    expect(secondsLeft(steady, 250)).toBe(2);
  });

  it("is not known from too little", () => {
    expect(bytesPerSecond([])).toBeNull();
    expect(bytesPerSecond(steady.slice(0, 1))).toBeNull();
    expect(
      bytesPerSecond([
        { at: 0, bytes: 0 },
        { at: 100, bytes: 50 },
      ]),
    ).toBeNull();
    expect(
      bytesPerSecond([
        { at: 0, bytes: 5 },
        { at: 9000, bytes: 5 },
      ]),
    ).toBeNull();
    expect(secondsLeft(steady, 0)).toBeNull();
  });

  it("forgets the distant past, and everything when the archive is planned anew", () => {
    expect(addSample(steady, { at: 17_500, bytes: 200 })).toEqual([steady[3], { at: 17_500, bytes: 200 }]);
    expect(addSample(steady, { at: 4000, bytes: 20 })).toEqual([{ at: 4000, bytes: 20 }]);
  });
});

describe("a job in words", () => {
  it("is measured by bytes as soon as it is planned", () => {
    expect(fractionDone(jobStatus({ status: "queued", progress: progress(0, 0) }))).toBeNull();
    expect(fractionDone(jobStatus({ progress: progress(25, 100) }))).toBe(0.25);
    expect(fractionDone(jobStatus({ status: "completed", progress: progress(0, 0) }))).toBe(1);
  });

  it("tells bytes, speed and time left while it runs", () => {
    const job = jobStatus({ progress: progress(25e6, 100e6) });
    expect(describeProgress(job, null, null)).toBe("25.0 MB of 100 MB");
    expect(describeProgress(job, 5e6, 15)).toBe("25.0 MB of 100 MB · 5.00 MB/s · 15 s left");
  });

  it("names what is missing when it is ready, and why when it failed", () => {
    const error = { code: "FILE_NOT_FOUND", message: "File 2 not found" };
    const job = jobStatus({ status: "completed", size_bytes: 2e6 });
    const [first, second] = job.files;
    if (!first || !second) throw new Error("two files are expected");
    expect(describeProgress({ ...job, files: [first, { ...second, status: "failed", error }] }, null, null)).toBe(
      "1 file · 2.00 MB · 1 could not be packed",
    );
    expect(describeProgress(jobStatus({ status: "failed", error }), null, null)).toBe("File 2 not found");
  });
});

describe("formatMoment", () => {
  const now = new Date(2026, 10, 25, 15, 0).getTime();
  it("shows the time of today, and the day of other days", () => {
    const today = formatMoment(new Date(2026, 10, 25, 9, 5).toISOString(), now);
    const yesterday = formatMoment(new Date(2026, 10, 24, 9, 5).toISOString(), now);
    expect(today).toMatch(/0?9:05/);
    expect(yesterday).toMatch(/24/);
  });
});
