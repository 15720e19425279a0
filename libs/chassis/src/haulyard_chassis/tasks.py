"""Ending tasks for sure.

On Python 3.11 ``asyncio.wait_for`` may swallow a cancellation that arrives together with its result, and so may every
library that uses it. A task that loops then goes on as if nothing had been said, and whoever waits for its end waits
for ever. So a task is cancelled again until it has ended.
"""

import asyncio
from typing import Any

from haulyard_chassis.logs import get_logger

log = get_logger(__name__)

_AGAIN = 0.5
"""Seconds until a task that is still there is told once more."""


async def cancel_and_wait(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and return when all have ended; errors with which they end are logged."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        ended, pending = await asyncio.wait(pending, timeout=_AGAIN)
        for task in ended:
            if not task.cancelled() and (error := task.exception()) is not None:
                log.warning("task ended with an error", task=task.get_name(), error=repr(error))
