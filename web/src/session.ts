/**
 * Who is signed in: a bearer token, kept for this tab only. It comes from the sign-in form or, in development, from the
 * fragment of the link that `make up` prints; fragments are not sent to servers.
 */

const KEY = "haulyard.token";

/** Return the token of a URL's fragment, `#token=…`; null without one. */
export function tokenOfFragment(fragment: string): string | null {
  return new URLSearchParams(fragment.replace(/^#/, "")).get("token") || null;
}

/** Take the token out of the address bar, before anybody can copy or bookmark it; return the token to begin with. */
export function openSession(): string | null {
  const token = tokenOfFragment(location.hash);
  if (token === null) return sessionStorage.getItem(KEY);
  history.replaceState(null, "", location.pathname + location.search);
  keepToken(token);
  return token;
}

export function keepToken(token: string | null): void {
  if (token === null) sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, token);
}

/** Return whom a token names, to show; nothing is decided by it, so nothing is verified. */
export function userOfToken(token: string): string | null {
  const payload = token.split(".")[1];
  if (payload === undefined) return null;
  try {
    const bytes = Uint8Array.from(atob(payload.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes)) as { sub?: unknown };
    return typeof claims.sub === "string" ? claims.sub : null;
  } catch {
    return null;
  }
}
