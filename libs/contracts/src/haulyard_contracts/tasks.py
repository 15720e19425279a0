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
    """One part of a multipart upload, streamed through the archiver."""


class ObjectSource(Message, tag_field="kind", tag="object", frozen=True, kw_only=True):
    """An object in the store. Reads carry ``If-Match`` with this ETag."""

    bucket: str
    key: str
    etag: str


class InlineSource(Message, tag_field="kind", tag="inline", frozen=True, kw_only=True):
    """Bytes that Haulyard itself puts into the archive (``MISSING-FILES.txt``)."""

    data: bytes


Source = ObjectSource | InlineSource


class TaskEntry(Message, frozen=True, kw_only=True):
    """An entry as far as this part needs it."""

    index: int
    """Its place in the archive, from 0."""
    name: str
    size: int
    """Bytes of data."""
    mtime: int
    """Unix seconds."""
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
    """The local header of an entry."""

    entry: int


class DataPiece(Message, tag_field="piece", tag="data", frozen=True, kw_only=True):
    """``length`` bytes of an entry's data, from ``offset`` on."""

    entry: int
    offset: int
    length: int


class DirectoryPiece(Message, tag_field="piece", tag="directory", frozen=True, kw_only=True):
    """The central directory and the records that end the archive."""

    offset: int
    """Where it starts in the archive, in bytes."""


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

    @property
    def kind(self) -> TaskKind:
        """What this task makes."""
        return TaskKind.PUT if self.upload_id is None else TaskKind.PART


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
    seconds: float = 0.0
    """Time from taking the task to the store's answer."""


class PartFailed(Message, tag_field="type", tag="part_failed.v1", frozen=True, kw_only=True):
    """The part could not be made."""

    job_id: str
    generation: int
    number: int
    attempt: int
    failure: Failure
    entry: int | None = None
    """The entry whose source was the reason; None when it was not a source."""
