"""May this request be served, and this job be made? All of it is one call to Redis, which it executes as a whole.

Rate, idempotency key, running jobs, and the job's first state: that is one round trip where it would be four.

The scripts of the chassis are put together here as functions of one: each has to say yes before the next is asked, and
what was claimed is given back if a later one says no. Without Redis the rates are those of this process, nothing else
is limited, and the verdict says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from redis.asyncio import Redis

from haulyard_chassis import idempotency, job_state, limits
from haulyard_chassis.idempotency import Fresh, Idempotency, Outcome, begin_call, outcome_of
from haulyard_chassis.job_state import job_key, store_call
from haulyard_chassis.limits import CacheAwayError, CacheGate, ConcurrencyLimiter, Decision, RateLimiter
from haulyard_chassis.logs import get_logger
from haulyard_contracts import JobDocument
from haulyard_gateway.settings import GatewaySettings

log = get_logger(__name__)

_FRESH = Fresh()

PLACE_TTL = 3_600
"""Seconds after which a job counts no longer as running, should its end not have been heard of."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An idempotency key, and the request that it is claimed for."""

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was decided about a new job: no, if one of the decisions is not ``allowed``; else see ``outcome``."""

    requests: Decision | None = None
    """None: rates are not limited, or the request was counted before."""
    jobs: Decision | None = None
    """None: running jobs are not limited, or it did not come to that."""
    outcome: Outcome = _FRESH
    degraded: bool = False
    """Redis is away: the job's first state is not in the cache, and limits are those of this process."""


class Admission(Protocol):
    """Decides."""

    async def take(self, user_id: str) -> Decision | None:
        """Decide about one request that makes no job; None: rates are not limited."""

    async def admit(self, document: JobDocument, claim: Claim | None, *, charged: bool = False) -> Verdict:
        """Decide about a job; if it is fresh, take a place for it and store its first state.

        Args:
            document: the job's first state.
            claim: the request's key, if it has one.
            charged: the request has been counted already.
        """

    async def withdraw(self, document: JobDocument, claim: Claim | None) -> None:
        """Give back what a job took of which nothing came."""


# A list of arguments for each script, told apart by their lengths; of a script that is not to be asked it is empty.
_SCRIPT = f"""
local function take(KEYS, ARGV) {limits.TAKE} end
local function begin(KEYS, ARGV) {idempotency.BEGIN} end
local function admit(KEYS, ARGV) {limits.ADMIT} end
local function store(KEYS, ARGV) {job_state.STORE} end

local at = 4
local function arguments(number)
  local list = {{}}
  for position = 1, tonumber(ARGV[number]) do list[position] = ARGV[at + position] end
  at = at + #list
  return list
end
local for_take, for_begin, for_admit, for_store = arguments(1), arguments(2), arguments(3), arguments(4)

local requests, held, jobs = {{}}, '', {{}}
if #for_take > 0 then
  requests = take({{KEYS[1]}}, for_take)
  if requests[1] == 0 then return {{requests, held, jobs}} end
end
if #for_begin > 0 then
  held = begin({{KEYS[2]}}, for_begin)
  if held ~= '' then return {{requests, held, jobs}} end
end
if #for_admit > 0 then
  jobs = admit({{KEYS[3]}}, for_admit)
  if jobs[1] == 0 then
    if #for_begin > 0 then redis.call('DEL', KEYS[2]) end
    return {{requests, held, jobs}}
  end
end
store({{KEYS[4]}}, for_store)
return {{requests, held, jobs}}
"""

_NOTHING: tuple[list[str], list[Any]] = ([""], [])


class RedisAdmission:
    """Decides by what Redis has counted.

    Args:
        client: Redis.
        settings: say which limits there are.
    """

    def __init__(self, client: Redis, settings: GatewaySettings) -> None:
        self._client = client
        self._gate = CacheGate()
        self._script = client.register_script(_SCRIPT)
        self._requests = (
            RateLimiter(client, settings.rate_limit_per_minute, settings.rate_limit_burst, gate=self._gate)
            if settings.rate_limit_per_minute
            else None
        )
        self._jobs = (
            ConcurrencyLimiter(client, settings.max_jobs_per_user, gate=self._gate)
            if settings.max_jobs_per_user
            else None
        )
        self._idempotency = Idempotency(client, gate=self._gate)

    async def take(self, user_id: str) -> Decision | None:
        """See `Admission.take`."""
        return await self._requests.take(user_id) if self._requests else None

    async def admit(self, document: JobDocument, claim: Claim | None, *, charged: bool = False) -> Verdict:
        """See `Admission.admit`."""
        user_id, job_id = document.user_id, document.job_id
        requests = None if charged else self._requests
        calls = (
            requests.call_of(user_id) if requests else _NOTHING,
            begin_call(user_id, claim.key, claim.fingerprint, job_id) if claim else _NOTHING,
            self._jobs.call_of(user_id, job_id, PLACE_TTL) if self._jobs else _NOTHING,
            store_call(document),
        )
        keys = [key for key, *_ in (keys for keys, _ in calls)]
        args = [len(args) for _, args in calls] + [arg for _, args in calls for arg in args]
        try:
            reply = await self._gate.call(lambda: self._script(keys=keys, args=args))
        except CacheAwayError:
            return Verdict(requests=requests.take_here(user_id) if requests else None, degraded=True)
        return self._verdict(reply, claim)

    def _verdict(self, reply: Sequence[Any], claim: Claim | None) -> Verdict:
        requests, held, jobs = reply
        return Verdict(
            requests=self._requests.decision_of(requests) if self._requests and requests else None,
            jobs=self._jobs.decision_of(jobs) if self._jobs and jobs else None,
            outcome=outcome_of(held, claim.fingerprint) if claim else Fresh(),
        )

    async def withdraw(self, document: JobDocument, claim: Claim | None) -> None:
        """See `Admission.withdraw`."""
        if self._jobs:
            await self._jobs.release(document.user_id, document.job_id)
        if claim:
            await self._idempotency.forget(document.user_id, claim.key, claim.fingerprint, document.job_id)
        try:
            await self._gate.call(lambda: self._client.delete(job_key(document.job_id)))
        except CacheAwayError as error:
            log.warning("first state not taken back", job_id=document.job_id, error=str(error))
