"""CRC-32 of sources that nobody has read yet, computed when an archive is to be streamed before it is built.

Found out once for all requests of this process: a client that asks for many ranges must not have everything read again
for each.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from haulyard_chassis.tasks import cancel_and_wait
from haulyard_contracts import Source, encode
from haulyard_gateway.archive_ports import SourceReader
from haulyard_zipline import crc32, join_crcs

_BLOCK: Final = 8 * 1024 * 1024
"""Bytes that are read one after the other; blocks are read side by side."""
CHECKSUMS_AT_ONCE: Final = 8
"""Blocks that one process reads at the same time."""
_REMEMBERED: Final = 10_000
"""Sources of which the CRC-32 is kept."""


@dataclass(frozen=True, slots=True)
class Unread:
    """A source of which the CRC-32 is wanted."""

    source: Source
    size: int
    """Bytes of it."""


class Checksums:
    """Computes CRC-32s."""

    def __init__(self, reader: SourceReader) -> None:
        self._reader = reader
        self._gate = asyncio.Semaphore(CHECKSUMS_AT_ONCE)
        self._found: OrderedDict[bytes, asyncio.Task[int]] = OrderedDict()

    async def of(self, wanted: Sequence[Unread]) -> list[int]:
        """Return the CRC-32 of each source.

        Raises:
            StoreError, OriginError, UnsafeUrlError: one cannot be read, or is no longer what was planned with.
        """
        tasks = [self._task(each) for each in wanted]
        # Others may wait for the same, so that one who leaves does not end it.
        return list(await asyncio.gather(*(asyncio.shield(task) for task in tasks)))

    async def close(self) -> None:
        """End what is still being read."""
        await cancel_and_wait(*self._found.values())

    def _task(self, wanted: Unread) -> asyncio.Task[int]:
        key = encode(wanted.source)
        task = self._found.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = asyncio.create_task(self._compute(wanted), name="checksum of a source")
            task.add_done_callback(_looked_at)
            self._found[key] = task
        self._found.move_to_end(key)
        while len(self._found) > _REMEMBERED:
            self._found.popitem(last=False)
        return task

    async def _compute(self, wanted: Unread) -> int:
        offsets = range(0, wanted.size, _BLOCK)
        lengths = [min(_BLOCK, wanted.size - offset) for offset in offsets]
        blocks = zip(offsets, lengths, strict=True)
        found = await asyncio.gather(*(self._block(wanted.source, offset, length) for offset, length in blocks))
        return join_crcs(zip(found, lengths, strict=True))

    async def _block(self, source: Source, offset: int, length: int) -> int:
        value = 0
        async with self._gate, self._reader.open(source, offset=offset, length=length) as chunks:
            async for chunk in chunks:
                value = crc32(chunk, value)
        return value


def _looked_at(task: asyncio.Task[int]) -> None:
    """Whoever waited has been told of an error; if all have left, nobody wants to know."""
    if not task.cancelled():
        task.exception()
