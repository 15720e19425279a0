"""Ctrl-C while something runs: it is told, and decides, instead of being torn down."""

import asyncio
import contextlib
import enum
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class InterruptedByUser(Exception):  # noqa: N818 - what the user wants is no error
    """The user wants no more of it; everything has been said."""


class Reaction(enum.Enum):
    """What becomes of the work."""

    STOP = "stop"
    GO_ON = "go on"


class Interrupts:
    """Notices Ctrl-C; made by `noticed`."""

    def __init__(self) -> None:
        self._pressed = asyncio.Event()

    def press(self) -> None:
        """Act as if Ctrl-C was pressed."""
        self._pressed.set()

    async def run(self, work: Coroutine[Any, Any, T], react: Callable[[], Awaitable[Reaction]]) -> T:
        """Run to the end; whenever Ctrl-C is pressed, ask what to do.

        Raises:
            InterruptedByUser: the work was stopped.
        """
        task = asyncio.create_task(work)
        try:
            while not await self._first(task):
                if await react() is Reaction.STOP:
                    raise InterruptedByUser
            return task.result()
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _first(self, task: asyncio.Task[T]) -> bool:
        """Wait for the task or Ctrl-C; return whether the task is done."""
        pressed = asyncio.create_task(self._pressed.wait())
        try:
            await asyncio.wait([task, pressed], return_when=asyncio.FIRST_COMPLETED)
        finally:
            pressed.cancel()
        self._pressed.clear()
        return task.done()

    async def answer(self, question: str) -> str | None:
        """Ask on the terminal; return the answer, or None when Ctrl-C is pressed instead."""
        print(question, end="", file=sys.stderr, flush=True)  # noqa: T201 - a question on a terminal
        line = asyncio.create_task(_read_line())
        if await self._first(line):
            return line.result()
        line.cancel()
        await asyncio.wait([line])
        return None


async def _read_line() -> str:
    """Read a line of the terminal without a thread, which could not be stopped."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(sys.stdin, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(sys.stdin)
    return sys.stdin.readline().strip()


@contextlib.asynccontextmanager
async def noticed() -> AsyncIterator[Interrupts]:
    """Notice Ctrl-C while the block runs. Where signals cannot be handled (Windows) it ends everything, as usual."""
    interrupts = Interrupts()
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(signal.SIGINT, interrupts.press)
    except NotImplementedError:
        yield interrupts
        return
    try:
        yield interrupts
    finally:
        loop.remove_signal_handler(signal.SIGINT)
