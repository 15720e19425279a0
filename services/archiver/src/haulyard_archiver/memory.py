"""How much of an archiver's memory its tasks may fill together."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Budget:
    """Lends bytes of memory to tasks, in the order in which they ask.

    Args:
        size: bytes that are lent at the same time.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._free = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def lend(self, size: int) -> AsyncIterator[None]:
        """Wait until so many bytes are free, and keep them while the context is open.

        What is larger than all there is waits until it is alone.
        """
        size = min(size, self._size)
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        self._serve()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._free += size  # it was granted in the same moment
            else:
                self._waiting.remove((size, turn))
            self._serve()
            raise
        try:
            yield
        finally:
            self._free += size
            self._serve()

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            size, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._free -= size
                turn.set_result(None)
