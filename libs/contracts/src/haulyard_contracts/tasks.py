"""What the orchestrator asks of archivers, and what they answer.

A task says everything that is needed to make one part of an archive: the same task always gives the same bytes, so
doing it twice is harmless.
"""

from enum import StrEnum

from haulyard_contracts.codec import Message
from haulyard_contracts.errors import Failure


class TaskKind(StrEnum):
    """What a task makes; also the last fixed token of its subject."""

    PUT = "put"
    """The whole archive as one object."""
    PART = "part"
    """One part of a multipart upload, written by the archiver."""
    COPY = "copy"
    """One part of a multipart upload, copied by the store itself."""
    PREPARE = "prepare"
    """No part: something that must be known or staged before the archive can be laid out."""


class Phase(StrEnum):
    """What a task or a result is about; parts and preparations of a job are numbered apart."""

    PREPARE = "prepare"
    BUILD = "build"


class ObjectSource(Message, tag_field="kind", tag="object", frozen=True, kw_only=True):
    """An object in the store. Reads carry ``If-Match`` with this ETag."""

    bucket: str
    key: str
    etag: str
    modified: int | None = None
    """Unix seconds of its last modification, where that is to be checked besides the ETag."""


class HttpSource(Message, tag_field="kind", tag="http", frozen=True, kw_only=True):
    """A representation at an origin (RFC 9110). Ranges of it carry ``If-Range`` with the validator."""

    url: str
    validator: str | None = None
    """Its strong ETag, or its Last-Modified; None: the origin serves no ranges that can be relied on."""


class Segment(Message, frozen=True, kw_only=True):
    """A range of an object in the store."""

    bucket: str
    key: str
    etag: str
    offset: int
    length: int


class SegmentedSource(Message, tag_field="kind", tag="segments", frozen=True, kw_only=True):
    """Data that lies in the store in several pieces, one behind the other."""

    segments: tuple[Segment, ...]
    start: int = 0
    """Where the first of these segments starts in the entry's data: a task lists only those that it needs."""


class InlineSource(Message, tag_field="kind", tag="inline", frozen=True, kw_only=True):
    """Bytes that Haulyard itself puts into the archive (``MISSING-FILES.txt``)."""

    data: bytes


Source = ObjectSource | HttpSource | SegmentedSource | InlineSource


class TaskEntry(Message, frozen=True, kw_only=True):
    """An entry as far as this part needs it."""

    index: int
    """Its place in the archive, from 0."""
    name: str
    size: int
    """Bytes of the file."""
    mtime: int
    """Unix seconds."""
    packed: int | None = None
    """Bytes of its deflated data; None: it is stored as it is."""
    offset: int
    """Where its local header starts in the archive, in bytes."""
    crc32: int | None = None
    """None: the archiver finds it out from the data that this part holds (and ``tail_crc32``)."""
    tail_crc32: int | None = None
    """CRC-32 of the data after this part's slice, when other parts hold it."""
    tail_length: int = 0
    """Bytes that ``tail_crc32`` covers."""
    source: Source | None = None
    """None when the part holds no data of this entry."""


class HeaderPiece(Message, tag_field="piece", tag="header", frozen=True, kw_only=True):
    """The local header of an entry, or a slice of it where a part ends in the middle of one."""

    entry: int
    offset: int = 0
    length: int | None = None
    """None: to its end."""


class DataPiece(Message, tag_field="piece", tag="data", frozen=True, kw_only=True):
    """``length`` bytes of an entry's data, from ``offset`` on."""

    entry: int
    offset: int
    length: int


class DirectoryPiece(Message, tag_field="piece", tag="directory", frozen=True, kw_only=True):
    """The central directory and the records that end the archive."""

    offset: int
    """Where it starts in the archive, in bytes."""
    skip: int = 0
    """Bytes of it that are in parts before this one."""
    length: int | None = None
    """None: to its end."""


Piece = HeaderPiece | DataPiece | DirectoryPiece


class PartTask(Message, tag_field="type", tag="part_task.v1", frozen=True, kw_only=True):
    """Make one part, or the whole archive when ``upload_id`` is None."""

    job_id: str
    generation: int
    """Counts the plans of a job, from 1; results of an older plan are void."""
    number: int
    """Part number, from 1 (S3: 1 to 10,000)."""
    attempt: int
    """Counts the tries of this part, from 1."""
    bucket: str
    key: str
    size: int
    """Bytes of the part."""
    entries: tuple[TaskEntry, ...]
    pieces: tuple[Piece, ...]
    upload_id: str | None = None
    copy: bool = False
    """The one piece is a slice of one object in the store, and the store copies it."""
    check_source: bool = False
    """The store copies without looking at the source's ETag: look before and after."""
    checksum: bool = False
    """The upload was created with CRC-32: parts are written with theirs, and copies return it."""

    @property
    def kind(self) -> TaskKind:
        """What this task makes."""
        if self.upload_id is None:
            return TaskKind.PUT
        return TaskKind.COPY if self.copy else TaskKind.PART


class Preparation(StrEnum):
    """What is to be done with a range of a source before the archive can be laid out."""

    DIGEST = "digest"
    """Compute its CRC-32."""
    DEFLATE = "deflate"
    """Compute its CRC-32, and put it deflated into the staging object."""
    STAGE = "stage"
    """Put the whole of it, however long it is, into the staging object; compute its CRC-32."""


class RangeToPrepare(Message, frozen=True, kw_only=True):
    """A range of the source of one file."""

    position: int
    """The file's place in the request, from 0."""
    name: str
    """The file's, for messages."""
    source: Source
    offset: int = 0
    length: int | None = None
    """Bytes; None: to the end, which is not known."""
    is_last: bool = True
    """It reaches to the end of the file."""


class PrepareTask(Message, tag_field="type", tag="prepare_task.v1", frozen=True, kw_only=True):
    """Prepare ranges, in this order; what is staged goes one behind the other into one object."""

    job_id: str
    generation: int
    number: int
    """Counts the preparations of a plan, from 1."""
    attempt: int
    action: Preparation
    ranges: tuple[RangeToPrepare, ...]
    bucket: str
    key: str
    """How the key of the staging object begins."""

    @property
    def kind(self) -> TaskKind:
        """What this task makes."""
        return TaskKind.PREPARE


Task = PartTask | PrepareTask


class SliceCrc(Message, frozen=True, kw_only=True):
    """CRC-32 of ``length`` bytes of an entry's data, from ``offset`` on."""

    entry: int
    offset: int
    length: int
    crc32: int


class PartDone(Message, tag_field="type", tag="part_done.v1", frozen=True, kw_only=True):
    """The part is in the store."""

    job_id: str
    generation: int
    number: int
    attempt: int
    etag: str
    size: int
    slices: tuple[SliceCrc, ...] = ()
    """One for each data piece of the task, in the order of its pieces."""
    bytes_through: int = 0
    """Source bytes that went through the archiver."""
    bytes_copied: int = 0
    """Source bytes that the store copied by itself."""
    checksum: int | None = None
    """CRC-32 of the part, where the upload was created with it."""
    seconds: float = 0.0
    """Time from taking the task to the store's answer."""
    whole: bool = False
    """The part is the whole archive."""
    key: str | None = None
    """Of the whole archive: where it is, so that one that nobody wants any more can be deleted."""


class PreparedRange(Message, frozen=True, kw_only=True):
    """What became of a range."""

    position: int
    offset: int
    length: int
    """Bytes of the source."""
    crc32: int
    """Of the source's bytes."""
    segment: Segment | None = None
    """Where the staged bytes are; None when none were asked for, or there are none."""


class PrepareDone(Message, tag_field="type", tag="prepare_done.v1", frozen=True, kw_only=True):
    """The ranges are prepared."""

    job_id: str
    generation: int
    number: int
    attempt: int
    ranges: tuple[PreparedRange, ...]
    bytes_through: int = 0
    seconds: float = 0.0


class PartFailed(Message, tag_field="type", tag="part_failed.v1", frozen=True, kw_only=True):
    """The part could not be made, or not be prepared."""

    job_id: str
    generation: int
    number: int
    attempt: int
    failure: Failure
    entry: int | None = None
    """The entry whose source was the reason; None when it was not a source. Of a preparation: the file's position."""
    phase: Phase = Phase.BUILD


Result = PartDone | PrepareDone | PartFailed
