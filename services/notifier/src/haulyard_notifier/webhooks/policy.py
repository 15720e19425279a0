"""What becomes of a delivery, and of its host, after an attempt: pure functions; randomness and time are arguments.

The schedule is that of the Standard Webhooks specification ("Deliverability and reliability").
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_MINUTE, _HOUR = 60.0, 3600.0

SCHEDULE = (
    *(5.0, 5 * _MINUTE, 30 * _MINUTE),
    *(2 * _HOUR, 5 * _HOUR, 10 * _HOUR, 14 * _HOUR, 20 * _HOUR, 24 * _HOUR),
)
"""Seconds to wait after the first, second, … attempt failed; after one more the delivery is dead."""
JITTER = 0.1
"""A wait is at most this much shorter or longer, so that those who failed together do not come back together."""
LONGEST_WAIT = 24 * _HOUR
"""What a receiver may ask for at most by ``Retry-After``."""

HOST_PATIENCE = 5
"""Failures of a host, one after the other, after which it is left alone for a while."""
_HOST_PAUSE = _MINUTE
_LONGEST_HOST_PAUSE = 30 * _MINUTE

_GONE = 410
_TOO_MANY = 429
_SERVER_ERROR = 500


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver has it."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again in ``delay`` seconds."""

    delay: float


@dataclass(frozen=True, slots=True)
class Dead:
    """Not to be tried again."""


Decision = Delivered | Retry | Dead


def decide(attempts: int, status: int | None, random: float, *, retry_after: float | None = None) -> Decision:
    """Return what becomes of a delivery.

    Args:
        attempts: that were made since it was last asked for, with this one.
        status: of the answer; None when there was none.
        random: from 0 to 1.
        retry_after: seconds that the receiver asked to be left alone; lengthens a wait, never shortens it.
    """
    if status is not None and 200 <= status < 300:  # noqa: PLR2004
        return Delivered()
    if status == _GONE or attempts > len(SCHEDULE):
        return Dead()
    delay = SCHEDULE[attempts - 1] * (1 - JITTER + 2 * JITTER * random)
    return Retry(max(delay, min(retry_after or 0.0, LONGEST_WAIT)))


def is_hosts_fault(status: int | None) -> bool:
    """Whether an answer, or none, says that the host is in trouble, and not only this URL."""
    return status is None or status == _TOO_MANY or status >= _SERVER_ERROR


def host_pause(failures: int, random: float) -> float:
    """Return the seconds for which a host is left alone after so many failures one after the other; 0 for none.

    Args:
        failures: with the last one.
        random: from 0 to 1.
    """
    beyond = failures - HOST_PATIENCE
    if beyond < 0:
        return 0.0
    return min(_HOST_PAUSE * 2.0 ** min(beyond, 10), _LONGEST_HOST_PAUSE) * (1 - JITTER + 2 * JITTER * random)


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Return the seconds that a ``Retry-After`` header names (RFC 9110, section 10.2.3); None when it names none."""
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())
