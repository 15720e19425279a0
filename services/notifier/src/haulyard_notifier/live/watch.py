"""One client that watches one job."""

import asyncio
import secrets
from collections.abc import Callable
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

    There may be ten thousand of these, nearly all of them with nothing to say: so none has a task of its own. Whoever
    sends registers with `listen` and is called when there is news, or waits in `next`.

    Args:
        job_id: what is watched.
        user_id: who watches.
        pending: empty.
    """

    __slots__ = ("_ended", "_listener", "_pending", "id", "job_id", "user_id")

    def __init__(self, job_id: str, user_id: str, pending: Pending) -> None:
        self.job_id = job_id
        self.user_id = user_id
        self.id = secrets.token_hex(8)
        self._pending = pending
        self._listener: Callable[[], None] | None = None
        self._ended: Ended | None = None

    def listen(self, listener: Callable[[], None] | None) -> None:
        """Call ``listener`` whenever `look` may have something new to say."""
        self._listener = listener

    def begin(self, snapshot: LiveState) -> None:
        """Offer the state in which the job was found."""
        self._pending.begin(snapshot)
        self._tell()

    def offer(self, state: LiveState) -> None:
        """Offer a state; what the client has seen is left out."""
        if self._pending.offer(state):
            self._tell()

    def end(self, reason: Ended) -> None:
        """Let `look` return ``reason``; the first reason counts."""
        self._ended = self._ended or reason
        self._tell()

    def _tell(self) -> None:
        if self._listener is not None:
            self._listener()

    @property
    def is_over(self) -> bool:
        """Whether there is nothing to send, now or ever."""
        return self._pending.is_over

    def look(self, now: float) -> LiveState | Ended | float | None:
        """Return the state to send now; or why there is none any more; or in how many seconds to look; or nothing.

        Args:
            now: the loop's time.
        """
        if self._ended is Ended.GONE:
            return Ended.GONE
        wait = self._pending.wait(now)
        if wait == 0.0:
            return self._pending.take(now)
        if self._ended is not None or self._pending.is_over:
            return self._ended or Ended.OVER
        return wait

    async def next(self, *, patience: float | None = None) -> LiveState | Ended | None:
        """Return the next state to send, or why there is none any more; only where nobody listens.

        Args:
            patience: seconds without news after which None is returned; None waits for ever.
        """
        loop = asyncio.get_running_loop()
        news = asyncio.Event()
        self.listen(news.set)
        deadline = None if patience is None else loop.time() + patience
        try:
            while True:
                news.clear()
                now = loop.time()
                found = self.look(now)
                if isinstance(found, LiveState | Ended):
                    return found
                if deadline is not None and now >= deadline:
                    return None
                times = [time for time in (deadline, None if found is None else now + found) if time is not None]
                try:
                    async with asyncio.timeout_at(min(times, default=None)):
                        await news.wait()
                except TimeoutError:
                    continue
        finally:
            self.listen(None)
