"""Reading ranges of sources, wherever they are, as tasks and the record name them (`haulyard_contracts.Source`)."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from haulyard_chassis.egress import UnsafeUrlError
from haulyard_chassis.origin import Origin, OriginError
from haulyard_chassis.store import ObjectStore, StoreError
from haulyard_contracts import HttpSource, InlineSource, ObjectSource, Segment, SegmentedSource, Source

SOURCE_ERRORS = (StoreError, OriginError, UnsafeUrlError)
"""What reading raises."""


class Reader:
    """Reads sources.

    Args:
        store: holds the objects.
        origin: gets what is not in the store.
    """

    def __init__(self, store: ObjectStore, origin: Origin) -> None:
        self._store = store
        self._origin = origin

    @asynccontextmanager
    async def open(self, source: Source, *, offset: int, length: int) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a range of a source's data and yield its chunks: exactly ``length`` bytes, or an error.

        Raises:
            StoreError, OriginError, UnsafeUrlError: it cannot be read, or is no longer what was planned with.
        """
        match source:
            case ObjectSource():
                async with self._store.read(
                    source.bucket, source.key, etag=source.etag, offset=offset, length=length
                ) as chunks:
                    yield chunks
            case HttpSource():
                async with self._origin.read(
                    source.url, validator=source.validator or "", offset=offset, length=length
                ) as chunks:
                    yield chunks
            case SegmentedSource():
                async with aclosing(self._one_by_one(source, offset, length)) as chunks:
                    yield chunks
            case InlineSource():
                async with aclosing(_at_once(source.data[offset : offset + length])) as chunks:
                    yield chunks

    @asynccontextmanager
    async def open_all(self, source: HttpSource) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open the whole of what an origin serves, however long it is.

        Raises:
            OriginError, UnsafeUrlError
        """
        async with self._origin.read_all(source.url) as chunks:
            yield chunks

    async def _one_by_one(self, source: SegmentedSource, offset: int, length: int) -> AsyncGenerator[bytes, None]:
        for segment in ranges_of(source, offset, length):
            async with self._store.read(
                segment.bucket, segment.key, etag=segment.etag, offset=segment.offset, length=segment.length
            ) as chunks:
                async for chunk in chunks:
                    yield chunk


async def _at_once(data: bytes) -> AsyncGenerator[bytes, None]:
    yield data


def ranges_of(source: SegmentedSource, offset: int, length: int) -> list[Segment]:
    """Return the ranges of objects that hold ``length`` bytes of the entry's data, from ``offset`` on.

    Raises:
        ValueError: the source does not have all of them.
    """
    found: list[Segment] = []
    position, end, left = source.start, offset + length, length
    for segment in source.segments:
        low, high = max(offset, position), min(end, position + segment.length)
        if low < high:
            found.append(
                Segment(
                    bucket=segment.bucket,
                    key=segment.key,
                    etag=segment.etag,
                    offset=segment.offset + low - position,
                    length=high - low,
                )
            )
            left -= high - low
        position += segment.length
    if left:
        raise ValueError(f"{left} of {length} bytes from {offset} on are in no segment")
    return found


def object_range(source: Source | None, offset: int, length: int) -> Segment:
    """Return the one range of an object in the store that holds a slice of an entry's data.

    Raises:
        ValueError: there is no such range.
    """
    if isinstance(source, ObjectSource):
        return Segment(bucket=source.bucket, key=source.key, etag=source.etag, offset=offset, length=length)
    if isinstance(source, SegmentedSource):
        found = ranges_of(source, offset, length)
        if len(found) == 1:
            return found[0]
    raise ValueError("the slice is not in one object of the store")
