import type { JobSummary } from "@haulyard/react";
import { expect, it } from "vitest";
import { withNewest, withNext, withPage } from "../src/jobList.ts";

const job = (id: string) => ({ job_id: id }) as JobSummary;

it("lists each job once, the newest first, whether the server knows it already or not", () => {
  const listed = withPage([job("job_3"), job("job_1")], ["job_4", "job_3"], []);
  expect(listed.map(({ jobId, summary }) => [jobId, summary !== null])).toEqual([
    ["job_4", false],
    ["job_3", true],
    ["job_1", true],
  ]);
});

it("leaves out what was deleted here, though a list from before may still have it", () => {
  expect(withPage([job("job_2"), job("job_1")], [], ["job_2"])).toEqual([{ jobId: "job_1", summary: job("job_1") }]);
});

it("keeps what was paged to when the first page is read again", () => {
  const first = withNewest({ jobs: null, cursor: null }, { items: [job("job_4"), job("job_3")], next_cursor: "3" });
  const both = withNext(first, { items: [job("job_2"), job("job_1")], next_cursor: "1" });
  const again = withNewest(both, { items: [job("job_5"), job("job_4")], next_cursor: "4" });
  expect(again.jobs?.map(({ job_id }) => job_id)).toEqual(["job_5", "job_4", "job_3", "job_2", "job_1"]);
  expect(again.cursor).toBe("1");
});

it("starts anew when there is a gap, or when there is no more than one page", () => {
  const known = { jobs: [job("job_2"), job("job_1")], cursor: "1" };
  const gap = { items: [job("job_9"), job("job_8")], next_cursor: "8" };
  expect(withNewest(known, gap)).toEqual({ jobs: gap.items, cursor: "8" });
  expect(withNewest(known, { items: [job("job_1")], next_cursor: null })).toEqual({
    jobs: [job("job_1")],
    cursor: null,
  });
});
