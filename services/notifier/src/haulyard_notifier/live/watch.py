"""One client that watches one job."""

import asyncio
import secrets
from enum import Enum

from haulyard_notifier.live.pending import Pending
from haulyard_notifier.live.state import LiveState


class Ended(Enum):
    """Why a client is told nothing more."""

    OVER = "over"
    """The client knows how the job ended."""
    GONE = "gone"
    """The client has left."""
    RESTART = "restart"
    """This process stops; the client may go on at another one."""


class Watch:
    """The states that one client is to be sent, one at a time, as fast as it takes them.

    Args:
        job_id: what is watched.
        pending: empty.
    """

    def __init__(self, job_id: str, pending: Pending) -> None:
        self.job_id = job_id
        self.id = secrets.token_hex(8)
        self._pending = pending
        self._wake = asyncio.Event()
        self._ended: Ended | None = None

    def begin(self, snapshot: LiveState) -> None:
        """Offer the state in which the job was found."""
        self._pending.begin(snapshot)
        self._wake.set()

    def offer(self, state: LiveState) -> None:
        """Offer a state; what the client has seen is left out."""
        if self._pending.offer(state):
            self._wake.set()

    def end(self, reason: Ended) -> None:
        """Let `next` return ``reason``; the first reason counts."""
        self._ended = self._ended or reason
        self._wake.set()

    @property
    def is_over(self) -> bool:
        """Whether there is nothing to send, now or ever."""
        return self._pending.is_over

    async def next(self, *, patience: float | None = None) -> LiveState | Ended | None:
        """Return the next state to send, or why there is none any more.

        Args:
            patience: seconds without news after which None is returned; None waits for ever.
        """
        loop = asyncio.get_running_loop()
        deadline = None if patience is None else loop.time() + patience
        while True:
            self._wake.clear()
            now = loop.time()
            wait = self._pending.wait(now)
            if self._ended is Ended.GONE:
                return Ended.GONE
            if wait == 0.0:
                return self._pending.take(now)
            if self._ended is not None or self._pending.is_over:
                return self._ended or Ended.OVER
            if deadline is not None and now >= deadline:
                return None
            times = [time for time in (deadline, None if wait is None else now + wait) if time is not None]
            try:
                async with asyncio.timeout_at(min(times, default=None)):
                    await self._wake.wait()
            except TimeoutError:
                continue
