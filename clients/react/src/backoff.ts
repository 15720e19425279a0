/** How long to wait before trying again. Pure: the randomness is an argument. */

export interface BackoffOptions {
  /** Upper bound of the first pause, in milliseconds. */
  base?: number;
  /** Upper bound of every pause, in milliseconds. */
  cap?: number;
}

/**
 * Return the pause before try `attempt + 2`, in milliseconds: doubling, with half of it random, so that clients that
 * were cut off together do not come back together.
 *
 * @param attempt how many tries have failed in a row, less one: 0 after the first failure.
 * @param random from 0 to 1.
 */
export function backoffDelay(
  attempt: number,
  random: number,
  { base = 1000, cap = 10_000 }: BackoffOptions = {},
): number {
  const most = Math.min(cap, base * 2 ** Math.max(0, attempt));
  return Math.round(most * (0.5 + random / 2));
}

/** Return what a `Retry-After` header asks for in milliseconds (RFC 9110, section 10.2.3); null without a valid one. */
export function retryAfter(header: string | null, now: number): number | null {
  if (header === null || header.trim() === "") return null;
  const seconds = Number(header);
  if (Number.isFinite(seconds)) return seconds >= 0 ? seconds * 1000 : null;
  const date = Date.parse(header);
  return Number.isNaN(date) ? null : Math.max(0, date - now);
}
