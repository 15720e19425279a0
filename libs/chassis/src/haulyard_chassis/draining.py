"""Hears of SIGTERM before the HTTP server acts on it.

The server waits for open responses before it tells the application to stop, and cuts all WebSockets at once; an
application may rather have those answered who wait for news, and send its clients elsewhere one after the other, so it
does that first.
"""

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from haulyard_chassis.logs import get_logger

log = get_logger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)

Drain = Callable[[], Awaitable[None]]


class _Signals:
    """Holds the first signal back until the application is drained; a second one is passed on at once."""

    def __init__(self, drain: Drain) -> None:
        self._drain = drain
        self._loop = asyncio.get_running_loop()
        self._before: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._is_first = True
        self._draining: asyncio.Task[None] | None = None

    def take(self) -> None:
        """Get between the signals and who handles them. Where nobody does, the process ends at once: let it."""
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler):
                self._before[number] = handler
                signal.signal(number, self._received)

    def give_back(self) -> None:
        """Undo `take`."""
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._received:
                signal.signal(number, handler)
        if self._draining is not None:
            self._draining.cancel()

    def _received(self, number: int, frame: FrameType | None) -> None:
        if self._is_first:
            self._is_first = False
            self._loop.call_soon_threadsafe(self._begin, number)
        else:
            self._before[number](number, frame)

    def _begin(self, number: int) -> None:
        self._draining = self._loop.create_task(self._run(number), name="drain")

    async def _run(self, number: int) -> None:
        try:
            await self._drain()
        except Exception:
            log.exception("not drained")
        self._before[number](number, None)


@contextmanager
def on_termination(drain: Drain) -> Iterator[None]:
    """When the process is told to stop, run ``drain`` in the running loop, and only then let the server hear of it."""
    if threading.current_thread() is not threading.main_thread():  # signals come there only
        yield
        return
    signals = _Signals(drain)
    signals.take()
    try:
        yield
    finally:
        signals.give_back()
