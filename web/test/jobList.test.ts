import type { JobSummary } from "@haulyard/react";
import { expect, it } from "vitest";
import { withPage } from "../src/jobList.ts";

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
