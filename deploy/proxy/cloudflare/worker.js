// Haulyard behind Cloudflare: what a Worker in front of the origin has to get right. See docs/proxies.md.
//
// The request goes on as it came, with its headers and its body as a stream; the answer comes back as it is. WebSockets
// pass. Nothing of the API is cached. An answer that does not begin in time is a 504 of ours, before Cloudflare's own
// time-out (100 s) makes a page of HTML of it. What changes nothing is asked a second time if the origin was not there.

/** Milliseconds after which an answer must have begun; what comes after that may take as long as it takes. */
const PATIENCE = {
  // A request may wait for 25 s (?wait=25, HAULYARD_START_WAIT).
  api: 30_000,
  // The gateway waits for the archive's layout, and may have to read 32 MiB for their checksums.
  archive: 90_000,
  live: 30_000,
};

/** Milliseconds before the second try. */
const PAUSE = 250;

const LIVE = /^(?:\/ws\/jobs\/[^/]+|\/v1\/jobs\/[^/]+\/events)$/;
const ARCHIVE = /^\/v1\/jobs\/[^/]+\/archive$/;
// What clients may ask for. /metrics and /health are not among it.
const PUBLIC = /^\/(?:$|(?:assets|docs|problems|v1|ws)(?:\/|$))/;
const CACHEABLE = /^\/assets\//;
const REQUEST_ID = /^[A-Za-z0-9._-]{1,64}$/;

/** Answers that say that the request has not reached a service: of a proxy at the origin, and of Cloudflare (521, 523). */
const NOT_THERE = new Set([502, 521, 523]);

/**
 * @typedef {object} Env
 * @property {string} ORIGIN URL of what does the paths: the ingress, the load balancer, or nginx
 * @property {string} [LIVE_ORIGIN] URL of the notifier, if it has another
 */

export default {
  /**
   * @param {Request} request
   * @param {Env} env
   * @returns {Promise<Response>}
   */
  async fetch(request, env) {
    const url = new URL(request.url);
    const requestId = idOf(request);
    if (!PUBLIC.test(url.pathname)) {
      return problem(404, "/problems/not-found", "Not found", "There is nothing at this address.", url, requestId);
    }
    const forwarded = forward(request, env, url, requestId);
    try {
      const answer = await askPatiently(forwarded, url);
      // A socket's answer has to be handed on as it is.
      return answer.webSocket ? answer : neverStored(answer, url);
    } catch (error) {
      console.error(
        JSON.stringify({ event: "no answer", path: url.pathname, request_id: requestId, error: `${error}` }),
      );
      return error instanceof TooLate
        ? problem(
            504,
            "about:blank",
            "Gateway Timeout",
            "The service took too long to answer. Try again.",
            url,
            requestId,
          )
        : problem(
            502,
            "about:blank",
            "Bad Gateway",
            "The service cannot be reached at the moment. Try again.",
            url,
            requestId,
          );
    }
  },
};

/** The answer did not begin in time. */
class TooLate extends Error {}

/**
 * The request as it goes to the origin.
 *
 * Headers are copied by the constructor: `{...request.headers}` would be empty, as they are no properties.
 *
 * @param {Request} request
 * @param {Env} env
 * @param {URL} url
 * @param {string} requestId
 */
function forward(request, env, url, requestId) {
  const base = LIVE.test(url.pathname) ? env.LIVE_ORIGIN || env.ORIGIN : env.ORIGIN;
  const target = new URL(base);
  target.pathname = url.pathname;
  target.search = url.search;
  const forwarded = new Request(target, request);
  const client = request.headers.get("CF-Connecting-IP");
  forwarded.headers.delete("Forwarded");
  forwarded.headers.set("X-Forwarded-Host", url.host);
  forwarded.headers.set("X-Forwarded-Proto", url.protocol.slice(0, -1));
  if (client) forwarded.headers.set("X-Forwarded-For", client);
  forwarded.headers.set("X-Forwarded-By", "cloudflare");
  forwarded.headers.set("X-Request-ID", requestId);
  return forwarded;
}

/**
 * The origin's answer; a second try if it was not there and the request changes nothing.
 *
 * @param {Request} request
 * @param {URL} url
 */
async function askPatiently(request, url) {
  const kind = ARCHIVE.test(url.pathname) ? "archive" : LIVE.test(url.pathname) ? "live" : "api";
  const deadline = Date.now() + PATIENCE[kind];
  // A method that is safe has no body, so that the same request can be sent again (RFC 9110, section 9.2.1).
  if (request.method !== "GET" && request.method !== "HEAD") return await ask(request, deadline, url);
  try {
    const answer = await ask(request.clone(), deadline, url);
    if (!NOT_THERE.has(answer.status)) return answer;
    await answer.body?.cancel();
  } catch (error) {
    if (error instanceof TooLate) throw error;
  }
  await new Promise((resolve) => setTimeout(resolve, PAUSE));
  return await ask(request, deadline, url);
}

/**
 * @param {Request} request
 * @param {number} deadline milliseconds since the epoch
 * @param {URL} url
 */
async function ask(request, deadline, url) {
  const giveUp = new AbortController();
  const timer = setTimeout(() => giveUp.abort(), Math.max(0, deadline - Date.now()));
  try {
    return await fetch(request, {
      signal: giveUp.signal,
      // The link to the store is for the client, not for us.
      redirect: "manual",
      ...(CACHEABLE.test(url.pathname) ? {} : { cache: "no-store" }),
    });
  } catch (error) {
    throw giveUp.signal.aborted ? new TooLate() : error;
  } finally {
    clearTimeout(timer);
  }
}

/**
 * The answer; with a word to all caches on the way if the origin has none for them.
 *
 * @param {Response} answer
 * @param {URL} url
 */
function neverStored(answer, url) {
  if (CACHEABLE.test(url.pathname) || answer.headers.has("Cache-Control")) return answer;
  const marked = new Response(answer.body, answer);
  marked.headers.set("Cache-Control", "no-store");
  return marked;
}

/** @param {Request} request */
function idOf(request) {
  const given = request.headers.get("X-Request-ID") ?? "";
  return REQUEST_ID.test(given) ? given : crypto.randomUUID();
}

/**
 * An error of ours, as the services word theirs (RFC 9457).
 *
 * @param {number} status
 * @param {string} type
 * @param {string} title
 * @param {string} detail
 * @param {URL} url
 * @param {string} requestId
 */
function problem(status, type, title, detail, url, requestId) {
  const headers = new Headers({
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Retry-After, X-Request-ID",
    "Cache-Control": "no-store",
    "Content-Type": "application/problem+json",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Request-ID": requestId,
  });
  if (status >= 500) headers.set("Retry-After", "2");
  return new Response(JSON.stringify({ type, title, status, detail, instance: url.pathname }), { status, headers });
}
