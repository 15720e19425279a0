"""Plans a job: from what is known of its files to the tasks that make its archive. Pure functions.

The same files always give the same tasks, and so the same archive.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from haulyard_chassis.store_profile import StoreProfile
from haulyard_contracts import (
    Compression,
    DataPiece,
    DirectoryPiece,
    Failure,
    HeaderPiece,
    HttpSource,
    InlineSource,
    ObjectSource,
    PartTask,
    Piece,
    Segment,
    SegmentedSource,
    Source,
    TaskEntry,
    encode,
)
from haulyard_zipline import (
    Data,
    Directory,
    Entry,
    Header,
    Layout,
    Limits,
    Part,
    Supply,
    content_digest,
    crc32,
    plan,
    safe_names,
)

MISSING_FILES = "MISSING-FILES.txt"

_NO_DATE = 315_532_800
"""1980-01-01 UTC, the first date that a ZIP can hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A file of the job whose source is there."""

    position: int
    """In the request, from 0."""
    file_id: int
    name: str
    """As in the catalogue; may be unsafe or not unique."""
    origin: ObjectSource | HttpSource
    """Where the file is."""
    data: Source
    """Where the data of its entry is read from: its origin, or what was staged of it."""
    version: str
    """ETag or Last-Modified of the origin; empty if it has neither."""
    size: int | None
    """Bytes; None while nobody knows."""
    mtime: int
    """Unix seconds."""
    crc32: int | None
    packed: int | None = None
    """Bytes of its deflated data; None: it is stored as it is."""
    prepared: bool = False
    """What had to be done before the archive can be laid out is done."""
    confirmed: bool = True
    """Its source was looked at; False: the catalogue was believed."""


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
    """Source bytes in it that were not counted while they were prepared."""
    is_closing: bool
    """Holds the directory, or the end of it."""
    is_body: bool
    """Nothing but one slice of a large entry."""
    slice: Slice | None
    """Of the large entry, stored as it is, that starts or goes on in this part."""
    waits: bool
    """Cannot be made before other parts are done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingNote:
    """The entry that names the files that are not in the archive; it is the last one."""

    name: str
    text: bytes
    mtime: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a job is going to be."""

    files: tuple[PlannedFile, ...]
    note: MissingNote | None
    parts: tuple[PlannedPart, ...]
    size: int
    """Bytes of the archive."""
    bytes_total: int
    """Bytes of the sources."""
    upload_crc32: bool
    """The upload is to be created with CRC-32, so that copies return theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The entries of an archive, before they are laid out."""

    names: tuple[str, ...]
    """Safe and unique; of the found files, in order."""
    note: MissingNote | None


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


def contents_of(found: Sequence[FoundFile], lost: Sequence[LostFile]) -> Contents:
    """Return the names of the entries, and the note that names what is missing.

    The note is as old as the newest file: the same files have to give the same archive.
    """
    names = [file.name for file in found]
    if not lost:
        return Contents(names=tuple(safe_names(names)), note=None)
    *safe, note_name = safe_names([*names, MISSING_FILES])
    newest = max((file.mtime for file in found), default=_NO_DATE)
    note = MissingNote(name=note_name, text=missing_files_text(lost), mtime=newest)
    return Contents(names=tuple(safe), note=note)


def digest_of(found: Sequence[FoundFile], contents: Contents, compression: Compression) -> str | None:
    """Return what is equal for equal archives only, or None if a source has no version to tell it by."""
    if any(file.size is None or not file.version for file in found):
        return None
    # Sizes and dates of the files, before anything is deflated: equal wishes are recognised before work is done.
    entries = [Entry(name, file.size or 0, None, file.mtime) for file, name in zip(found, contents.names, strict=True)]
    identities = [compression.encode() + b" " + encode(file.origin) for file in found]
    if contents.note is not None:
        entries.append(Entry(contents.note.name, len(contents.note.text), None, contents.note.mtime))
        identities.append(contents.note.text)
    return content_digest(entries, identities)


def make_plan(
    *,
    job_id: str,
    generation: int,
    bucket: str,
    key: str,
    found: Sequence[FoundFile],
    contents: Contents,
    limits: Limits,
    store: StoreProfile,
) -> Plan:
    """Return the plan of a job; the upload's id is added to the tasks once there is one.

    Args:
        job_id: the job.
        generation: counts its plans, from 1.
        bucket: takes the archive.
        key: of the archive.
        found: files to archive, in the order of the request; at least one. All sizes are known.
        contents: of the archive.
        limits: sizes of parts.
        store: what the store can do.

    Raises:
        haulyard_zipline.ArchiveTooLargeError: the store's limits do not allow an archive of this size.
    """
    entries = [_entry(file, name) for file, name in zip(found, contents.names, strict=True)]
    sources: list[Source] = [_data_of(file, store) for file in found]
    if contents.note is not None:
        text = contents.note.text
        entries.append(Entry(contents.note.name, len(text), crc32(text), contents.note.mtime))
        sources.append(InlineSource(data=text))
    layout = plan(entries, limits, [_supply(entry, data, store) for entry, data in zip(entries, sources, strict=True)])
    upload_crc32 = not layout.single and _wants_crc32(layout, entries, store)
    work = _Work(
        job_id=job_id,
        generation=generation,
        bucket=bucket,
        key=key,
        entries=entries,
        sources=sources,
        counted={index for index, file in enumerate(found) if file.prepared},
        layout=layout,
        known={index for index, entry in enumerate(entries) if entry.crc32 is not None},
        store=store,
        equal_parts=limits.equal_parts,
        upload_crc32=upload_crc32,
    )
    return Plan(
        files=tuple(
            PlannedFile(
                file=file,
                entry=index,
                name=entries[index].name,
                first_part=layout.spans[index][0],
                last_part=layout.spans[index][1],
            )
            for index, file in enumerate(found)
        ),
        note=contents.note,
        parts=tuple(_planned_part(part, work) for part in layout.parts),
        size=layout.size,
        bytes_total=sum(file.size or 0 for file in found),
        upload_crc32=upload_crc32,
    )


def _entry(file: FoundFile, name: str) -> Entry:
    if file.size is None:
        raise ValueError(f"the size of file {file.file_id} is not known")
    return Entry(name, file.size, file.crc32 if file.size else 0, file.mtime, file.packed)


def _data_of(file: FoundFile, store: StoreProfile) -> Source:
    if store.copy_checks_etag or not isinstance(file.data, ObjectSource) or file.data is not file.origin:
        return file.data
    # Where the store does not look at the ETag itself, we look afterwards, and an ETag can come back.
    return msgspec.structs.replace(file.data, modified=file.mtime)


def _supply(entry: Entry, data: Source, store: StoreProfile) -> Supply:
    if isinstance(data, SegmentedSource):
        copyable = all(store.can_copy(segment.key) for segment in data.segments)
        return Supply(tuple(segment.length for segment in data.segments), copyable=copyable)
    lengths = (entry.data_size,) if entry.data_size else ()
    return Supply(lengths, copyable=isinstance(data, ObjectSource) and store.can_copy(data.key))


def _wants_crc32(layout: Layout, entries: Sequence[Entry], store: StoreProfile) -> bool:
    """Whether copies are to tell checksums; then every part has to have one, and a streamed slice does not."""
    if not store.copy_crc32:
        return False
    bodies = [part for part in layout.parts if len(part.pieces) == 1 and isinstance(part.pieces[0], Data)]
    return all(part.copied for part in bodies) and any(
        isinstance(piece, Data) and entries[piece.entry].crc32 is None for part in bodies for piece in part.pieces
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What all parts of a plan have in common."""

    job_id: str
    generation: int
    bucket: str
    key: str
    entries: Sequence[Entry]
    sources: Sequence[Source]
    counted: set[int]
    layout: Layout
    known: set[int]
    store: StoreProfile
    equal_parts: bool
    upload_crc32: bool


def _planned_part(part: Part, work: _Work) -> PlannedPart:
    is_closing = any(isinstance(piece, Directory) for piece in part.pieces)
    is_body = len(part.pieces) == 1 and isinstance(part.pieces[0], Data)
    needed: Iterable[int] = range(len(work.entries)) if is_closing else sorted(_entries_of(part))
    ranges = _ranges(part)
    return PlannedPart(
        task=PartTask(
            job_id=work.job_id,
            generation=work.generation,
            number=part.number,
            attempt=1,
            bucket=work.bucket,
            key=work.key,
            size=part.size,
            entries=tuple(_task_entry(index, ranges.get(index), work) for index in needed),
            pieces=tuple(_piece(piece, work.layout) for piece in part.pieces),
            copy=part.copied,
            check_source=part.copied and not work.store.copy_checks_etag,
            checksum=work.upload_crc32,
        ),
        data_bytes=sum(
            piece.length
            for piece in part.pieces
            if isinstance(piece, Data)
            and piece.entry not in work.counted
            and not isinstance(work.sources[piece.entry], InlineSource)
        ),
        is_closing=is_closing,
        is_body=is_body,
        slice=_large_slice(part, work),
        waits=bool(work.layout.blockers(part.number, work.known)),
    )


def _task_entry(index: int, needed: range | None, work: _Work) -> TaskEntry:
    entry = work.entries[index]
    return TaskEntry(
        index=index,
        name=entry.name,
        size=entry.size,
        packed=entry.packed,
        mtime=entry.mtime,
        offset=work.layout.offsets[index],
        crc32=entry.crc32,
        source=None if needed is None else trimmed(work.sources[index], needed),
    )


def trimmed(source: Source, needed: range) -> Source:
    """Return the source with only those segments that hold the bytes of a range of the entry's data."""
    if not isinstance(source, SegmentedSource):
        return source
    kept: list[Segment] = []
    start, position = source.start, source.start
    for segment in source.segments:
        end = position + segment.length
        if end <= needed.start:
            start = end
        elif position < needed.stop:
            kept.append(segment)
        position = end
    return SegmentedSource(segments=tuple(kept), start=start)


def _ranges(part: Part) -> dict[int, range]:
    """Return the range of each entry's data that a part holds."""
    ranges: dict[int, range] = {}
    for piece in part.pieces:
        if isinstance(piece, Data):
            start = ranges[piece.entry].start if piece.entry in ranges else piece.offset
            ranges[piece.entry] = range(start, piece.offset + piece.length)
    return ranges


def _entries_of(part: Part) -> set[int]:
    return {piece.entry for piece in part.pieces if not isinstance(piece, Directory)}


def _large_slice(part: Part, work: _Work) -> Slice | None:
    """Return the slice of an entry, stored as it is, of which this part does not hold all, header and data.

    Of entries whose checksum is to be found out there is at most one. Where all parts are of one size, all checksums
    are known beforehand.
    """
    if work.equal_parts:
        return None
    ranges = _ranges(part)
    headers = {piece.entry for piece in part.pieces if isinstance(piece, Header)}
    for index in sorted(headers | ranges.keys(), key=lambda index: (index in work.known, index)):
        entry = work.entries[index]
        held = ranges.get(index, range(0))
        if entry.packed is None and (len(held) != entry.size or (held and index not in headers)):
            return Slice(entry=index, offset=held.start, length=len(held))
    return None


def _piece(piece: Header | Data | Directory, layout: Layout) -> Piece:
    match piece:
        case Header():
            return HeaderPiece(entry=piece.entry, offset=piece.offset, length=piece.length)
        case Data():
            return DataPiece(entry=piece.entry, offset=piece.offset, length=piece.length)
        case Directory():
            return DirectoryPiece(offset=layout.directory_offset, skip=piece.offset, length=piece.length)


def with_upload(part: PlannedPart, upload_id: str | None) -> PlannedPart:
    """Return the part with the id of the multipart upload that it belongs to."""
    return dataclasses.replace(part, task=msgspec.structs.replace(part.task, upload_id=upload_id))
