"""Makes one part: bytes from the sources into the store.

A part is either one slice of a large entry, which streams from source to store with one chunk in memory, or a packed
part, which is put together in memory (16 MiB and a bit) so that headers can be written after their data was read.
In both, the CRC-32 of every byte read is found out on the way, so no source is read twice.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from haulyard_chassis.store import (
    AccessDeniedError,
    ObjectChangedError,
    ObjectNotFoundError,
    ObjectStore,
    StoreError,
    StoreUnavailableError,
    UploadGoneError,
    in_chunks,
)
from haulyard_contracts import (
    DataPiece,
    DirectoryPiece,
    ErrorCode,
    HeaderPiece,
    InlineSource,
    ObjectSource,
    PartTask,
    SliceCrc,
    TaskEntry,
)
from haulyard_zipline import Entry, crc32, crc32_combine, directory_at, local_header

MAX_PACKED = 32 * 1024 * 1024
"""Bytes that a packed part may have: what a slot may hold in memory."""

ZIP = "application/zip"


class PartError(Exception):
    """The part could not be made.

    Args:
        code: why.
        message: for people; becomes part of the job's status.
        entry: index of the entry whose source was the reason, if it was one.
    """

    def __init__(self, code: ErrorCode, message: str, *, entry: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.entry = entry


@dataclass(frozen=True, slots=True)
class MadePart:
    """A part that is in the store."""

    etag: str
    slices: tuple[SliceCrc, ...]
    bytes_through: int
    """Source bytes that went through this process."""


class PartMaker:
    """Makes parts.

    Args:
        store: holds the sources and takes the archive.
        readers: small files that are read at the same time for one packed part.
    """

    def __init__(self, store: ObjectStore, *, readers: int) -> None:
        self._store = store
        self._readers = readers

    async def make(self, task: PartTask) -> MadePart:
        """Make the part of ``task`` and return what the store says.

        Raises:
            PartError: it cannot be made, now or ever; its code says which.
        """
        entries = {entry.index: entry for entry in task.entries}
        if len(task.pieces) == 1 and isinstance(task.pieces[0], DataPiece):
            piece = task.pieces[0]
            entry = entries[piece.entry]
            if isinstance(entry.source, ObjectSource):
                return await self._stream(task, piece, entry, entry.source)
        return await self._pack(task, entries)

    async def _stream(self, task: PartTask, piece: DataPiece, entry: TaskEntry, source: ObjectSource) -> MadePart:
        try:
            async with self._store.read(
                source.bucket, source.key, etag=source.etag, offset=piece.offset, length=piece.length
            ) as chunks:
                body = _Measured(chunks)
                try:
                    etag = await self._write(task, body)
                except PartError:
                    # When reading breaks, so does the request that was being fed; the reason is the reading.
                    if body.error is not None:
                        raise body.error from None
                    raise
        except StoreError as error:
            raise _source_error(error, entry) from error
        found = SliceCrc(entry=entry.index, offset=piece.offset, length=piece.length, crc32=body.crc32)
        return MadePart(etag, (found,), piece.length)

    async def _pack(self, task: PartTask, entries: Mapping[int, TaskEntry]) -> MadePart:
        if task.size > MAX_PACKED:
            raise PartError(ErrorCode.INTERNAL, f"a packed part of {task.size} bytes is more than {MAX_PACKED}")
        buffer = bytearray(task.size)
        view = memoryview(buffer)
        slices = await self._read_all(task, entries, view)
        checksums = _checksums(entries, slices)
        for start, piece in _placed(task, entries):
            if isinstance(piece, HeaderPiece):
                header = local_header(_entry(entries[piece.entry], checksums))
                buffer[start : start + len(header)] = header
            elif isinstance(piece, DirectoryPiece):
                listed = [_entry(entry, checksums) for entry in task.entries]
                end = directory_at(listed, [entry.offset for entry in task.entries], piece.offset)
                if start + len(end) != task.size:
                    raise PartError(ErrorCode.INTERNAL, f"the part is {start + len(end)} bytes, planned {task.size}")
                view[start:] = end
        etag = await self._write(task, in_chunks(view))
        through = sum(found.length for found in slices if isinstance(entries[found.entry].source, ObjectSource))
        return MadePart(etag, slices, through)

    async def _read_all(
        self, task: PartTask, entries: Mapping[int, TaskEntry], view: memoryview
    ) -> tuple[SliceCrc, ...]:
        """Read all data of a part to its places, several files at a time; return what it is, in order."""
        gate = asyncio.Semaphore(self._readers)
        failures: tuple[Exception, ...] = ()
        try:
            async with asyncio.TaskGroup() as group:
                reads = [
                    group.create_task(self._fill(view[start : start + piece.length], piece, entries[piece.entry], gate))
                    for start, piece in _placed(task, entries)
                    if isinstance(piece, DataPiece)
                ]
        except* PartError as errors:
            failures = errors.exceptions
        if failures:  # raised out here: early releases of Python 3.11 put what is raised in there into a group again
            raise failures[0]
        return tuple(read.result() for read in reads)

    async def _fill(self, target: memoryview, piece: DataPiece, entry: TaskEntry, gate: asyncio.Semaphore) -> SliceCrc:
        """Read a slice into its place and return its CRC-32."""
        if isinstance(entry.source, ObjectSource):
            source = entry.source
            position, value = 0, 0
            try:
                async with (
                    gate,
                    self._store.read(
                        source.bucket, source.key, etag=source.etag, offset=piece.offset, length=piece.length
                    ) as chunks,
                ):
                    async for chunk in chunks:
                        target[position : position + len(chunk)] = chunk
                        position += len(chunk)
                        value = crc32(chunk, value)
            except StoreError as error:
                raise _source_error(error, entry) from error
        elif isinstance(entry.source, InlineSource):
            data = entry.source.data[piece.offset : piece.offset + piece.length]
            target[:] = data
            value = crc32(data)
        else:
            raise PartError(ErrorCode.INTERNAL, f"entry {entry.index} has data here and no source")
        if entry.crc32 is not None and piece.length == entry.size and value != entry.crc32:
            raise PartError(
                ErrorCode.CHECKSUM_MISMATCH,
                f"{entry.name}: CRC-32 is {value:08x}, the catalogue has {entry.crc32:08x}",
                entry=entry.index,
            )
        return SliceCrc(entry=piece.entry, offset=piece.offset, length=piece.length, crc32=value)

    async def _write(self, task: PartTask, body: AsyncIterator[bytes | memoryview]) -> str:
        try:
            if task.upload_id is None:
                return await self._store.put(task.bucket, task.key, body, size=task.size, content_type=ZIP)
            return await self._store.upload_part(
                task.bucket, task.key, upload_id=task.upload_id, number=task.number, body=body, size=task.size
            )
        except StoreError as error:
            raise PartError(_write_code(error), f"the archive could not be written: {error}") from error


class _Measured:
    """Passes chunks on, computes their CRC-32, and remembers the error that ended them."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self.crc32 = 0
        self.error: StoreError | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            raise
        except StoreError as error:
            self.error = error
            raise
        except Exception as error:
            self.error = StoreUnavailableError(repr(error))
            raise self.error from error
        self.crc32 = crc32(chunk, self.crc32)
        return chunk


def _placed(
    task: PartTask, entries: Mapping[int, TaskEntry]
) -> list[tuple[int, HeaderPiece | DataPiece | DirectoryPiece]]:
    """Return each piece with the place in the part, in bytes, where it starts."""
    placed, position = [], 0
    for piece in task.pieces:
        placed.append((position, piece))
        if isinstance(piece, HeaderPiece):
            # The length of a header does not depend on its CRC.
            position += len(local_header(_entry(entries[piece.entry], {piece.entry: 0})))
        elif isinstance(piece, DataPiece):
            position += piece.length
    return placed


def _checksums(entries: Mapping[int, TaskEntry], slices: tuple[SliceCrc, ...]) -> dict[int, int]:
    """Return the CRC-32 of every entry that this part can know."""
    checksums = {index: entry.crc32 for index, entry in entries.items() if entry.crc32 is not None}
    for index, entry in entries.items():
        if index not in checksums and entry.size == 0:
            checksums[index] = 0
    for found in slices:
        entry = entries[found.entry]
        if found.entry in checksums:
            continue
        if found.length == entry.size:
            checksums[found.entry] = found.crc32
        elif entry.tail_crc32 is not None and found.length + entry.tail_length == entry.size:
            checksums[found.entry] = crc32_combine(found.crc32, entry.tail_crc32, entry.tail_length)
    for index, entry in entries.items():
        # A large entry none of whose data is in the part that holds its header.
        if index not in checksums and entry.tail_crc32 is not None and entry.tail_length == entry.size:
            checksums[index] = entry.tail_crc32
    return checksums


def _entry(entry: TaskEntry, checksums: Mapping[int, int]) -> Entry:
    known = checksums.get(entry.index, entry.crc32)
    if known is None:
        raise PartError(ErrorCode.INTERNAL, f"the CRC-32 of entry {entry.index} is not known")
    return Entry(entry.name, entry.size, known, entry.mtime)


def _source_error(error: StoreError, entry: TaskEntry) -> PartError:
    codes: dict[type[StoreError], tuple[ErrorCode, str]] = {
        ObjectNotFoundError: (ErrorCode.FILE_NOT_FOUND, "its object is gone"),
        ObjectChangedError: (ErrorCode.SOURCE_CHANGED, "its object was replaced while the archive was being made"),
        AccessDeniedError: (ErrorCode.PERMISSION_DENIED, "the store does not let us read it"),
    }
    code, reason = codes.get(type(error), (ErrorCode.SOURCE_UNAVAILABLE, f"it could not be read: {error}"))
    return PartError(code, f"{entry.name}: {reason}", entry=entry.index)


def _write_code(error: StoreError) -> ErrorCode:
    codes: dict[type[StoreError], ErrorCode] = {
        UploadGoneError: ErrorCode.UPLOAD_GONE,
        AccessDeniedError: ErrorCode.PERMISSION_DENIED,
        StoreUnavailableError: ErrorCode.STORE_UNAVAILABLE,
        ObjectNotFoundError: ErrorCode.STORE_UNAVAILABLE,  # the bucket is gone, or not made yet
    }
    return codes.get(type(error), ErrorCode.INTERNAL)
