"""``Idempotency-Key``: a request that is sent again, because its answer was lost, is done once.

What is promised:

* Equal requests with one key, however many at once, make one job, and all are told its id, for 24 hours. This holds
  without Redis, too: the job's id is made from user, key, body and day, so it is the same wherever it is made, and a
  job that is asked for twice under one id is one job (the broker refuses the second request while it has the first,
  and the record knows the id afterwards).
* The same key with another body is refused. This needs Redis; without it, the second body becomes a job of its own.
* Without Redis, a request that is repeated after midnight (UTC) is a new job.
* A key is only that of its user.

The order of things: `Idempotency.begin`, then publish under the id that it gives; if that fails, `forget`. Should the
process die between the two, the repeated request is a `Replay` of a job that nobody knows: publish it again under
the same id, which is harmless if somebody does know it.

Source: draft-ietf-httpapi-idempotency-key-header-07.
"""

import hashlib
import re
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from redis.asyncio import Redis
from ulid import ULID

from haulyard_chassis.limits import CacheAwayError, CacheGate
from haulyard_chassis.logs import get_logger

log = get_logger(__name__)

TTL = 86_400
"""Seconds for which a key is remembered."""

_MAX_KEY = 255
_STRING = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')  # RFC 9651, section 3.3.3
_BARE = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x7e]+")  # as most clients write it: no quote, comma or semicolon

BEGIN = """
local held = redis.call('GET', KEYS[1])
if held then return held end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return ''
"""

# Only what was begun for this very job: another request may have begun anew meanwhile.
_FORGET = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class InvalidKeyError(ValueError):
    """The ``Idempotency-Key`` is none; the message says what one is."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """Nobody has asked this before: do it."""

    degraded: bool = False
    """Redis is away: nobody is *known* to have asked. Doing it under the derived id is safe."""


@dataclass(frozen=True, slots=True)
class Replay:
    """The same was asked before: answer with its job."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """The key was used for something else: refuse (422)."""


Outcome = Fresh | Replay | Conflict


def read_key(header: str) -> str:
    """Return the key of an ``Idempotency-Key`` field: a string in quotes, or, as most clients write it, without.

    Raises:
        InvalidKeyError
    """
    given = header.strip()
    quoted = _STRING.fullmatch(given)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else given
    if not (quoted or _BARE.fullmatch(given)) or not 1 <= len(key) <= _MAX_KEY:
        raise InvalidKeyError(
            f"must be a string of 1 to {_MAX_KEY} visible ASCII characters, such as "
            '"8e03978e-40d5-43dd-bc93-6894a57f9324"'
        )
    return key


def fingerprint(operation: str, body: Mapping[str, Any]) -> str:
    """Return what tells one request from another: equal for bodies that differ only in the order of their members.

    Args:
        operation: what is asked for, such as ``initiate``: the same body may be sent to several endpoints.
        body: the decoded body.
    """
    return _digest(operation.encode(), msgspec.json.encode(body, order="sorted")).hex()


def derived_job_id(user_id: str, key: str, fingerprint: str, now: datetime) -> str:
    """Return the job's id for a request with a key: the same for the same request on the same day (UTC).

    It is a ULID whose time is the beginning of the day and whose other bits are a digest, so it does not sort among
    the jobs of its day.
    """
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    digest = _digest(user_id.encode(), key.encode(), fingerprint.encode(), day.isoformat().encode())
    return f"job_{ULID.from_bytes(int(day.timestamp() * 1_000).to_bytes(6, 'big') + digest[:10])}"


def _digest(*parts: bytes) -> bytes:
    """Return a digest of parts, of which none can be taken for the end of another."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


class Idempotency:
    """Remembers which key stands for which job.

    Args:
        client: Redis.
        gate: through which it is asked.
    """

    def __init__(self, client: Redis, *, gate: CacheGate | None = None) -> None:
        self._begin = client.register_script(BEGIN)
        self._forget = client.register_script(_FORGET)
        self._gate = gate or CacheGate()

    async def begin(self, user_id: str, key: str, fingerprint: str, job_id: str) -> Outcome:
        """Claim a key for a job, or say what it was claimed for: of many at once, one is `Fresh`.

        Args:
            user_id: whose key it is.
            key: as `read_key` returned it.
            fingerprint: of the request.
            job_id: as `derived_job_id` made it.
        """
        keys, args = begin_call(user_id, key, fingerprint, job_id)
        try:
            held: bytes | str = await self._gate.call(lambda: self._begin(keys=keys, args=args))
        except CacheAwayError:
            return Fresh(degraded=True)
        return outcome_of(held, fingerprint)

    async def forget(self, user_id: str, key: str, fingerprint: str, job_id: str) -> None:
        """Give a key back that `begin` claimed, because nothing came of the request."""
        try:
            await self._gate.call(lambda: self._drop(user_id, key, _claim(fingerprint, job_id)))
        except CacheAwayError as error:
            log.warning("idempotency key not given back", job_id=job_id, error=str(error))

    def _drop(self, user_id: str, key: str, claim: str) -> Awaitable[Any]:
        dropped: Awaitable[Any] = self._forget(keys=[_key(user_id, key)], args=[claim])
        return dropped


def begin_call(user_id: str, key: str, fingerprint: str, job_id: str) -> tuple[list[str], list[str | int]]:
    """Return keys and arguments of `BEGIN`, for a script that has it as a part."""
    return [_key(user_id, key)], [_claim(fingerprint, job_id), TTL]


def outcome_of(held: bytes | str, fingerprint: str) -> Outcome:
    """Return what a reply of `BEGIN` means."""
    if not held:
        return Fresh()
    was, _, job = (held.decode() if isinstance(held, bytes) else held).partition(" ")
    return Replay(job) if was == fingerprint else Conflict()


def _claim(fingerprint: str, job_id: str) -> str:
    return f"{fingerprint} {job_id}"


def _key(user_id: str, key: str) -> str:
    """A digest: keys and users may be long, and both say who asked for what."""
    return f"idem:{_digest(user_id.encode(), key.encode()).hex()}"
