"""Limits on what one user may ask: requests a minute, and jobs under way; counted in Redis for all replicas together.

Each decision is one call that Redis executes as a whole, so parallel requests cannot slip through between reading and
writing. Without Redis nobody is turned away for our trouble: rates are limited in this process alone, jobs not at
all, and the decision says that it is *degraded*. While Redis is known to be away it is not waited for.

Sources: GCRA (ITU-T I.371, annex A); draft-ietf-httpapi-ratelimit-headers-10; RFC 9110, section 10.2.3 (Retry-After).
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import redis.exceptions
from redis.asyncio import Redis

from haulyard_chassis.logs import get_logger

log = get_logger(__name__)

T = TypeVar("T")

PATIENCE = 0.25
"""Seconds that Redis has to answer: a limit is not worth a slow request."""
_AWAY_FOR = 1.0
"""Seconds for which Redis is not asked again after it did not answer."""
_MOST_KEYS = 10_000
"""Users whose rates one process remembers while Redis is away; those not seen for longest are forgotten."""
_MINUTE = 60.0
_RETRY_JOBS = 5.0
"""Seconds after which it is worth asking again whether a job has ended."""

_AWAY = (redis.exceptions.RedisError, OSError, TimeoutError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether something may be done, and what is left."""

    allowed: bool
    limit: int
    """Requests a minute, or jobs under way."""
    remaining: int
    """What may still be done at once."""
    reset_seconds: float
    """Seconds until nothing of the limit is used, if nothing more is done."""
    retry_after: float = 0.0
    """Seconds after which it is worth trying again; 0 if it is allowed."""
    degraded: bool = False
    """It was decided without Redis."""


class CacheAwayError(Exception):
    """Redis did not answer in time, or did not a moment ago."""


class CacheGate:
    """Lets calls through to Redis, for which nobody waits long, and none while Redis is away.

    After a failure one call in a while is let through, to see whether Redis is back.

    Args:
        patience: seconds that a call may take.
        away_for: seconds without calls after a failure.
        clock: returns seconds that only go forward.
    """

    def __init__(
        self, *, patience: float = PATIENCE, away_for: float = _AWAY_FOR, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._patience = patience
        self._away_for = away_for
        self._clock = clock
        self._closed_until = -math.inf
        self._is_away = False

    async def call(self, make: Callable[[], Awaitable[T]]) -> T:
        """Return what a call to Redis returns.

        Raises:
            CacheAwayError: it was not made, or came to nothing.
        """
        now = self._clock()
        if now < self._closed_until:
            raise CacheAwayError("not asked")
        if self._is_away:
            self._closed_until = now + self._away_for  # the others do not wait for the one that looks
        try:
            async with asyncio.timeout(self._patience):
                result = await make()
        except _AWAY as error:
            if not self._is_away:
                log.warning("cache unavailable, limits are those of this process", error=repr(error))
            self._is_away = True
            self._closed_until = self._clock() + self._away_for
            raise CacheAwayError(repr(error)) from error
        if self._is_away:
            log.info("cache available again")
            self._is_away = False
            self._closed_until = -math.inf
        return result


# Times are microseconds by Redis' own clock: whole numbers below 2^53, which Lua and JSON hold exactly. The key holds
# the time at which the bucket will be full again (in GCRA: the theoretical arrival time).
TAKE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval = tonumber(ARGV[1])
local burst = tonumber(ARGV[2])
local full_at = tonumber(redis.call('GET', KEYS[1]) or '0')
if full_at < now then full_at = now end
local after = full_at + interval
local wait = after - burst * interval - now
if wait > 0 then return {0, full_at - now, wait} end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000))
return {1, after - now, 0}
"""


def take_from(full_at: int, *, now: int, interval: int, burst: int) -> tuple[bool, int, int]:
    """Take one of a bucket that fills up by one each ``interval``; what `TAKE` does, without Redis.

    Args:
        full_at: when the bucket will be full again; anything in the past: it is full.
        now: the time, in the same unit.
        interval: time until one is added.
        burst: how many the bucket holds.

    Returns:
        Whether one could be taken, when the bucket will be full afterwards, and how long to wait if it could not.
    """
    full_at = max(full_at, now)
    after = full_at + interval
    wait = after - burst * interval - now
    return (False, full_at, wait) if wait > 0 else (True, after, 0)


class RateLimiter:
    """Requests a minute, evenly, with a burst at once.

    A bucket of ``burst`` is filled at ``per_minute``: after a pause that many requests may come at once, and in any
    minute no more than ``per_minute + burst``.

    Args:
        client: Redis.
        per_minute: how many requests a minute may be made in the long run.
        burst: how many of them at once.
        gate: through which Redis is asked.
        clock: seconds that only go forward; for what is counted without Redis.
    """

    def __init__(
        self,
        client: Redis,
        per_minute: int,
        burst: int,
        *,
        gate: CacheGate | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._take = client.register_script(TAKE)
        self._per_minute = per_minute
        self._burst = burst
        self._interval = round(_MINUTE * 1e6 / per_minute)
        self._gate = gate or CacheGate()
        self._clock = clock
        self._here: OrderedDict[str, int] = OrderedDict()

    async def take(self, key: str) -> Decision:
        """Decide about one request of whomever ``key`` names."""
        keys, args = self.call_of(key)
        try:
            reply = await self._gate.call(lambda: self._take(keys=keys, args=args))
        except CacheAwayError:
            return self.take_here(key)
        return self.decision_of(reply)

    def call_of(self, key: str) -> tuple[list[str], list[int]]:
        """Return keys and arguments of `TAKE`, for a script that has it as a part."""
        return [f"rate:{key}"], [self._interval, self._burst]

    def decision_of(self, reply: Sequence[int]) -> Decision:
        """Return what a reply of `TAKE` means."""
        allowed, used, wait = reply
        return self._decision(allowed=bool(allowed), used=int(used), wait=int(wait), degraded=False)

    def take_here(self, key: str) -> Decision:
        """Decide by what this process has seen."""
        now = round(self._clock() * 1e6)
        allowed, full_at, wait = take_from(
            self._here.pop(key, now), now=now, interval=self._interval, burst=self._burst
        )
        self._here[key] = full_at
        if len(self._here) > _MOST_KEYS:
            self._here.popitem(last=False)
        return self._decision(allowed=allowed, used=full_at - now, wait=wait, degraded=True)

    def _decision(self, *, allowed: bool, used: int, wait: int, degraded: bool) -> Decision:
        return Decision(
            allowed=allowed,
            limit=self._per_minute,
            remaining=max(0, (self._burst * self._interval - used) // self._interval),
            reset_seconds=used / 1e6,
            retry_after=wait / 1e6,
            degraded=degraded,
        )


def active_jobs_key(user_id: str) -> str:
    """Return the key of the set of jobs that a user has under way: ids, by the time at which they count no longer."""
    return f"jobs:active:{user_id}"


# A job that is admitted already is admitted again: whoever repeats a request takes no second place.
ADMIT = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local count = redis.call('ZCARD', KEYS[1])
local most = tonumber(ARGV[2])
if count >= most and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  return {0, count, first[2] and tostring(first[2] - now) or '0'}
end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[1])
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
redis.call('EXPIREAT', KEYS[1], math.ceil(last[2]))
return {1, redis.call('ZCARD', KEYS[1]), '0'}
"""


class ConcurrencyLimiter:
    """Jobs that a user may have under way.

    A place is free again when the job ends: `haulyard_chassis.job_state.JobCache.put` sees to it, in the same call
    that stores the job's end; or when its time is over, should that have been lost.

    Args:
        client: Redis.
        most: how many jobs a user may have under way.
        gate: through which Redis is asked.
    """

    def __init__(self, client: Redis, most: int, *, gate: CacheGate | None = None) -> None:
        self._client = client
        self._admit = client.register_script(ADMIT)
        self._most = most
        self._gate = gate or CacheGate()

    async def admit(self, user_id: str, job_id: str, ttl: float) -> Decision:
        """Decide about one more job of a user's.

        Args:
            user_id: the user.
            job_id: the job; asking twice takes one place.
            ttl: seconds after which it counts no longer, whatever became of it.
        """
        keys, args = self.call_of(user_id, job_id, ttl)
        try:
            reply = await self._gate.call(lambda: self._admit(keys=keys, args=args))
        except CacheAwayError:
            return Decision(allowed=True, limit=self._most, remaining=self._most, reset_seconds=0.0, degraded=True)
        return self.decision_of(reply)

    def call_of(self, user_id: str, job_id: str, ttl: float) -> tuple[list[str], list[str | float]]:
        """Return keys and arguments of `ADMIT`, for a script that has it as a part."""
        return [active_jobs_key(user_id)], [job_id, self._most, ttl]

    def decision_of(self, reply: Sequence[Any]) -> Decision:
        """Return what a reply of `ADMIT` means."""
        allowed, count, wait = reply
        expires = float(wait)
        return Decision(
            allowed=bool(allowed),
            limit=self._most,
            remaining=max(0, self._most - int(count)),
            reset_seconds=0.0 if allowed else min(_RETRY_JOBS, expires),
            retry_after=0.0 if allowed else min(_RETRY_JOBS, expires),
        )

    async def release(self, user_id: str, job_id: str) -> None:
        """Give a job's place back; without Redis nothing happens, and its time will be over."""
        try:
            await self._gate.call(lambda: self._remove(user_id, job_id))
        except CacheAwayError as error:
            log.warning("place not given back", job_id=job_id, error=str(error))

    def _remove(self, user_id: str, job_id: str) -> Awaitable[Any]:
        removed: Awaitable[Any] = self._client.zrem(active_jobs_key(user_id), job_id)
        return removed


def limit_headers(*, requests: Decision | None = None, jobs: Decision | None = None) -> dict[str, str]:
    """Return ``RateLimit-Policy``, ``RateLimit`` and, if something is not allowed, ``Retry-After``.

    The names of the policies are part of the API: ``"requests"``, a quota in 60 seconds, and ``"jobs"``, a quota of
    what is under way, without a window.
    """
    policies, states = [], []
    if requests is not None:
        policies.append(f'"requests";q={requests.limit};w={_MINUTE:.0f}')
        states.append(f'"requests";r={requests.remaining};t={math.ceil(requests.reset_seconds)}')
    if jobs is not None:
        policies.append(f'"jobs";q={jobs.limit}')
        states.append(f'"jobs";r={jobs.remaining}')
    refused = [decision for decision in (requests, jobs) if decision is not None and not decision.allowed]
    headers = {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(states)} if policies else {}
    wait = max((max(1, math.ceil(decision.retry_after)) for decision in refused), default=None)
    return headers if wait is None else headers | {"Retry-After": str(wait)}
