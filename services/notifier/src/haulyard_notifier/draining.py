"""Hears of SIGTERM before the HTTP server acts on it.

The server waits for open responses before it tells the application to stop; an event stream never ends by itself, so
the application has to end its streams when the signal comes.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def on_termination(callback: Callable[[], None]) -> Iterator[None]:
    """Call ``callback`` in the running loop when the process is told to stop, besides what happens then anyway.

    Only where a server handles the signal itself: otherwise the process ends at once, and nothing is left to drain.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def received(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(callback)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    ours = [number for number, handler in before.items() if callable(handler)]
    for number in ours:
        signal.signal(number, received)
    try:
        yield
    finally:
        for number in ours:
            if signal.getsignal(number) is received:
                signal.signal(number, before[number])
