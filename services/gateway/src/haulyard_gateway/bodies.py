"""What the API answers, field by field; times are UTC, to the second."""

from datetime import UTC, datetime
from typing import Literal

import msgspec

from haulyard_contracts import Failure, FileState, JobDocument, JobStatus, Progress
from haulyard_gateway.ports import CatalogueFile


def in_seconds(moment: datetime) -> datetime:
    """Return a time as the API shows it."""
    return moment.astimezone(UTC).replace(microsecond=0)


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


class ArchiveLink(msgspec.Struct, frozen=True, kw_only=True):
    """A link straight to the object store, good for a short time and for whoever has it."""

    job_id: str
    download_url: str
    expires_at: datetime
    """When the link stops working; ask for another then."""
    size_bytes: int | None
    filename: str


class UploadLink(msgspec.Struct, frozen=True, kw_only=True):
    """Where to send a file's bytes, with one request."""

    method: Literal["PUT"]
    url: str
    expires_at: datetime


class FileBody(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the catalogue."""

    file_id: int
    name: str
    """Its path inside an archive, before it is made safe and unique there."""
    source: str
    status: Literal["available", "pending"]
    """``pending``: the object has not been uploaded yet."""
    size_bytes: int | None
    etag: str | None
    crc32: str | None
    """Eight hexadecimal digits, if it is known."""
    created_at: datetime
    upload: UploadLink | None
    """Only in the answer that creates a file to be uploaded."""


def job_view(job: JobDocument) -> JobView:
    """Return the body that tells how a job is."""
    return JobView(
        job_id=job.job_id,
        status=job.status,
        progress=job.progress,
        files=job.files,
        created_at=in_seconds(job.created_at),
        updated_at=in_seconds(job.updated_at),
        completed_at=in_seconds(job.completed_at) if job.completed_at else None,
        error=job.error,
        priority=job.priority,
        filename=job.filename,
        size_bytes=job.size_bytes,
        expires_at=in_seconds(job.expires_at) if job.expires_at else None,
    )


def file_body(file: CatalogueFile, upload: UploadLink | None = None) -> FileBody:
    """Return the body that tells of a file."""
    return FileBody(
        file_id=file.file_id,
        name=file.name,
        source=f"s3://{file.bucket}/{file.key}",
        status="pending" if file.size_bytes is None else "available",
        size_bytes=file.size_bytes,
        etag=file.etag,
        crc32=None if file.crc32 is None else f"{file.crc32:08x}",
        created_at=in_seconds(file.created_at),
        upload=upload,
    )
