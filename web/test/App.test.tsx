import { render, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, it, vi } from "vitest";
import { App } from "../src/App.tsx";

const fetched = vi.fn<typeof fetch>();

beforeEach(() => {
  fetched.mockReset();
  vi.stubGlobal("fetch", fetched);
});

function serve(routes: Record<string, (request: Request) => Response>): void {
  fetched.mockImplementation((url, init) => {
    const request = new Request(new URL(url as string, "https://page"), init);
    const { pathname } = new URL(request.url);
    return Promise.resolve(routes[`${request.method} ${pathname}`]?.(request) ?? new Response("{}", { status: 404 }));
  });
}

const file = (id: number, name: string, status = "available") => ({
  file_id: id,
  name,
  status,
  size_bytes: status === "available" ? 1_000_000 : null,
  created_at: "2026-11-25T00:00:00Z",
});

it("asks for a token, and again when the API refuses it", async () => {
  const user = userEvent.setup();
  const refuse = () => new Response(JSON.stringify({ detail: "Signature has expired" }), { status: 401 });
  serve({ "GET /v1/files": refuse, "GET /v1/jobs": refuse });
  render(<App initialToken={null} />);
  await user.type(screen.getByLabelText("Access token"), "Bearer abc{Enter}");
  expect(await screen.findByRole("alert")).toHaveTextContent("Your token is not valid, or no longer.");
  expect(sessionStorage.getItem("haulyard.token")).toBeNull();
  expect(new Request("https://page", fetched.mock.calls[0]?.[1]).headers.get("Authorization")).toBe("Bearer abc");
});

it("keeps the token in this tab until one signs out", async () => {
  const user = userEvent.setup();
  serve({
    "GET /v1/files": () => Response.json({ files: [], next_cursor: null }),
    "GET /v1/jobs": () => Response.json({ jobs: [], next_cursor: null }),
  });
  render(<App initialToken={null} />);
  await user.type(screen.getByLabelText("Access token"), "abc{Enter}");
  expect(await screen.findByText("No files yet")).toBeVisible();
  expect(screen.getByText("No downloads yet")).toBeVisible();
  expect(sessionStorage.getItem("haulyard.token")).toBe("abc");
  await user.click(screen.getByRole("button", { name: "Sign out" }));
  expect(sessionStorage.getItem("haulyard.token")).toBeNull();
});

it("searches, selects all that can be archived, and starts one job of them", async () => {
  const user = userEvent.setup();
  const bodies: unknown[] = [];
  const searches: (string | null)[] = [];
  serve({
    "GET /v1/files": (request) => {
      searches.push(new URL(request.url).searchParams.get("name"));
      return Response.json({
        files: [file(1, "a.txt"), file(2, "b.txt"), file(3, "c.txt", "pending")],
        next_cursor: null,
      });
    },
    "GET /v1/jobs": () => Response.json({ jobs: [], next_cursor: null }),
    "POST /v1/download/initiate": () => Response.json({ job_id: "job_1" }, { status: 202 }),
  });
  render(<App initialToken="abc" />);
  await user.type(await screen.findByRole("searchbox"), "txt");
  await waitFor(() => expect(searches.at(-1)).toBe("txt"));
  await user.click(screen.getByRole("checkbox", { name: /select all/i }));
  expect(screen.getByRole("checkbox", { name: /c\.txt/ })).toBeDisabled();
  expect(screen.getByText("2 files · 2.00 MB")).toBeVisible();
  await user.type(screen.getByLabelText("Name of the archive"), "quarter");
  await user.click(screen.getByRole("button", { name: "Download as ZIP" }));
  await waitFor(() => expect(screen.queryByText("2 files · 2.00 MB")).toBeNull());
  for (const [url, init] of fetched.mock.calls) {
    if (url === "/v1/download/initiate") bodies.push(JSON.parse(init?.body as string));
  }
  expect(bodies).toEqual([{ file_ids: [1, 2], filename: "quarter" }]);
  expect(screen.getByRole("heading", { name: "job_1" })).toBeVisible();
});

it("says what is wrong and lets one try again", async () => {
  const user = userEvent.setup();
  const no = () => Response.json({ detail: "The token does not grant this." }, { status: 403 });
  serve({ "GET /v1/files": no, "GET /v1/jobs": no });
  render(<App initialToken="abc" />);
  await waitFor(() => expect(screen.getAllByText("The token does not grant this.")).toHaveLength(2));
  serve({
    "GET /v1/files": () => Response.json({ files: [file(1, "a.txt")], next_cursor: null }),
    "GET /v1/jobs": no,
  });
  const [again] = screen.getAllByRole("button", { name: "Try again" });
  if (again) await user.click(again);
  expect(await screen.findByText("a.txt")).toBeVisible();
});

it("shows jobs that were started elsewhere", async () => {
  vi.useFakeTimers({ shouldAdvanceTime: true });
  const jobs: unknown[] = [];
  serve({
    "GET /v1/files": () => Response.json({ files: [], next_cursor: null }),
    "GET /v1/jobs": () => Response.json({ jobs, next_cursor: null }),
  });
  render(<App initialToken="abc" />);
  expect(await screen.findByText("No downloads yet")).toBeVisible();
  jobs.push({
    job_id: "job_7",
    status: "cancelled",
    filename: "elsewhere.zip",
    progress: { current: 0, total: 1, percentage: 0 },
    created_at: "2026-11-25T00:00:00Z",
  });
  await vi.advanceTimersByTimeAsync(10_000);
  expect(await screen.findByRole("heading", { name: "elsewhere.zip" })).toBeVisible();
  vi.useRealTimers();
});
