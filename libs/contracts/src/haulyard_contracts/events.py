"""What happened to a job, for the notifier and for anyone who subscribes.

Events are CloudEvents 1.0 in binary mode: the attributes are NATS headers (``ce-id``, ``ce-type``, …), the payload is
a JobEvent. They only ever gain fields.
"""

from datetime import datetime
from enum import StrEnum

from haulyard_contracts.codec import Message
from haulyard_contracts.errors import Failure
from haulyard_contracts.jobs import JobStatus, Progress


class EventType(StrEnum):
    """What happened; the last token of the event's subject."""

    PROCESSING = "processing"
    """The job is planned and archivers are at work."""
    PROGRESS = "progress"
    """A part is finished."""
    COMPLETED = "completed"
    """The archive is in the store."""
    FAILED = "failed"
    """The job is over without an archive."""
    CANCELLED = "cancelled"
    """The job was stopped by its user."""
    EXPIRED = "expired"
    """The archive was deleted."""

    @property
    def cloud_event_type(self) -> str:
        """The CloudEvents ``type`` attribute."""
        return f"haulyard.job.{self.value}"


class JobEvent(Message, frozen=True, kw_only=True):
    """One event. It holds the state after it, so a reader that missed earlier ones loses nothing but history."""

    job_id: str
    sequence: int
    """The job's sequence after this event; higher is newer."""
    type: EventType
    status: JobStatus
    progress: Progress
    timestamp: datetime
    error: Failure | None = None
    filename: str | None = None
    """With ``completed``: the archive's name for a download."""
    size_bytes: int | None = None
    """With ``completed``: the archive's size."""
    failed_files: tuple[int, ...] = ()
    """Ids of files that could not be archived."""

    @property
    def id(self) -> str:
        """Names the event: the same event sent twice has the same id."""
        return f"{self.job_id}:{self.sequence}"


def cloud_event_headers(event: JobEvent, *, source: str) -> dict[str, str]:
    """Return the CloudEvents attributes as NATS headers (CloudEvents 1.0.2, NATS protocol binding, binary mode).

    Args:
        event: the event.
        source: URI reference of the installation that the event comes from.
    """
    return {
        "ce-specversion": "1.0",
        "ce-id": event.id,
        "ce-source": source,
        "ce-type": event.type.cloud_event_type,
        "ce-subject": event.job_id,
        "ce-time": event.timestamp.isoformat(),
        "content-type": "application/json",
    }
