"""A body on its way to the store: exactly as long as announced, or not accepted at all.

Left alone, the HTTP client cuts a body that is too long, waits a minute for the rest of one that is too short, delivers
one whose source fails after its last byte, leaves the source open when the store answers early, and waits for ever for
a store that takes no more bytes. So the source is wrapped: the last chunk leaves only when the source has ended well.
"""

import asyncio
from collections.abc import AsyncIterator

STALL = 60.0
"""Seconds in which the store must take a chunk."""

Chunk = bytes | memoryview


class BodyLengthError(ValueError):
    """The body does not have the size that was announced: a fault of the caller."""


class Outgoing:
    """Passes the chunks of ``source`` on, and checks them.

    Args:
        source: the chunks.
        size: bytes that they must have together.
        deadline: an entered timeout, moved on with each chunk that the store takes.
    """

    def __init__(self, source: AsyncIterator[Chunk], size: int, deadline: asyncio.Timeout) -> None:
        self._source = source
        self._size = size
        self._sent = 0
        self._deadline = deadline
        self._turn = asyncio.Lock()
        self._closed = False
        self.finished = False
        """Whether all bytes were passed on and the source has ended."""
        self.error: Exception | None = None
        """Why the body broke off, if the source or its length was the reason."""

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        async with self._turn:
            if self._closed:
                raise StopAsyncIteration
            self._allow(None)  # how long the source takes is not for us to say
            try:
                chunk = await self._checked()
            except Exception as error:
                self.error = error
                raise
            if chunk is None:
                self.finished = True
                raise StopAsyncIteration
            self._allow(STALL)
            return chunk

    async def aclose(self) -> None:
        """Close the source, once nobody reads from it any more."""
        async with self._turn:
            self._closed = True
            self._allow(None)
            close = getattr(self._source, "aclose", None)
            if close is not None:
                await close()

    async def _checked(self) -> Chunk | None:
        chunk = await self._pull()
        if chunk is None:
            if self._sent < self._size:
                raise BodyLengthError(f"the body ended after {self._sent} of {self._size} bytes")
            return None
        self._sent += len(chunk)
        if self._sent > self._size or (self._sent == self._size and await self._pull() is not None):
            raise BodyLengthError(f"the body is longer than the {self._size} bytes announced")
        return chunk

    async def _pull(self) -> Chunk | None:
        async for chunk in self._source:
            if len(chunk):
                return chunk
        return None

    def _allow(self, seconds: float | None) -> None:
        if not self._deadline.expired():
            self._deadline.reschedule(seconds and asyncio.get_running_loop().time() + seconds)
