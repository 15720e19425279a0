"""A job at one moment, as far as live updates tell of it; made of a document or of an event alike."""

from dataclasses import dataclass
from datetime import datetime

from haulyard_contracts import (
    TERMINAL,
    ArchiveLocation,
    Failure,
    JobDocument,
    JobEvent,
    JobStatus,
    Progress,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveState:
    """The part of a job's state that clients are told."""

    job_id: str
    sequence: int
    """Of two states of a job the one with the higher sequence is newer."""
    status: JobStatus
    progress: Progress
    timestamp: datetime
    """When the job came into this state."""
    error: Failure | None = None
    filename: str | None = None
    size_bytes: int | None = None
    failed_files: tuple[int, ...] = ()
    archive: ArchiveLocation | None = None
    """Where the archive is; only a document says so."""

    @property
    def is_terminal(self) -> bool:
        """Whether nothing comes after this state that a client waits for."""
        return self.status in TERMINAL


def state_of_document(document: JobDocument) -> LiveState:
    """Return the state that a document holds."""
    return LiveState(
        job_id=document.job_id,
        sequence=document.sequence,
        status=document.status,
        progress=document.progress,
        timestamp=document.updated_at,
        error=document.error,
        filename=document.filename,
        size_bytes=document.size_bytes,
        failed_files=document.failed_files,
        archive=document.archive,
    )


def state_of_event(event: JobEvent) -> LiveState:
    """Return the state that a job is in after an event."""
    return LiveState(
        job_id=event.job_id,
        sequence=event.sequence,
        status=event.status,
        progress=event.progress,
        timestamp=event.timestamp,
        error=event.error,
        filename=event.filename,
        size_bytes=event.size_bytes,
        failed_files=event.failed_files,
    )
