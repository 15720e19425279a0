"""A job as everybody outside the orchestrator sees it."""

from datetime import datetime
from enum import StrEnum

from haulyard_contracts.codec import Message
from haulyard_contracts.errors import Failure
from haulyard_contracts.requests import Compression, OnMissing


class JobStatus(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"
    """Accepted, and not yet planned."""
    PROCESSING = "processing"
    """Planned; archivers are filling its parts."""
    COMPLETED = "completed"
    """The archive is in the store."""
    FAILED = "failed"
    """There is no archive, and the job's error says why."""
    CANCELLED = "cancelled"
    """The user stopped it; nothing is left in the store."""
    EXPIRED = "expired"
    """It is over, and its archive has been deleted."""


TERMINAL = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED})
"""States in which no work is left to do."""


class FileStatus(StrEnum):
    """Where one file of a job is."""

    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


class Progress(Message, omit_defaults=False, frozen=True, kw_only=True):
    """How far a job is, in files (as the API counts) and in bytes of the sources."""

    current: int
    """Files that are finished, whether archived or failed."""
    total: int
    """Files of the job."""
    percentage: int
    """``current`` of ``total``, rounded down: 100 only when all files are finished."""
    bytes_current: int = 0
    """Source bytes that are in finished parts."""
    bytes_total: int = 0
    """Source bytes of all files that can be archived; 0 until the job is planned."""


class FileState(Message, omit_defaults=False, frozen=True, kw_only=True):
    """One file of a job."""

    file_id: int
    status: FileStatus
    size_bytes: int | None = None
    name: str | None = None
    """The file's path inside the archive; None until the job is planned."""
    error: Failure | None = None


class ArchiveLocation(Message, frozen=True, kw_only=True):
    """Where the archive is in the store."""

    bucket: str
    key: str


class JobDocument(Message, frozen=True, kw_only=True):
    """The whole public state of a job at one moment; what the cache holds and the API answers from."""

    job_id: str
    user_id: str
    status: JobStatus
    sequence: int
    """Grows by at least one with each change: of two documents the one with the higher sequence is newer."""
    progress: Progress
    files: tuple[FileState, ...]
    created_at: datetime
    updated_at: datetime
    priority: int = 5
    filename: str = "download.zip"
    completed_at: datetime | None = None
    expires_at: datetime | None = None
    error: Failure | None = None
    size_bytes: int | None = None
    archive: ArchiveLocation | None = None
    """Set once the archive is complete."""
    compression: Compression = Compression.STORE
    on_missing: OnMissing = OnMissing.SKIP
    retry_of: str | None = None
    """The job whose failed files these are."""
    bytes_copied: int = 0
    """Source bytes that the store copied by itself, so far."""
    bytes_through: int = 0
    """Source bytes that went through archivers, so far."""

    @property
    def failed_files(self) -> tuple[int, ...]:
        """Ids of the files that could not be archived."""
        return tuple(file.file_id for file in self.files if file.status is FileStatus.FAILED)
