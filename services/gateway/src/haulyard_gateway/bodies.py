"""What the API answers about jobs, field by field; times are UTC, to the second."""

from datetime import UTC, datetime

import msgspec

from haulyard_contracts import (
    TERMINAL,
    Compression,
    Failure,
    FileState,
    JobAction,
    JobDocument,
    JobStatus,
    OnMissing,
    Progress,
)
from haulyard_gateway.estimates import bytes_per_second, expected_completion
from haulyard_gateway.ports import ListedJob


def in_seconds(moment: datetime) -> datetime:
    """Return a time as the API shows it."""
    return moment.astimezone(UTC).replace(microsecond=0)


def _if_known(moment: datetime | None) -> datetime | None:
    return in_seconds(moment) if moment else None


class JobAccepted(msgspec.Struct, frozen=True, kw_only=True):
    """A job that will be done."""

    job_id: str
    status: JobStatus
    created_at: datetime
    estimated_completion: datetime
    """A rough guess from the number of files."""
    total_files: int
    websocket_url: str
    """Follow the job over WebSocket; holds a ticket for this job only, so keep it to yourself."""
    status_url: str
    """Ask how the job is; needs the bearer token."""
    events_url: str
    """Follow the job over server-sent events; holds a ticket like ``websocket_url``."""
    archive_url: str
    """The archive itself, as soon as its first bytes can be had; holds a ticket that is good for nothing else."""


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """Where the bytes of the sources went so far."""

    bytes_copied: int
    """The store copied them by itself."""
    bytes_through: int
    """They went through Haulyard."""


class JobSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A job, as lists have it."""

    job_id: str
    status: JobStatus
    progress: Progress
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    expires_at: datetime | None
    error: Failure | None
    failed_files: int
    """How many could not be archived."""
    priority: int
    filename: str
    size_bytes: int | None
    compression: Compression
    on_missing: OnMissing
    retry_of: str | None
    status_url: str


class JobPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of jobs, the newest first."""

    jobs: tuple[JobSummary, ...]
    next_cursor: str | None
    """Give it as ``cursor`` for the next page; null on the last one."""


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """How a job is."""

    job_id: str
    status: JobStatus
    progress: Progress
    files: tuple[FileState, ...]
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    error: Failure | None
    priority: int
    filename: str
    size_bytes: int | None
    """Size of the archive, when there is one."""
    expires_at: datetime | None
    """When the archive is deleted."""
    compression: Compression
    on_missing: OnMissing
    retry_of: str | None
    """The job whose failed files these are."""
    sequence: int
    """Grows with each change; give it as ``since`` to wait for the next one."""
    estimated_completion: datetime | None
    """From the speed so far; null when the job is over, or nothing is known."""
    bytes_per_second: int | None
    transfer: Transfer
    archive_url: str | None
    """The archive itself, also before it is built; holds a ticket, so keep it to yourself. Null if there is none."""


class LiveLinks(msgspec.Struct, frozen=True, kw_only=True):
    """Where to follow a job; each link holds a ticket for this job only, so keep it to yourself."""

    job_id: str
    websocket_url: str
    events_url: str


class JobWish(msgspec.Struct, frozen=True, kw_only=True):
    """A wish about a job that will be fulfilled."""

    job_id: str
    action: JobAction
    status: JobStatus
    """How the job was when the wish came."""
    status_url: str | None
    """Where to see that it is fulfilled; null for a job that is no longer to be seen."""


class ArchiveLink(msgspec.Struct, frozen=True, kw_only=True):
    """A link straight to the object store, good for a short time and for whoever has it."""

    job_id: str
    download_url: str
    expires_at: datetime
    """When the link stops working; ask for another then."""
    size_bytes: int | None
    filename: str


def job_view(job: JobDocument, *, archive_url: str) -> JobView:
    """Return the body that tells how a job is."""
    return JobView(
        job_id=job.job_id,
        status=job.status,
        progress=job.progress,
        files=job.files,
        created_at=in_seconds(job.created_at),
        updated_at=in_seconds(job.updated_at),
        completed_at=_if_known(job.completed_at),
        error=job.error,
        priority=job.priority,
        filename=job.filename,
        size_bytes=job.size_bytes,
        expires_at=_if_known(job.expires_at),
        compression=job.compression,
        on_missing=job.on_missing,
        retry_of=job.retry_of,
        sequence=job.sequence,
        estimated_completion=_if_known(expected_completion(job)),
        bytes_per_second=bytes_per_second(job),
        transfer=Transfer(bytes_copied=job.bytes_copied, bytes_through=job.bytes_through),
        archive_url=archive_url if job.status not in TERMINAL or job.status is JobStatus.COMPLETED else None,
    )


def job_summary(listed: ListedJob, *, status_url: str) -> JobSummary:
    """Return the item of a list that is a job."""
    job = listed.document
    return JobSummary(
        job_id=job.job_id,
        status=job.status,
        progress=job.progress,
        created_at=in_seconds(job.created_at),
        updated_at=in_seconds(job.updated_at),
        completed_at=_if_known(job.completed_at),
        expires_at=_if_known(job.expires_at),
        error=job.error,
        failed_files=listed.failed_files,
        priority=job.priority,
        filename=job.filename,
        size_bytes=job.size_bytes,
        compression=job.compression,
        on_missing=job.on_missing,
        retry_of=job.retry_of,
        status_url=status_url,
    )
