/** How fast a job goes, seen from how its byte count grew. Pure: times are arguments, in milliseconds. */

export interface Sample {
  at: number;
  bytes: number;
}

/** Only the recent past tells when a job will be done. */
const WINDOW = 15_000;
/** Shorter spans measure how updates are bundled rather than how fast the job is. */
const SHORTEST = 400;

/** Add a sample; drop what is too old, or everything when the count went back (the archive was planned anew). */
export function addSample(samples: readonly Sample[], sample: Sample): Sample[] {
  const last = samples.at(-1);
  if (last !== undefined && sample.bytes < last.bytes) return [sample];
  return [...samples.filter((old) => sample.at - old.at <= WINDOW), sample];
}

/** Return bytes per second; null when too little is known. */
export function bytesPerSecond(samples: readonly Sample[]): number | null {
  const first = samples[0];
  const last = samples.at(-1);
  if (first === undefined || last === undefined || last.at - first.at < SHORTEST) return null;
  const rate = ((last.bytes - first.bytes) * 1000) / (last.at - first.at);
  return rate > 0 ? rate : null;
}

/** Return the seconds until all bytes are there; null when that cannot be said. */
export function secondsLeft(samples: readonly Sample[], bytesTotal: number): number | null {
  const rate = bytesPerSecond(samples);
  const last = samples.at(-1);
  if (rate === null || last === undefined || bytesTotal <= 0) return null;
  return Math.max(0, bytesTotal - last.bytes) / rate;
}
