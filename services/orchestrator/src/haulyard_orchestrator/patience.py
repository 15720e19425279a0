"""Waiting for a dependency instead of giving up on the message.

While PostgreSQL or the broker is away, every message would fail, again and again, until it had failed too often.
So the handler waits with the message in hand, which keeps it from being delivered elsewhere, and goes on when the
dependency is back. Steps are idempotent: doing one again from its start is right.
"""

import asyncio
from collections.abc import Awaitable, Callable

import nats.errors
import nats.js.errors

from haulyard_chassis.broker import BrokerUnavailableError
from haulyard_chassis.database import UNAVAILABLE
from haulyard_chassis.logs import get_logger

log = get_logger(__name__)

AWAY: tuple[type[Exception], ...] = (
    *UNAVAILABLE,
    BrokerUnavailableError,
    nats.errors.Error,
    nats.js.errors.ServiceUnavailableError,
    nats.js.errors.NoStreamResponseError,
)

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 5.0


async def patiently(step: Callable[[], Awaitable[None]]) -> None:
    """Run ``step`` until no dependency is away; other errors pass."""
    pause = _FIRST_PAUSE
    while True:
        try:
            await step()
        except AWAY as error:
            log.warning("waiting for a dependency", error=repr(error), pause=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        else:
            return
