"""Reading ranges of sources, wherever they are, and saying in the job's words why one cannot be read."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from haulyard_chassis.egress import UnsafeUrlError
from haulyard_chassis.origin import (
    Origin,
    OriginChangedError,
    OriginDeniedError,
    OriginError,
    OriginNotFoundError,
)
from haulyard_chassis.store import (
    AccessDeniedError,
    ObjectChangedError,
    ObjectNotFoundError,
    ObjectStore,
    StoreError,
)
from haulyard_contracts import ErrorCode, HttpSource, InlineSource, ObjectSource, Segment, SegmentedSource, Source

SOURCE_ERRORS = (StoreError, OriginError, UnsafeUrlError)
"""What reading raises."""


class PartError(Exception):
    """The part could not be made, or something not be prepared.

    Args:
        code: why.
        message: for people; becomes part of the job's status.
        entry: index of the entry (of a preparation: position of the file) whose source was the reason, if it was one.
    """

    def __init__(self, code: ErrorCode, message: str, *, entry: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.entry = entry


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


_REASONS: dict[type[Exception], tuple[ErrorCode, str]] = {
    ObjectNotFoundError: (ErrorCode.FILE_NOT_FOUND, "its object is gone"),
    ObjectChangedError: (ErrorCode.SOURCE_CHANGED, "its object was replaced while the archive was being made"),
    AccessDeniedError: (ErrorCode.PERMISSION_DENIED, "the store does not let us read it"),
    OriginNotFoundError: (ErrorCode.FILE_NOT_FOUND, "its origin no longer has it"),
    OriginChangedError: (ErrorCode.SOURCE_CHANGED, "it was replaced while the archive was being made"),
    OriginDeniedError: (ErrorCode.PERMISSION_DENIED, "its origin does not let us read it"),
    UnsafeUrlError: (ErrorCode.PERMISSION_DENIED, "its URL may not be requested"),
}


def source_error(error: Exception, source: Source | None, *, name: str, entry: int) -> PartError:
    """Return what an error of reading means for the job.

    What was staged is ours: that it cannot be read says nothing of the file, and it is only tried again.
    """
    if isinstance(source, SegmentedSource):
        return PartError(ErrorCode.SOURCE_UNAVAILABLE, f"{name}: what was staged of it cannot be read: {error}")
    code, reason = _REASONS.get(type(error), (ErrorCode.SOURCE_UNAVAILABLE, f"it could not be read: {error}"))
    return PartError(code, f"{name}: {reason}", entry=entry)
