import { beforeEach, describe, expect, it, vi } from "vitest";
import { createClient, HaulyardError, NetworkError, retryFetch } from "../src/client.ts";

const fetched = vi.fn<typeof fetch>();

beforeEach(() => {
  vi.useFakeTimers();
  fetched.mockReset();
  vi.stubGlobal("fetch", fetched);
});

const answer = (status: number, body: unknown = {}, headers: HeadersInit = {}) =>
  new Response(JSON.stringify(body), { status, headers });

/** Run with all pauses skipped. */
async function quickly<T>(work: Promise<T>): Promise<T> {
  const [result] = await Promise.all([
    work.then(
      (value) => ({ value }),
      (error: unknown) => ({ error }),
    ),
    vi.runAllTimersAsync(),
  ]);
  if ("error" in result) throw result.error;
  return result.value;
}

describe("retryFetch", () => {
  it("tries again after 5xx and a lost network, not after what the client did wrong", async () => {
    fetched
      .mockResolvedValueOnce(answer(503))
      .mockRejectedValueOnce(new TypeError("network"))
      .mockResolvedValueOnce(answer(200));
    expect((await quickly(retryFetch("/x"))).status).toBe(200);
    fetched.mockReset().mockResolvedValueOnce(answer(404));
    expect((await quickly(retryFetch("/x"))).status).toBe(404);
    expect(fetched).toHaveBeenCalledTimes(1);
  });

  it("reads again when it read too often, and writes no second time", async () => {
    fetched.mockImplementation(() => Promise.resolve(answer(429)));
    expect((await quickly(retryFetch("/x"))).status).toBe(429);
    expect(fetched).toHaveBeenCalledTimes(3);
    await quickly(retryFetch("/x", { method: "POST" }));
    expect(fetched).toHaveBeenCalledTimes(4);
  });

  it("gives up after some tries, with the last answer or a NetworkError", async () => {
    fetched.mockImplementation(() => Promise.resolve(answer(500)));
    expect((await quickly(retryFetch("/x"))).status).toBe(500);
    expect(fetched).toHaveBeenCalledTimes(3);
    fetched.mockImplementation(() => Promise.reject(new TypeError("network")));
    await expect(quickly(retryFetch("/x"))).rejects.toBeInstanceOf(NetworkError);
  });

  it("waits as long as the server asks", async () => {
    fetched.mockResolvedValueOnce(answer(503, {}, { "Retry-After": "7" })).mockResolvedValueOnce(answer(200));
    const started = Date.now();
    await quickly(retryFetch("/x"));
    expect(Date.now() - started).toBe(7000);
  });

  it("stops when it is told to", async () => {
    fetched.mockImplementation(() => Promise.resolve(answer(503)));
    const stopping = new AbortController();
    const work = retryFetch("/x", { signal: stopping.signal });
    const failed = expect(work).rejects.toThrow("abort");
    await vi.advanceTimersByTimeAsync(0);
    stopping.abort();
    await failed;
    expect(fetched).toHaveBeenCalledTimes(1);
  });
});

describe("the client", () => {
  it("sends token and body, and one key for all tries of one job", async () => {
    fetched.mockResolvedValueOnce(answer(502)).mockResolvedValueOnce(answer(202, { job_id: "job_1" }));
    const client = createClient({ baseUrl: "https://api/", token: () => "t" });
    await quickly(client.initiate({ fileIds: [1, 2], filename: "a.zip" }));
    const requests = fetched.mock.calls.map(([url, init]) => new Request(url, init));
    expect(requests.map((request) => request.url)).toEqual(Array(2).fill("https://api/v1/download/initiate"));
    expect(requests[0]?.headers.get("Authorization")).toBe("Bearer t");
    expect(await requests[0]?.json()).toEqual({ file_ids: [1, 2], filename: "a.zip" });
    const keys = requests.map((request) => request.headers.get("Idempotency-Key"));
    expect(keys[0]).toMatch(/^[0-9a-f]{32}$/);
    expect(keys[1]).toBe(keys[0]);
  });

  it("does not repeat what is not known to be harmless", async () => {
    fetched.mockImplementation(() => Promise.resolve(answer(502)));
    await expect(quickly(createClient().cancel("job_1"))).rejects.toBeInstanceOf(HaulyardError);
    expect(fetched).toHaveBeenCalledTimes(1);
  });

  it("raises problems with their words, and says when the token is refused", async () => {
    const onUnauthorized = vi.fn();
    const problem = {
      type: "/problems/unauthorized",
      title: "A valid token is needed",
      detail: "Signature has expired",
    };
    fetched.mockResolvedValueOnce(answer(401, problem, { "Retry-After": "1" }));
    await expect(quickly(createClient({ onUnauthorized }).jobs())).rejects.toMatchObject({
      message: "Signature has expired",
      status: 401,
      kind: "unauthorized",
      retryAfter: 1000,
    });
    expect(onUnauthorized).toHaveBeenCalledOnce();
    fetched.mockResolvedValueOnce(new Response("<h1>Bad request</h1>", { status: 400 }));
    await expect(quickly(createClient().jobs())).rejects.toThrow("The server answered 400.");
  });

  it("waits out the rate limit where many requests are made in a row", async () => {
    const files = [{ file_id: 1 }, { file_id: 2 }];
    fetched
      .mockResolvedValueOnce(answer(429, {}, { "Retry-After": "7" }))
      .mockResolvedValueOnce(answer(201, { files }));
    const started = Date.now();
    expect(await quickly(createClient().addFiles(["a", "b"]))).toEqual(files);
    expect(Date.now() - started).toBe(7000);
    expect(fetched.mock.calls[1]?.[1]?.body).toBe('{"files":[{"name":"a"},{"name":"b"}]}');
  });

  it("asks for pages", async () => {
    fetched.mockResolvedValueOnce(answer(200, { files: [{ file_id: 1 }], next_cursor: "abc" }));
    const page = await quickly(createClient().files({ search: "a b", limit: 50, cursor: null }));
    expect(page).toEqual({ items: [{ file_id: 1 }], next_cursor: "abc" });
    expect(fetched.mock.calls[0]?.[0]).toBe("/v1/files?limit=50&name=a+b");
  });

  it("follows a new job by the links that came with it, and asks for others when they may be too old", async () => {
    const accepted = { job_id: "job_1", websocket_url: "wss://a", events_url: "https://a" };
    fetched.mockResolvedValueOnce(answer(202, accepted));
    const client = createClient();
    await quickly(client.initiate({ fileIds: [1] }));
    expect(await client.liveLinks("job_1", false)).toMatchObject({ websocket_url: "wss://a" });
    expect(fetched).toHaveBeenCalledTimes(1);
    fetched.mockResolvedValueOnce(answer(200, { ...accepted, websocket_url: "wss://b" }));
    expect(await client.liveLinks("job_1", true)).toMatchObject({ websocket_url: "wss://b" });
  });
});
