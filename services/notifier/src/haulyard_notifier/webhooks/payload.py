"""The bodies that webhooks are sent; their fields are public, and are only ever added to."""

from datetime import datetime

import msgspec

from haulyard_chassis.job_state import default_filename
from haulyard_contracts import ErrorCode, EventType, Failure, JobEvent, JobStatus, decode, encode


class CompletedBody(msgspec.Struct, frozen=True, kw_only=True):
    """The archive is ready."""

    type: str = "job.completed"
    job_id: str
    status: JobStatus = JobStatus.COMPLETED
    download_url: str | None = None
    """Signed when it is sent, and never stored; None when the archive has expired before it could be sent."""
    size_bytes: int | None
    filename: str
    failed_files: tuple[int, ...]
    timestamp: datetime


class FailedBody(msgspec.Struct, frozen=True, kw_only=True):
    """The job is over without an archive."""

    type: str = "job.failed"
    job_id: str
    status: JobStatus = JobStatus.FAILED
    error: Failure
    timestamp: datetime


def stored_payload(event: JobEvent) -> str:
    """Return what is kept of an event until it is sent: its body without the link."""
    if event.type is EventType.COMPLETED:
        return encode(
            CompletedBody(
                job_id=event.job_id,
                size_bytes=event.size_bytes,
                filename=event.filename or default_filename(event.job_id),
                failed_files=event.failed_files,
                timestamp=event.timestamp,
            )
        ).decode()
    return encode(
        FailedBody(
            job_id=event.job_id,
            error=event.error or Failure(code=ErrorCode.PROCESSING_FAILED, message="The job failed."),
            timestamp=event.timestamp,
        )
    ).decode()


def archive_name(payload: str) -> str:
    """Return the name under which the archive of a completed job is downloaded."""
    return decode(payload.encode(), CompletedBody).filename


def body_to_send(payload: str, *, download_url: str | None) -> bytes:
    """Return the bytes to send for a stored payload; ``download_url`` goes into that of a completed job."""
    if download_url is None:
        return payload.encode()
    return encode(msgspec.structs.replace(decode(payload.encode(), CompletedBody), download_url=download_url))
