"""Prepares what an archive needs before it can be laid out: checksums, deflated data, copies of what is elsewhere."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass

from isal import isal_zlib
from msgspec import structs

from haulyard_archiver.memory import Budget
from haulyard_archiver.reading import PartError, source_error
from haulyard_chassis.sources_reading import SOURCE_ERRORS, Reader
from haulyard_chassis.staging import STAGED_PART, StagingWriter, staged
from haulyard_chassis.store import ObjectStore, StoreError
from haulyard_contracts import (
    ErrorCode,
    HttpSource,
    Preparation,
    PreparedRange,
    PrepareTask,
    RangeToPrepare,
    Segment,
)
from haulyard_zipline import crc32

_TYPE = "application/octet-stream"

_BATCH = 1024 * 1024
"""Bytes that are deflated at a time, in another thread: much more than it costs to get there."""

_LEVEL = 1
"""Of ISA-L's levels 0 to 3 the best for speed: about zlib's level 1 in size, several times as fast."""

_RAW = -15
"""Deflate without a header (RFC 1951), with the largest window, as ZIP wants it."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a preparation found out."""

    ranges: tuple[PreparedRange, ...]
    bytes_through: int
    """Source bytes that went through this process."""


class Preparer:
    """Prepares ranges of sources.

    Args:
        store: takes what is staged.
        reader: reads the sources.
        budget: memory for what is on its way to the store.
    """

    def __init__(self, store: ObjectStore, reader: Reader, *, budget: Budget) -> None:
        self._budget = budget
        self._store = store
        self._reader = reader

    async def prepare(self, task: PrepareTask) -> Prepared:
        """Do what the task says; done twice, it gives the same.

        Raises:
            PartError: it cannot be done, now or ever; its code says which.
        """
        if task.action is Preparation.DIGEST:
            ranges = [await self._digest(each) for each in task.ranges]
        else:
            async with self._budget.lend(2 * STAGED_PART):
                ranges = await self._staged(task)
        return Prepared(tuple(ranges), sum(each.length for each in ranges))

    async def _digest(self, wanted: RangeToPrepare) -> PreparedRange:
        length, value = 0, 0
        async with aclosing(self._chunks(wanted)) as chunks:
            async for chunk in chunks:
                value = crc32(chunk, value)
                length += len(chunk)
        return PreparedRange(position=wanted.position, offset=wanted.offset, length=length, crc32=value)

    async def _staged(self, task: PrepareTask) -> list[PreparedRange]:
        """Put the ranges, deflated or as they are, one behind the other into a staging object."""
        ranges: list[tuple[PreparedRange, int, int]] = []
        # Of its own for each time that the task is done: one that is done again must not replace what the first result
        # tells of, while others read it.
        key = f"{task.key}-{secrets.token_hex(4)}"
        try:
            async with staged(self._store, task.bucket, key, content_type=_TYPE) as writer:
                for wanted in task.ranges:
                    start = writer.position
                    read = await self._stage(wanted, task.action, writer)
                    ranges.append((read, start, writer.position - start))
                made = await writer.finish()
        except StoreError as error:  # not of reading: those are translated where they come up
            raise PartError(ErrorCode.STORE_UNAVAILABLE, f"the staging object could not be written: {error}") from error
        return [
            structs.replace(
                read,
                segment=Segment(bucket=task.bucket, key=key, etag=made.etag, offset=start, length=length),
            )
            if length
            else read
            for read, start, length in ranges
        ]

    async def _stage(self, wanted: RangeToPrepare, action: Preparation, writer: StagingWriter) -> PreparedRange:
        length, value = 0, 0
        deflater = Deflater(is_last=wanted.is_last) if action is Preparation.DEFLATE else None
        async with aclosing(self._chunks(wanted)) as chunks:
            async for batch in _batches(chunks):
                value = crc32(batch, value)
                length += len(batch)
                await writer.write(await deflater.add(batch) if deflater else batch)
        if deflater and length:
            await writer.write(deflater.end())
        return PreparedRange(position=wanted.position, offset=wanted.offset, length=length, crc32=value)

    async def _chunks(self, wanted: RangeToPrepare) -> AsyncGenerator[bytes, None]:
        """Yield what is to be prepared; what goes wrong in reading it is the file's fault, and nobody else's."""
        try:
            async with self._open(wanted) as chunks:
                async for chunk in chunks:
                    yield chunk
        except SOURCE_ERRORS as error:
            raise source_error(error, wanted.source, name=wanted.name, entry=wanted.position) from error

    def _open(self, wanted: RangeToPrepare) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        if wanted.length is not None:
            return self._reader.open(wanted.source, offset=wanted.offset, length=wanted.length)
        if not isinstance(wanted.source, HttpSource):
            raise PartError(ErrorCode.INTERNAL, "only the length of what an origin serves can be unknown")
        return self._reader.open_all(wanted.source)


class Deflater:
    """Deflates one block of an entry (RFC 1951). Blocks of one entry, made apart, joined are one stream.

    Args:
        is_last: the block ends the stream; others end at a byte border, with nothing in the window (a full flush).
    """

    def __init__(self, *, is_last: bool) -> None:
        self._stream = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _RAW)
        self._end = isal_zlib.Z_FINISH if is_last else isal_zlib.Z_FULL_FLUSH

    async def add(self, data: bytes) -> bytes:
        """Return what more there is of the deflated block, after more of its data."""
        return await asyncio.to_thread(self._stream.compress, data)

    def end(self) -> bytes:
        """Return the end of the deflated block."""
        return self._stream.flush(self._end)


async def _batches(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Yield the same bytes in batches of one size, but for the last.

    What comes out of a deflater depends on how its input is cut, and the same source has to give the same archive.
    """
    batch = bytearray()
    async for chunk in chunks:
        batch += chunk
        while len(batch) >= _BATCH:
            yield bytes(batch[:_BATCH])
            del batch[:_BATCH]
    if batch:
        yield bytes(batch)
