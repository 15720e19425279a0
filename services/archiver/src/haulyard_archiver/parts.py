"""Makes one part: bytes from the sources into the store.

* A slice of one object is copied by the store itself; if nobody knows its CRC-32, it is read meanwhile.
* A slice of anything else streams from source to store with one chunk in memory.
* A packed part is put together in memory (16 MiB and a bit), so that headers can be written after their data was read.
* A part of many pieces that is larger than that streams piece by piece; its headers must be known.

The CRC-32 of every byte read is found out on the way, so no source is read twice.
"""

import asyncio
import mmap
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from haulyard_archiver.memory import Budget
from haulyard_archiver.reading import PartError, source_error
from haulyard_chassis.sources_reading import SOURCE_ERRORS, Reader, object_range
from haulyard_chassis.store import (
    AccessDeniedError,
    CopiedPart,
    ObjectChangedError,
    ObjectNotFoundError,
    ObjectStore,
    StoreError,
    StoreRefusedError,
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
    Piece,
    Segment,
    SliceCrc,
    TaskEntry,
)
from haulyard_zipline import Entry, crc32, crc32_combine, directory_at, local_header, local_header_size

MAX_PACKED = 32 * 1024 * 1024
"""Bytes that a packed part may have: what a slot may hold in memory."""

ZIP = "application/zip"


@dataclass(frozen=True, slots=True)
class MadePart:
    """A part that is in the store."""

    etag: str
    slices: tuple[SliceCrc, ...]
    bytes_through: int = 0
    """Source bytes that went through this process."""
    bytes_copied: int = 0
    """Source bytes that the store copied by itself."""
    checksum: int | None = None
    """CRC-32 of the part, where the upload was created with it."""


class PartMaker:
    """Makes parts.

    Args:
        store: takes the archive, and copies.
        reader: reads the sources.
        budget: memory for packed parts.
        readers: small files that are read at the same time for one packed part.
    """

    def __init__(self, store: ObjectStore, reader: Reader, *, budget: Budget, readers: int) -> None:
        self._budget = budget
        self._store = store
        self._reader = reader
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
            if task.copy:
                return await self._copy(task, piece, entry)
            if not isinstance(entry.source, InlineSource):
                return await self._stream(task, piece, entry)
        if task.size > MAX_PACKED:
            return await self._assemble(task, entries)
        async with self._budget.lend(task.size):
            return await self._pack(task, entries)

    # Copies

    async def _copy(self, task: PartTask, piece: DataPiece, entry: TaskEntry) -> MadePart:
        source = object_range(entry.source, piece.offset, piece.length)
        has_to_be_read = entry.crc32 is None and entry.packed is None and not task.checksum
        failures: tuple[Exception, ...] = ()
        try:
            async with asyncio.TaskGroup() as group:
                copying = group.create_task(self._copy_range(task, source))
                reading = group.create_task(self._digest(piece, entry)) if has_to_be_read else None
        except* Exception as errors:  # noqa: BLE001 - told apart below
            failures = errors.exceptions
        if failures:  # raised out here: early releases of Python 3.11 put what is raised in there into a group again
            failure = failures[0]
            if isinstance(failure, StoreRefusedError) and not task.checksum:
                # Some stores copy no range of an object that is hardly larger than a part.
                return await self._stream(task, piece, entry)
            if isinstance(failure, UploadGoneError):
                raise PartError(_write_code(failure), f"the archive could not be written: {failure}") from failure
            is_of_copy = not copying.cancelled() and copying.exception() is failure
            if is_of_copy and isinstance(failure, StoreUnavailableError):
                raise await self._copy_error(failure, piece, entry) from failure
            if isinstance(failure, SOURCE_ERRORS):
                raise source_error(failure, entry.source, name=entry.name, entry=entry.index) from failure
            raise failure
        copied = copying.result()
        if task.check_source and isinstance(entry.source, ObjectSource):
            await self._check(entry.source, entry)
        found = reading.result() if reading is not None else copied.crc32
        if task.checksum and copied.crc32 is None:
            raise PartError(ErrorCode.INTERNAL, "the store does not tell the checksum of the part that it copied")
        return MadePart(
            copied.etag,
            () if found is None or entry.packed is not None else (_slice(piece, found),),
            bytes_through=piece.length if reading is not None else 0,
            bytes_copied=piece.length,
            checksum=copied.crc32 if task.checksum else None,
        )

    async def _copy_range(self, task: PartTask, source: Segment) -> CopiedPart:
        return await self._store.copy_part(
            task.bucket,
            task.key,
            upload_id=task.upload_id or "",
            number=task.number,
            source_bucket=source.bucket,
            source_key=source.key,
            etag=source.etag,
            offset=source.offset,
            length=source.length,
        )

    async def _copy_error(self, failure: StoreUnavailableError, piece: DataPiece, entry: TaskEntry) -> PartError:
        """Return whether a copy failed for its source or for the archive: the store does not tell, so read a little."""
        if entry.source is not None:
            try:
                async with self._reader.open(entry.source, offset=piece.offset, length=1) as chunks:
                    async for _ in chunks:
                        pass
            except SOURCE_ERRORS as error:
                return source_error(error, entry.source, name=entry.name, entry=entry.index)
        return PartError(_write_code(failure), f"the archive could not be written: {failure}")

    async def _digest(self, piece: DataPiece, entry: TaskEntry) -> int:
        """Return the CRC-32 of a slice."""
        if entry.source is None:
            raise PartError(ErrorCode.INTERNAL, f"entry {entry.index} has data here and no source")
        value = 0
        async with self._reader.open(entry.source, offset=piece.offset, length=piece.length) as chunks:
            async for chunk in chunks:
                value = crc32(chunk, value)
        return value

    async def _check(self, source: ObjectSource, entry: TaskEntry) -> None:
        """Make sure that what was copied is what was planned: this store copies without looking.

        An ETag that was another one meanwhile and is back again comes with another date.
        """
        try:
            info = await self._store.head(source.bucket, source.key)
        except StoreError as error:
            raise source_error(error, source, name=entry.name, entry=entry.index) from error
        if info.etag != source.etag or source.modified not in (None, int(info.modified.timestamp())):
            changed = ObjectChangedError(f"{source.bucket}/{source.key} is now {info.etag}, not {source.etag}")
            raise source_error(changed, source, name=entry.name, entry=entry.index)

    # What streams

    async def _stream(self, task: PartTask, piece: DataPiece, entry: TaskEntry) -> MadePart:
        if entry.source is None:
            raise PartError(ErrorCode.INTERNAL, f"entry {entry.index} has data here and no source")
        try:
            async with self._reader.open(entry.source, offset=piece.offset, length=piece.length) as chunks:
                body = _Measured(chunks)
                try:
                    etag = await self._write(task, body)
                except PartError:
                    # When reading breaks, so does the request that was being fed; the reason is the reading.
                    if body.error is not None:
                        raise body.error from None
                    raise
        except SOURCE_ERRORS as error:
            raise source_error(error, entry.source, name=entry.name, entry=entry.index) from error
        slices = () if entry.packed is not None else (_slice(piece, body.crc32),)
        return MadePart(etag, slices, bytes_through=piece.length)

    async def _assemble(self, task: PartTask, entries: Mapping[int, TaskEntry]) -> MadePart:
        """Make a part of many pieces that is too large for memory: one piece behind the other."""
        slices: list[SliceCrc] = []
        checksums = _checksums(entries, ())
        failure: list[PartError] = []

        async def body() -> AsyncGenerator[bytes, None]:
            try:
                for piece in task.pieces:
                    if isinstance(piece, DataPiece):
                        async for chunk in self._measured(piece, entries[piece.entry], slices):
                            yield chunk
                    else:
                        yield _literal(piece, task, entries, checksums)
            except PartError as error:
                failure.append(error)
                raise

        async with aclosing(body()) as chunks:
            try:
                etag = await self._write(task, chunks)
            except PartError:
                if failure:
                    raise failure[0] from None
                raise
        return MadePart(etag, tuple(slices), bytes_through=_through(task, entries))

    async def _measured(
        self, piece: DataPiece, entry: TaskEntry, slices: list[SliceCrc]
    ) -> AsyncGenerator[bytes, None]:
        if entry.source is None:
            raise PartError(ErrorCode.INTERNAL, f"entry {entry.index} has data here and no source")
        value = 0
        try:
            async with self._reader.open(entry.source, offset=piece.offset, length=piece.length) as chunks:
                async for chunk in chunks:
                    value = crc32(chunk, value)
                    yield chunk
        except SOURCE_ERRORS as error:
            raise source_error(error, entry.source, name=entry.name, entry=entry.index) from error
        _check_whole(piece, entry, value)
        if entry.packed is None:
            slices.append(_slice(piece, value))

    # What is put together in memory

    async def _pack(self, task: PartTask, entries: Mapping[int, TaskEntry]) -> MadePart:
        # Memory of its own, that goes back to the system when the part is done: the allocator would keep it.
        view = memoryview(mmap.mmap(-1, task.size))
        slices = await self._read_all(task, entries, view)
        checksums = _checksums(entries, slices)
        for start, piece in _placed(task, entries):
            if not isinstance(piece, DataPiece):
                literal = _literal(piece, task, entries, checksums)
                if start + len(literal) > task.size:
                    raise PartError(ErrorCode.INTERNAL, f"the part is more than the {task.size} bytes planned")
                view[start : start + len(literal)] = literal
        checksum = crc32(view) if task.checksum else None
        etag = await self._write(task, in_chunks(view), checksum=checksum)
        return MadePart(etag, slices, bytes_through=_through(task, entries), checksum=checksum)

    async def _read_all(
        self, task: PartTask, entries: Mapping[int, TaskEntry], view: memoryview
    ) -> tuple[SliceCrc, ...]:
        """Read all data of a part to its places, several files at a time; return the CRC-32 of what is not deflated."""
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
        return tuple(found for found in (read.result() for read in reads) if entries[found.entry].packed is None)

    async def _fill(self, target: memoryview, piece: DataPiece, entry: TaskEntry, gate: asyncio.Semaphore) -> SliceCrc:
        """Read a slice into its place and return its CRC-32."""
        if entry.source is None:
            raise PartError(ErrorCode.INTERNAL, f"entry {entry.index} has data here and no source")
        position, value = 0, 0
        try:
            async with gate, self._reader.open(entry.source, offset=piece.offset, length=piece.length) as chunks:
                async for chunk in chunks:
                    target[position : position + len(chunk)] = chunk
                    position += len(chunk)
                    value = crc32(chunk, value)
        except SOURCE_ERRORS as error:
            raise source_error(error, entry.source, name=entry.name, entry=entry.index) from error
        _check_whole(piece, entry, value)
        return _slice(piece, value)

    async def _write(
        self, task: PartTask, body: AsyncIterator[bytes | memoryview], *, checksum: int | None = None
    ) -> str:
        try:
            if task.upload_id is None:
                return await self._store.put(task.bucket, task.key, body, size=task.size, content_type=ZIP)
            return await self._store.upload_part(
                task.bucket,
                task.key,
                upload_id=task.upload_id,
                number=task.number,
                body=body,
                size=task.size,
                crc32=checksum,
            )
        except StoreError as error:
            raise PartError(_write_code(error), f"the archive could not be written: {error}") from error


class _Measured:
    """Passes chunks on, computes their CRC-32, and remembers the error that ended them."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self.crc32 = 0
        self.error: Exception | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            raise
        except SOURCE_ERRORS as error:
            self.error = error
            raise
        except Exception as error:
            self.error = StoreUnavailableError(repr(error))
            raise self.error from error
        self.crc32 = crc32(chunk, self.crc32)
        return chunk


def _slice(piece: DataPiece, value: int) -> SliceCrc:
    return SliceCrc(entry=piece.entry, offset=piece.offset, length=piece.length, crc32=value)


def _check_whole(piece: DataPiece, entry: TaskEntry, value: int) -> None:
    """Refuse a file that does not have the CRC-32 which the catalogue has for it."""
    is_whole = entry.packed is None and piece.length == entry.size
    if is_whole and entry.crc32 is not None and value != entry.crc32:
        raise PartError(
            ErrorCode.CHECKSUM_MISMATCH,
            f"{entry.name}: CRC-32 is {value:08x}, the catalogue has {entry.crc32:08x}",
            entry=entry.index,
        )


def _through(task: PartTask, entries: Mapping[int, TaskEntry]) -> int:
    return sum(
        piece.length
        for piece in task.pieces
        if isinstance(piece, DataPiece) and not isinstance(entries[piece.entry].source, InlineSource)
    )


def _placed(task: PartTask, entries: Mapping[int, TaskEntry]) -> list[tuple[int, Piece]]:
    """Return each piece with the place in the part, in bytes, where it starts."""
    placed: list[tuple[int, Piece]] = []
    position = 0
    for piece in task.pieces:
        placed.append((position, piece))
        match piece:
            case HeaderPiece():
                whole = local_header_size(_entry(entries[piece.entry], {piece.entry: 0}))
                position += whole - piece.offset if piece.length is None else piece.length
            case DataPiece():
                position += piece.length
            case DirectoryPiece():
                position += piece.length or 0  # without a length it is the end
    return placed


def _literal(
    piece: HeaderPiece | DirectoryPiece,
    task: PartTask,
    entries: Mapping[int, TaskEntry],
    checksums: Mapping[int, int],
) -> bytes:
    """Return the bytes of a header or of the directory, as far as this part holds them."""
    if isinstance(piece, HeaderPiece):
        whole, start = local_header(_entry(entries[piece.entry], checksums)), piece.offset
    else:
        listed = [_entry(entry, checksums) for entry in task.entries]
        whole, start = directory_at(listed, [entry.offset for entry in task.entries], piece.offset), piece.skip
    return whole[start:] if piece.length is None else whole[start : start + piece.length]


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
    return Entry(entry.name, entry.size, known, entry.mtime, entry.packed)


def _write_code(error: StoreError) -> ErrorCode:
    codes: dict[type[StoreError], ErrorCode] = {
        UploadGoneError: ErrorCode.UPLOAD_GONE,
        AccessDeniedError: ErrorCode.PERMISSION_DENIED,
        StoreUnavailableError: ErrorCode.STORE_UNAVAILABLE,
        ObjectNotFoundError: ErrorCode.STORE_UNAVAILABLE,  # the bucket is gone, or not made yet
    }
    return codes.get(type(error), ErrorCode.INTERNAL)
