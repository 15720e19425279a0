"""What the API answers, as values. Fields that a newer server adds are ignored, so an old client goes on working."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Self

import msgspec


class JobStatus(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    """The archive can be downloaded."""
    FAILED = "failed"
    """There is no archive; the job's error says why."""
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    """Its archive was deleted after its time."""
    UNKNOWN = "unknown"
    """A state that this version of the client has not heard of."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        return cls("unknown") if isinstance(value, str) and value != "unknown" else None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to the job by itself."""
        return self in _OVER


_OVER = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED})


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all answers."""

    def to_dict(self) -> dict[str, object]:
        """Return the value as plain JSON types, times in RFC 3339."""
        plain: dict[str, object] = msgspec.to_builtins(self)
        return plain


class Failure(Model, frozen=True, kw_only=True):
    """Why a job or a file failed."""

    code: str
    """For programs, such as ``FILE_NOT_FOUND``; later servers add others."""
    message: str
    """For people."""


class Progress(Model, frozen=True, kw_only=True):
    """How far a job is."""

    current: int = 0
    """Files that are finished."""
    total: int = 0
    """Files of the job."""
    percentage: int = 0
    bytes_current: int = 0
    bytes_total: int = 0
    """0 until the job is planned."""

    @property
    def fraction(self) -> float:
        """How far by bytes if they are known, else by files: 0 to 1."""
        done, total = (self.bytes_current, self.bytes_total) if self.bytes_total else (self.current, self.total)
        return min(1.0, done / total) if total else 0.0


class JobFile(Model, frozen=True, kw_only=True):
    """One file of a job."""

    file_id: int
    status: str
    """``queued``, ``processing``, ``completed`` or ``failed``."""
    size_bytes: int | None = None
    name: str | None = None
    """Its path inside the archive, once the job is planned."""
    error: Failure | None = None


class Job(Model, frozen=True, kw_only=True):
    """How a job is."""

    job_id: str
    status: JobStatus
    progress: Progress = Progress()
    files: tuple[JobFile, ...] = ()
    created_at: datetime | None = None
    updated_at: datetime | None = None
    completed_at: datetime | None = None
    expires_at: datetime | None = None
    """When the archive is deleted."""
    error: Failure | None = None
    priority: int | None = None
    filename: str | None = None
    size_bytes: int | None = None
    """Size of the archive, when there is one."""
    sequence: int | None = None
    """Of two states of a job, the one with the higher sequence is newer."""
    retry_of: str | None = None
    """The job whose failed files these are."""
    estimated_completion: datetime | None = None
    """From the speed so far."""
    bytes_per_second: int | None = None

    @property
    def failed_files(self) -> tuple[JobFile, ...]:
        """The files that are not in the archive."""
        return tuple(file for file in self.files if file.status == "failed")


class AcceptedJob(Model, frozen=True, kw_only=True):
    """A job that will be done."""

    job_id: str
    status: JobStatus
    created_at: datetime
    total_files: int
    websocket_url: str
    """Holds a ticket for this job: keep it to yourself."""
    estimated_completion: datetime | None = None
    status_url: str | None = None
    events_url: str | None = None


class ArchiveLink(Model, frozen=True, kw_only=True):
    """A link straight to the object store, good for a short time and for whoever has it."""

    job_id: str
    download_url: str
    expires_at: datetime
    filename: str
    size_bytes: int | None = None


class UploadLink(Model, frozen=True, kw_only=True):
    """Where to send a file's bytes."""

    url: str
    method: str = "PUT"
    expires_at: datetime | None = None


class File(Model, frozen=True, kw_only=True):
    """A file of the catalogue."""

    file_id: int
    name: str
    """Its path inside an archive."""
    status: str = "available"
    """``pending`` until the object has been uploaded."""
    source: str | None = None
    size_bytes: int | None = None
    etag: str | None = None
    crc32: str | None = None
    """Eight hexadecimal digits, if it is known."""
    created_at: datetime | None = None
    upload: UploadLink | None = None
    """Only in the answer that creates a file to be uploaded."""


class DeadLetter(Model, frozen=True, kw_only=True):
    """A message that was given up, for operators."""

    sequence: int
    """Names it."""
    stream: str
    """The stream that it was in: ``jobs``, ``tasks``, ``results`` or ``events``."""
    reason: str
    given_up_at: datetime
    subject: str | None = None
    """The subject that it had; without one it cannot be replayed."""
    job_id: str | None = None
    traceparent: str | None = None
    size_bytes: int | None = None
    headers: dict[str, str] | None = None
    """Only when one is asked for."""
    payload: Any = None
    """What it says, if that is JSON; only when one is asked for."""
    payload_base64: str | None = None
    """What it says, if that is not JSON; only when one is asked for."""


class Replayed(Model, frozen=True, kw_only=True):
    """What became of messages that were to be sent again."""

    replayed: int
    kept: int = 0
    """It is not known where these came from; they stay."""


class TriedTask(Model, frozen=True, kw_only=True):
    """A part or preparation of a job that did not succeed at once."""

    phase: str
    number: int
    status: str
    attempts: int
    next_attempt_at: datetime | None = None
    error: Failure | None = None
    """Why the last attempt failed; None: a later one succeeded."""


class InspectedJob(Model, frozen=True, kw_only=True):
    """A job with what its users do not see of it, for operators."""

    job_id: str
    user_id: str
    status: JobStatus
    sequence: int
    generation: int
    """Counts its plans."""
    created_at: datetime
    updated_at: datetime
    files: dict[str, int]
    """How many are in which state."""
    tasks: dict[str, dict[str, int]]
    """For each phase, how many are in which state."""
    attempts: int
    """Of all tasks of this plan together."""
    tried: tuple[TriedTask, ...] = ()
    """Those that did not succeed at once, the most tried first."""
    told_sequence: int | None = None
    priority: int | None = None
    compression: str | None = None
    on_missing: str | None = None
    completed_at: datetime | None = None
    expires_at: datetime | None = None
    error: Failure | None = None
    digest: str | None = None
    follows: str | None = None
    """The job that builds the archive for this one, too."""
    followers: int = 0
    archive_key: str | None = None


class Way(StrEnum):
    """A way to hear of a job."""

    WEBSOCKET = "websocket"
    EVENTS = "events"
    """Server-sent events."""
    POLLING = "polling"


class Update(Model, frozen=True, kw_only=True):
    """Something that happened to a job, whichever way it was heard of."""

    job_id: str
    status: JobStatus
    progress: Progress
    sequence: int | None = None
    timestamp: datetime | None = None
    error: Failure | None = None
    """Why the job failed."""
    filename: str | None = None
    size_bytes: int | None = None
    failed_files: tuple[int, ...] = ()
    """Ids of the files that are not in the archive; known when the job is over."""
    via: Way
    """How it was heard of."""
