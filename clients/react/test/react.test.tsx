import { act, render, renderHook, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import axe from "axe-core";
import { StrictMode, type ReactNode } from "react";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { DownloadJob, DownloadManager, HaulyardProvider, useDownloadJob } from "../src/index.ts";
import { completed, FakeServer, JOB, jobStatus, progress, update } from "./fakes.ts";

let server: FakeServer;

beforeEach(() => {
  server = new FakeServer();
});

function Wrapper({ children }: { children: ReactNode }) {
  return (
    <StrictMode>
      <HaulyardProvider client={server.client}>{children}</HaulyardProvider>
    </StrictMode>
  );
}

const connected = () => waitFor(() => expect(server.open).toHaveLength(1));

describe("useDownloadJob", () => {
  it("follows a job with one connection, in StrictMode too, and ends it with the component", async () => {
    const { result, unmount } = renderHook(() => useDownloadJob({ jobId: JOB }), { wrapper: Wrapper });
    expect(result.current).toMatchObject({ status: null, error: null, connection: "connecting" });
    await connected();
    act(() => server.tell(update(2)));
    expect(result.current).toMatchObject({ connection: "websocket", status: { sequence: 2 } });
    expect(server.peers).toHaveLength(1);
    unmount();
    expect(server.open).toEqual([]);
  });

  it("shows nothing of the job before when it is given another one", async () => {
    const initialProps: { jobId: string | null } = { jobId: JOB };
    const { result, rerender } = renderHook(({ jobId }) => useDownloadJob({ jobId }), {
      wrapper: Wrapper,
      initialProps,
    });
    await connected();
    rerender({ jobId: "job_other" });
    expect(result.current.status).toBeNull();
    await connected();
    rerender({ jobId: null });
    expect(result.current).toMatchObject({ status: null, connection: "closed" });
    expect(server.open).toEqual([]);
  });

  it("tells why a job failed", async () => {
    const { result } = renderHook(() => useDownloadJob({ jobId: JOB }), { wrapper: Wrapper });
    await connected();
    const error = { code: "PROCESSING_FAILED", message: "File 70001 not found" };
    act(() => server.last.say({ type: "error", job_id: JOB, error, timestamp: "", sequence: 5 }));
    expect(result.current.error?.message).toBe("File 70001 not found");
    expect(result.current.status?.status).toBe("failed");
  });
});

describe("DownloadJob", () => {
  it("has a bar that screen readers understand, and says when the job is over", async () => {
    render(<DownloadJob jobId={JOB} />, { wrapper: Wrapper });
    await connected();
    act(() =>
      server.tell({ ...update(2), type: "status_update", status: "processing", progress: progress(25e6, 100e6) }),
    );
    const bar = screen.getByRole("progressbar", { name: "Progress of quarter.zip" });
    expect(bar).toHaveAttribute("aria-valuenow", "25");
    expect(bar).toHaveAttribute("aria-valuetext", "25.0 MB of 100 MB");
    act(() => server.tell(completed(3)));
    expect(bar).toHaveAttribute("aria-valuenow", "100");
    expect(screen.getByRole("status")).toHaveTextContent("quarter.zip: Ready");
  });

  it("offers what can be done, by keyboard as well", async () => {
    const user = userEvent.setup();
    vi.mocked(server.client.cancel).mockResolvedValue();
    render(<DownloadJob jobId={JOB} />, { wrapper: Wrapper });
    await connected();
    expect(screen.queryByRole("button", { name: /download/i })).toBeNull();
    await user.tab();
    expect(screen.getByRole("button", { name: "Cancel quarter.zip" })).toHaveFocus();
    await user.keyboard("{Enter}");
    expect(server.client.cancel).toHaveBeenCalledWith(JOB);
    act(() => server.tell({ ...update(3), type: "status_update", status: "cancelled", progress: progress(0, 100) }));
    expect(screen.queryByRole("progressbar")).toBeNull();
    expect(screen.getByRole("button", { name: "Retry quarter.zip" })).toBeVisible();
  });

  it("asks for a fresh link for each download", async () => {
    const user = userEvent.setup();
    const clicked = vi.spyOn(HTMLAnchorElement.prototype, "click").mockImplementation(() => {});
    server.job = jobStatus({ status: "completed" });
    vi.mocked(server.client.archiveLink).mockResolvedValue({
      job_id: JOB,
      download_url: "https://store/fresh",
      expires_at: "",
      size_bytes: 1,
      filename: "quarter.zip",
    });
    render(<DownloadJob jobId={JOB} />, { wrapper: Wrapper });
    await user.click(await screen.findByRole("button", { name: "Download quarter.zip" }));
    await waitFor(() =>
      expect(clicked.mock.contexts.map((link) => (link as HTMLAnchorElement).href)).toEqual(["https://store/fresh"]),
    );
  });

  it("says what went wrong with an action, and lets one try again", async () => {
    const user = userEvent.setup();
    vi.mocked(server.client.cancel).mockRejectedValue(new Error("The server cannot be reached."));
    render(<DownloadJob jobId={JOB} />, { wrapper: Wrapper });
    await user.click(await screen.findByRole("button", { name: /cancel/i }));
    expect(await screen.findByRole("alert")).toHaveTextContent("The server cannot be reached.");
    expect(screen.getByRole("button", { name: /cancel/i })).toHaveAttribute("aria-disabled", "false");
  });

  it("asks nothing about a finished job of a list until its files are to be seen", async () => {
    const user = userEvent.setup();
    server.job = jobStatus({ status: "completed" });
    render(<DownloadJob jobId={JOB} known={server.job} />, { wrapper: Wrapper });
    expect(screen.getByRole("button", { name: "Download quarter.zip" })).toBeVisible();
    expect(server.polls).toBe(0);
    await user.click(screen.getByText("2 files", { selector: "summary" }));
    expect(await screen.findByText("1.txt")).toBeInTheDocument();
  });
});

describe("DownloadManager", () => {
  it("starts a job and shows it; axe finds nothing to complain about", async () => {
    const user = userEvent.setup();
    const onJob = vi.fn();
    vi.mocked(server.client.initiate).mockResolvedValue({
      job_id: JOB,
      status: "queued",
      created_at: "",
      total_files: 2,
      websocket_url: "",
      status_url: "",
      events_url: "",
    });
    const { container } = render(<DownloadManager fileIds={[1, 2]} filename="quarter" onJob={onJob} />, {
      wrapper: Wrapper,
    });
    await user.click(screen.getByRole("button", { name: "Download 2 files as ZIP" }));
    expect(server.client.initiate).toHaveBeenCalledWith({ fileIds: [1, 2], filename: "quarter" });
    expect(onJob).toHaveBeenCalledWith(JOB);
    await connected();
    const { violations } = await axe.run(container, { rules: { "color-contrast": { enabled: false } } }); // needs layout
    expect(violations).toEqual([]);
  });

  it("shows why a job was not accepted", async () => {
    const user = userEvent.setup();
    vi.mocked(server.client.initiate).mockRejectedValue(new Error("As many of your jobs are running as may at once."));
    render(<DownloadManager fileIds={[1]} />, { wrapper: Wrapper });
    await user.click(screen.getByRole("button", { name: "Download 1 file as ZIP" }));
    expect(await screen.findByRole("alert")).toHaveTextContent("As many of your jobs");
  });
});
