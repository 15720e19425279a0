"""The first signal drains, and only then is passed on; a second one is passed on at once."""

import asyncio
import os
import signal
from collections.abc import Iterator
from types import FrameType

import pytest

from haulyard_chassis.draining import on_termination


class Server:
    """Handles signals as the HTTP server does."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[int] = asyncio.Queue()

    def handle(self, number: int, frame: FrameType | None) -> None:
        self.heard.put_nowait(number)

    async def told(self) -> int:
        return await asyncio.wait_for(self.heard.get(), 5)


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture(autouse=True)
def handlers(server: Server) -> Iterator[None]:
    before = {number: signal.signal(number, server.handle) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


async def test_the_server_hears_of_it_when_all_is_drained(server: Server) -> None:
    begun, drained = asyncio.Event(), asyncio.Event()

    async def drain() -> None:
        begun.set()
        await drained.wait()

    with on_termination(drain):
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(begun.wait(), 5)
        assert server.heard.empty()
        drained.set()
        assert await server.told() == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == server.handle


async def test_a_second_signal_is_passed_on_at_once(server: Server) -> None:
    begun = asyncio.Event()

    async def drain() -> None:
        begun.set()
        await asyncio.Event().wait()

    with on_termination(drain):
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(begun.wait(), 5)
        os.kill(os.getpid(), signal.SIGINT)
        assert await server.told() == signal.SIGINT


async def test_a_failed_drain_does_not_keep_the_process(server: Server) -> None:
    async def drain() -> None:
        raise ZeroDivisionError

    with on_termination(drain):
        os.kill(os.getpid(), signal.SIGTERM)
        assert await server.told() == signal.SIGTERM
