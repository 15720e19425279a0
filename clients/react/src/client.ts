/** The API over HTTP: one function for each thing that a page does. */

import { backoffDelay, retryAfter } from "./backoff.ts";
import { pause } from "./pause.ts";
import type { AcceptedJob, ArchiveLink, CatalogueFile, JobStatus, JobSummary, LiveLinks, Page } from "./types.ts";

/** The API said no. */
export class HaulyardError extends Error {
  override readonly name = "HaulyardError";

  /**
   * @param message for people: what was wrong and what to do.
   * @param status the HTTP status.
   * @param kind which problem it is: the last step of its `type` (RFC 9457), such as `job-not-ready`.
   * @param retryAfter milliseconds after which to try again, if the server said so.
   */
  constructor(
    message: string,
    readonly status: number,
    readonly kind: string,
    readonly retryAfter: number | null = null,
  ) {
    super(message);
  }
}

/** There was no answer: the network, or whatever is in between, is away. */
export class NetworkError extends Error {
  override readonly name = "NetworkError";

  constructor(cause: unknown) {
    super("The server cannot be reached.", { cause });
  }
}

export interface ClientOptions {
  /** Where the API is; by default where the page is. */
  baseUrl?: string;
  /** The bearer token, or what returns it; without one requests go out without. */
  token?: string | (() => string | null);
  /** Tries of a request that fails by 5xx or by the network; others are never repeated. */
  tries?: number;
  /** Called when the API refuses the token. */
  onUnauthorized?: () => void;
}

export interface JobRequest {
  fileIds: readonly number[];
  filename?: string;
  priority?: number;
  /** Makes a repeated request the same job. */
  idempotencyKey?: string;
}

export interface StatusOptions {
  /** The sequence of the state that is known: wait for a newer one… */
  since?: number;
  /** …for so many seconds at most. */
  wait?: number;
  signal?: AbortSignal;
}

export interface ListOptions {
  cursor?: string | null;
  limit?: number;
  /** Part of a file's name. */
  search?: string;
  signal?: AbortSignal;
}

export interface HaulyardClient {
  initiate: (request: JobRequest) => Promise<AcceptedJob>;
  /** Ask once: whoever polls tries again anyway. */
  status: (jobId: string, options?: StatusOptions) => Promise<JobStatus>;
  /**
   * Where to follow a job that is not over.
   *
   * @param fresh do not take those that came with the job: their tickets may be too old.
   */
  liveLinks: (jobId: string, fresh: boolean, signal?: AbortSignal) => Promise<LiveLinks>;
  archiveLink: (jobId: string) => Promise<ArchiveLink>;
  /** Stop a job that is not over. */
  cancel: (jobId: string) => Promise<void>;
  /** Do what failed again; returns the job that does it. */
  retry: (jobId: string) => Promise<AcceptedJob>;
  /** Forget a job and delete its archive. */
  remove: (jobId: string) => Promise<void>;
  jobs: (options?: ListOptions) => Promise<Page<JobSummary>>;
  files: (options?: ListOptions) => Promise<Page<CatalogueFile>>;
  /** See whether a file that is awaited has arrived. */
  file: (fileId: number, signal?: AbortSignal) => Promise<CatalogueFile>;
  /** Add files that are to be uploaded, in one request; each comes with a link for `upload`. */
  addFiles: (names: readonly string[], signal?: AbortSignal) => Promise<CatalogueFile[]>;
  /** Send a file's bytes straight to the store, and return it as the catalogue then has it. */
  upload: (added: CatalogueFile, bytes: Blob, options?: UploadOptions) => Promise<CatalogueFile>;
  removeFile: (fileId: number) => Promise<void>;
}

export interface UploadOptions {
  onProgress?: (bytes: number) => void;
  signal?: AbortSignal;
}

const JSON_TYPE = "application/json";

export function createClient(options: ClientOptions = {}): HaulyardClient {
  const base = (options.baseUrl ?? "").replace(/\/$/, "");

  async function request(
    method: string,
    path: string,
    more: RequestInit = {},
    tries = options.tries,
  ): Promise<Response> {
    const token = typeof options.token === "function" ? options.token() : options.token;
    const headers = new Headers(more.headers);
    headers.set("Accept", JSON_TYPE);
    if (token) headers.set("Authorization", `Bearer ${token}`);
    if (more.body !== undefined) headers.set("Content-Type", JSON_TYPE);
    // What POST does is not done twice because an answer was lost, unless the request says that it is the same one.
    const repeatable = method !== "POST" || headers.has("Idempotency-Key");
    const response = await retryFetch(`${base}${path}`, { ...more, method, headers }, repeatable ? tries : 1);
    if (response.ok) return response;
    if (response.status === 401) options.onUnauthorized?.();
    throw await problemOf(response);
  }

  async function get<T>(path: string, signal?: AbortSignal, tries?: number): Promise<T> {
    const response = await request("GET", path, signal ? { signal } : {}, tries);
    return (await response.json()) as T;
  }

  async function post<T>(path: string, body: unknown, headers: HeadersInit = {}): Promise<T> {
    const response = await request("POST", path, { body: JSON.stringify(body), headers });
    return (await response.json()) as T;
  }

  const links = new Map<string, LiveLinks>();
  const remember = (accepted: AcceptedJob) => {
    links.set(accepted.job_id, accepted);
    return accepted;
  };
  const job = (jobId: string, rest = "") => `/v1/jobs/${encodeURIComponent(jobId)}${rest}`;

  return {
    initiate: async ({ fileIds, filename, priority, idempotencyKey = randomKey() }) =>
      remember(
        await post<AcceptedJob>(
          "/v1/download/initiate",
          { file_ids: fileIds, ...(filename ? { filename } : {}), ...(priority ? { priority } : {}) },
          { "Idempotency-Key": idempotencyKey },
        ),
      ),
    status: (jobId, { since, wait, signal } = {}) =>
      get<JobStatus>(job(jobId, `/status${query({ since, wait })}`), signal, 1),
    liveLinks: async (jobId, fresh, signal) =>
      (!fresh && links.get(jobId)) || (await get<LiveLinks>(job(jobId, "/live"), signal, 1)),
    archiveLink: (jobId) => get<ArchiveLink>(job(jobId, "/download")),
    cancel: async (jobId) => {
      await request("POST", job(jobId, "/cancel"));
    },
    retry: async (jobId) => remember((await (await request("POST", job(jobId, "/retry"))).json()) as AcceptedJob),
    remove: async (jobId) => {
      await request("DELETE", job(jobId));
    },
    jobs: async ({ cursor, limit, signal } = {}) =>
      pageOf<JobSummary>(await get(`/v1/jobs${query({ cursor, limit })}`, signal), "jobs"),
    files: async ({ cursor, limit, search, signal } = {}) =>
      pageOf<CatalogueFile>(await get(`/v1/files${query({ cursor, limit, name: search })}`, signal), "files"),
    file: (fileId, signal) => get<CatalogueFile>(`/v1/files/${fileId}`, signal),
    addFiles: async (names, signal) => {
      const files = names.map((name) => ({ name }));
      return (await patiently(() => post<{ files: CatalogueFile[] }>("/v1/files", { files }), signal)).files;
    },
    upload: async (added, bytes, options = {}) => {
      if (!added.upload) throw new HaulyardError("The server gave no link to upload to.", 500, "internal");
      await put(added.upload.url, bytes, options);
      const { signal } = options;
      return patiently(() => get<CatalogueFile>(`/v1/files/${added.file_id}`, signal), signal);
    },
    removeFile: async (fileId) => {
      await request("DELETE", `/v1/files/${fileId}`);
    },
  };
}

function query(parameters: Record<string, string | number | null | undefined>): string {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return text && `?${text}`;
}

function pageOf<T>(body: Record<string, unknown>, field: string): Page<T> {
  return { items: body[field] as T[], next_cursor: (body["next_cursor"] ?? null) as string | null };
}

/**
 * Fetch, and try again what may pass: 5xx and a network that is away, and reading too often; never what the client did
 * wrong. Waits as the server asks by `Retry-After`, if that is not too long.
 *
 * @throws NetworkError when no try was answered.
 */
export async function retryFetch(url: string, init: RequestInit = {}, tries = 3): Promise<Response> {
  for (let attempt = 0; ; attempt += 1) {
    const last = attempt + 1 >= tries;
    let asked: number | null = null;
    try {
      const response = await fetch(url, init);
      const isTooOften = response.status === 429 && (init.method ?? "GET") === "GET";
      if ((response.status < 500 && !isTooOften) || last) return response;
      asked = retryAfter(response.headers.get("Retry-After"), Date.now());
      await response.body?.cancel();
    } catch (error) {
      if (init.signal?.aborted) throw error;
      if (last) throw new NetworkError(error);
    }
    await pause(Math.min(asked ?? backoffDelay(attempt, Math.random()), 10_000), init.signal);
    init.signal?.throwIfAborted();
  }
}

/** Wait out the rate limit, which many uploads in a row run into. */
async function patiently<T>(ask: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof HaulyardError) || error.status !== 429) throw error;
      await pause(Math.min(error.retryAfter ?? 5_000, 60_000), signal);
      signal?.throwIfAborted();
    }
  }
}

/** `crypto.randomUUID` is missing where the page came by plain http from another machine. */
function randomKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function problemOf(response: Response): Promise<HaulyardError> {
  let problem: { detail?: string; title?: string; type?: string } = {};
  try {
    problem = (await response.json()) as typeof problem;
  } catch {
    // Not ours: a proxy answered, in HTML.
  }
  const message = problem.detail ?? problem.title ?? `The server answered ${response.status}.`;
  return new HaulyardError(
    message,
    response.status,
    problem.type?.split("/").pop() ?? "unknown",
    retryAfter(response.headers.get("Retry-After"), Date.now()),
  );
}

/** PUT with progress, which `fetch` cannot tell. */
function put(url: string, body: Blob, { onProgress, signal }: UploadOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const abort = () => request.abort();
    request.open("PUT", url);
    request.upload.onprogress = (event) => onProgress?.(event.loaded);
    request.onload = () => {
      if (request.status < 300) resolve();
      else reject(new HaulyardError(`The store refused the file (${request.status}).`, request.status, "store"));
    };
    request.onerror = () => reject(new NetworkError(null));
    request.onabort = () => reject(new DOMException("The upload was stopped.", "AbortError"));
    request.onloadend = () => signal?.removeEventListener("abort", abort);
    signal?.addEventListener("abort", abort, { once: true });
    request.send(body);
  });
}
