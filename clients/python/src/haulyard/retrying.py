"""When a request is tried again, and after how long. Pure: what happened goes in, a decision comes out.

The rules are those of the original requirement's ``retryFetch``: three tries, only after server errors and network
faults, a second that doubles up to ten, never after another 4xx. Added: ``Retry-After`` is obeyed, on 429 too (RFC 9110
section 10.2.3, RFC 6585), and half of each pause is random, so that many clients do not come back in the same moment.
"""

import enum
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus


class Fault(enum.Enum):
    """How a request failed without an answer."""

    NOT_SENT = "not sent"
    """No connection: the server cannot have seen it."""
    CUT = "cut"
    """The connection broke, or nothing came in time: the server may have acted on it."""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """An answer that is an error."""

    status: int
    retry_after: float | None = None
    """Seconds."""


Outcome = Fault | Refused

_TRY_LATER = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
"""Answers that say that nothing was done (RFC 6585 section 4, RFC 9110 section 15.6.4)."""


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How patient the client is."""

    attempts: int = 3
    """Tries in all."""
    first_delay: float = 1.0
    """Seconds before the second try; doubled before each further one."""
    max_delay: float = 10.0
    """Seconds that a pause has at most."""
    patience: float = 60.0
    """Seconds of ``Retry-After`` that are waited for; if it asks for more, the caller is told instead."""

    def delay(self, attempt: int, outcome: Outcome, *, repeatable: bool, chance: float) -> float | None:
        """Return the seconds to wait before the next try; None when there shall be none.

        Args:
            attempt: tries that were made, from 1.
            outcome: how the last one ended.
            repeatable: whether the request does no harm if the server gets it twice.
            chance: a random number from 0 to 1.
        """
        if attempt >= self.attempts or not may_repeat(outcome, repeatable=repeatable):
            return None
        if isinstance(outcome, Refused) and outcome.retry_after is not None:
            if outcome.retry_after > self.patience:
                return None
            # Not all at once, and never earlier than was asked.
            return max(outcome.retry_after * (1 + chance / 10), self.backoff(attempt, chance=0.0))
        return self.backoff(attempt, chance=chance)

    def backoff(self, attempt: int, *, chance: float) -> float:
        """Return the pause after ``attempt`` failures in a row, in seconds."""
        # The exponent is bounded because a float's is: 2.0 ** 1024 is an OverflowError.
        full = min(self.first_delay * 2.0 ** min(max(0, attempt - 1), 60), self.max_delay)
        return full * (1 + chance) / 2


def may_repeat(outcome: Outcome, *, repeatable: bool) -> bool:
    """Whether trying again can help and does no harm."""
    if isinstance(outcome, Fault):
        return repeatable or outcome is Fault.NOT_SENT
    if outcome.status == HTTPStatus.TOO_MANY_REQUESTS:
        return outcome.retry_after is not None
    if outcome.status < HTTPStatus.INTERNAL_SERVER_ERROR or outcome.status == HTTPStatus.NOT_IMPLEMENTED:
        return False
    return repeatable or outcome.status in _TRY_LATER


def parse_retry_after(value: str | None, *, now: datetime) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for: a number, or a date (RFC 9110 section 10.2.3)."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:10])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())
