"""The messages that clients receive: the three of the original requirement, with fields added, none changed.

A state becomes one message, the same on a WebSocket and on an event stream.
"""

from datetime import datetime

import msgspec

from haulyard_chassis.job_state import default_filename
from haulyard_contracts import ErrorCode, Failure, JobStatus, Progress
from haulyard_notifier.live.state import LiveState


class StatusUpdate(msgspec.Struct, tag_field="type", tag="status_update", frozen=True, kw_only=True):
    """The job is in this state; also how the end of a cancelled or expired job is told."""

    job_id: str
    status: JobStatus
    progress: Progress
    timestamp: datetime
    sequence: int


class Completed(msgspec.Struct, tag_field="type", tag="completed", frozen=True, kw_only=True):
    """The archive is ready; the last message."""

    job_id: str
    download_url: str
    """Straight to the store, good for 15 minutes unless set otherwise; the API gives a new one at any time."""
    timestamp: datetime
    sequence: int
    filename: str
    size_bytes: int | None
    failed_files: tuple[int, ...]
    """Files that are not in the archive."""


class Error(msgspec.Struct, tag_field="type", tag="error", frozen=True, kw_only=True):
    """The job failed; the last message."""

    job_id: str
    error: Failure
    timestamp: datetime
    sequence: int


ClientMessage = StatusUpdate | Completed | Error


def message_of(state: LiveState, *, download_url: str | None) -> ClientMessage:
    """Return the message that tells of a state.

    Args:
        state: what to tell.
        download_url: the link to the archive; needed for a completed job, and only there.
    """
    if state.status is JobStatus.COMPLETED and download_url is not None:
        return Completed(
            job_id=state.job_id,
            download_url=download_url,
            timestamp=state.timestamp,
            sequence=state.sequence,
            filename=state.filename or default_filename(state.job_id),
            size_bytes=state.size_bytes,
            failed_files=state.failed_files,
        )
    if state.status is JobStatus.FAILED:
        return Error(
            job_id=state.job_id,
            error=state.error or Failure(code=ErrorCode.PROCESSING_FAILED, message="The job failed."),
            timestamp=state.timestamp,
            sequence=state.sequence,
        )
    return StatusUpdate(
        job_id=state.job_id,
        status=state.status,
        progress=state.progress,
        timestamp=state.timestamp,
        sequence=state.sequence,
    )


def sse_event(message: ClientMessage, text: str) -> bytes:
    """Return the message as one event of an event stream (HTML standard, section 9.2).

    Args:
        message: the message.
        text: it as JSON, which has no line breaks.
    """
    return f"id: {message.sequence}\nevent: {message.__struct_config__.tag}\ndata: {text}\n\n".encode()
