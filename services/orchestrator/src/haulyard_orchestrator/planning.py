"""Plans a job: from what is known of its files to the tasks that make its archive. Pure functions.

The same files always give the same tasks, and so the same archive.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from haulyard_contracts import (
    DataPiece,
    DirectoryPiece,
    Failure,
    HeaderPiece,
    InlineSource,
    ObjectSource,
    PartTask,
    Piece,
    Source,
    TaskEntry,
)
from haulyard_zipline import Data, Directory, Entry, Header, Layout, Limits, Part, crc32, plan, safe_names

MISSING_FILES = "MISSING-FILES.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A file of the job whose source is there."""

    position: int
    """In the request, from 0."""
    file_id: int
    name: str
    """As in the catalogue; may be unsafe or not unique."""
    bucket: str
    key: str
    etag: str
    size: int
    mtime: int
    """Unix seconds."""
    crc32: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LostFile:
    """A file of the job that cannot be archived."""

    position: int
    file_id: int
    failure: Failure
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFile:
    """A file's place in the archive."""

    file: FoundFile
    entry: int
    name: str
    """Safe and unique."""
    first_part: int
    last_part: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The slice of a large entry that a part holds."""

    entry: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPart:
    """A part and its task."""

    task: PartTask
    data_bytes: int
    """Source bytes in it."""
    is_closing: bool
    """Holds the directory."""
    is_body: bool
    """Nothing but one slice of a large entry."""
    slice: Slice | None
    """Of the large entry that starts or goes on in this part."""
    waits: bool
    """Cannot be made before other parts are done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a job is going to be."""

    files: tuple[PlannedFile, ...]
    parts: tuple[PlannedPart, ...]
    size: int
    """Bytes of the archive."""
    bytes_total: int
    """Bytes of the sources."""


def missing_files_text(lost: Sequence[LostFile]) -> bytes:
    """Return the text that tells a person which files are not in the archive, and why."""
    lines = [
        f"{len(lost)} of the requested files could not be archived:"
        if len(lost) > 1
        else "One of the requested files could not be archived:",
        "",
    ]
    for file in sorted(lost, key=lambda file: file.position):
        label = f"{file.file_id} ({file.name})" if file.name else str(file.file_id)
        lines.append(f"{label}: {file.failure.code}: {file.failure.message}")
    return ("\r\n".join(lines) + "\r\n").encode()


def lay_out(
    found: Sequence[FoundFile], lost: Sequence[LostFile], *, created_at: int, limits: Limits
) -> tuple[list[Entry], list[Source], Layout]:
    """Return the entries of the archive, where the bytes of each come from, and the layout.

    Raises:
        haulyard_zipline.ArchiveTooLargeError
    """
    names = [file.name for file in found]
    sources: list[Source] = [ObjectSource(bucket=file.bucket, key=file.key, etag=file.etag) for file in found]
    if lost:
        names.append(MISSING_FILES)
    safe = safe_names(names)
    entries = [
        Entry(name, file.size, file.crc32 if file.size else 0, file.mtime)
        for file, name in zip(found, safe, strict=False)
    ]
    if lost:
        text = missing_files_text(lost)
        entries.append(Entry(safe[-1], len(text), crc32(text), created_at))
        sources.append(InlineSource(data=text))
    return entries, sources, plan(entries, limits)


def make_plan(
    *,
    job_id: str,
    generation: int,
    bucket: str,
    key: str,
    found: Sequence[FoundFile],
    lost: Sequence[LostFile],
    created_at: int,
    limits: Limits,
) -> Plan:
    """Return the plan of a job; the upload's id is added to the tasks once there is one.

    Args:
        job_id: the job.
        generation: counts its plans, from 1.
        bucket: takes the archive.
        key: of the archive.
        found: files to archive, in the order of the request; at least one.
        lost: files that cannot be archived.
        created_at: when the job was created, Unix seconds.
        limits: sizes of parts.

    Raises:
        haulyard_zipline.ArchiveTooLargeError: the store's limits do not allow an archive of this size.
    """
    entries, sources, layout = lay_out(found, lost, created_at=created_at, limits=limits)
    parts = tuple(
        _planned_part(part, entries, sources, layout, job_id=job_id, generation=generation, bucket=bucket, key=key)
        for part in layout.parts
    )
    files = tuple(
        PlannedFile(
            file=file,
            entry=index,
            name=entries[index].name,
            first_part=layout.spans[index][0],
            last_part=layout.spans[index][1],
        )
        for index, file in enumerate(found)
    )
    return Plan(files=files, parts=parts, size=layout.size, bytes_total=sum(file.size for file in found))


def _planned_part(
    part: Part,
    entries: Sequence[Entry],
    sources: Sequence[Source],
    layout: Layout,
    *,
    job_id: str,
    generation: int,
    bucket: str,
    key: str,
) -> PlannedPart:
    is_closing = any(isinstance(piece, Directory) for piece in part.pieces)
    with_data = {piece.entry for piece in part.pieces if isinstance(piece, Data)}
    needed = range(len(entries)) if is_closing else sorted(_entries_of(part))
    large = _large_entry(part, entries)
    is_body = len(part.pieces) == 1 and isinstance(part.pieces[0], Data)
    known = {index for index, entry in enumerate(entries) if entry.crc32 is not None}
    return PlannedPart(
        task=PartTask(
            job_id=job_id,
            generation=generation,
            number=part.number,
            attempt=1,
            bucket=bucket,
            key=key,
            size=part.size,
            entries=tuple(
                TaskEntry(
                    index=index,
                    name=entries[index].name,
                    size=entries[index].size,
                    mtime=entries[index].mtime,
                    offset=layout.offsets[index],
                    crc32=entries[index].crc32,
                    source=sources[index] if index in with_data else None,
                )
                for index in needed
            ),
            pieces=tuple(_piece(piece, layout) for piece in part.pieces),
        ),
        data_bytes=sum(
            piece.length
            for piece in part.pieces
            if isinstance(piece, Data) and isinstance(sources[piece.entry], ObjectSource)
        ),
        is_closing=is_closing,
        is_body=is_body,
        slice=large,
        waits=bool(layout.blockers(part.number, known)),
    )


def _entries_of(part: Part) -> set[int]:
    return {piece.entry for piece in part.pieces if not isinstance(piece, Directory)}


def _large_entry(part: Part, entries: Sequence[Entry]) -> Slice | None:
    """Return the slice of an entry that is not whole in this part; there is at most one."""
    data = {piece.entry: piece for piece in part.pieces if isinstance(piece, Data)}
    for piece in part.pieces:
        if isinstance(piece, Header):
            slice_ = data.get(piece.entry)
            length = slice_.length if slice_ else 0
            if length != entries[piece.entry].size:
                return Slice(entry=piece.entry, offset=0, length=length)
    for piece in data.values():
        if piece.length != entries[piece.entry].size or len(part.pieces) == 1:
            return Slice(entry=piece.entry, offset=piece.offset, length=piece.length)
    return None


def _piece(piece: Header | Data | Directory, layout: Layout) -> Piece:
    match piece:
        case Header():
            return HeaderPiece(entry=piece.entry)
        case Data():
            return DataPiece(entry=piece.entry, offset=piece.offset, length=piece.length)
        case Directory():
            return DirectoryPiece(offset=layout.directory_offset)


def with_upload(part: PlannedPart, upload_id: str | None) -> PlannedPart:
    """Return the part with the id of the multipart upload that it belongs to."""
    return dataclasses.replace(part, task=msgspec.structs.replace(part.task, upload_id=upload_id))
