"""What becomes of a delivery after an attempt: a pure function; randomness and time are arguments."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_MINUTE, _HOUR = 60.0, 3600.0

SCHEDULE = (5.0, 5 * _MINUTE, 30 * _MINUTE, 2 * _HOUR, 5 * _HOUR, 10 * _HOUR)
"""Seconds to wait after the first, second, … attempt failed; after one more the delivery is dead."""
JITTER = 0.1
"""A wait is at most this much shorter or longer, so that those who failed together do not come back together."""
LONGEST_WAIT = 24 * _HOUR
"""What a receiver may ask for at most by ``Retry-After``."""

_GONE = 410


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
        attempts: that were made, with this one.
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
