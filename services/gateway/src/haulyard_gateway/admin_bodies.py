"""What the API answers to operators."""

from base64 import b64encode
from datetime import datetime
from typing import Any

import msgspec

from haulyard_chassis.dead_letters import DeadLetter
from haulyard_contracts import Compression, Failure, JobStatus, OnMissing, Phase
from haulyard_gateway.bodies import in_seconds
from haulyard_gateway.ports import InspectedJob, TriedTask


class DeadLetterSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was given up, as lists have it."""

    sequence: int
    """Names it."""
    stream: str
    """The stream that it was in."""
    subject: str | None
    """The subject that it had; null: it is not known, and the message cannot be replayed."""
    reason: str
    given_up_at: datetime
    job_id: str | None
    traceparent: str | None
    """The trace that it belongs to (W3C Trace Context)."""
    size_bytes: int


class DeadLetterView(DeadLetterSummary, frozen=True, kw_only=True):
    """A message that was given up, with what it says."""

    headers: dict[str, str]
    payload: Any
    """Of a message that is JSON."""
    payload_base64: str | None
    """Of one that is not."""


class DeadLetterPage(msgspec.Struct, frozen=True, kw_only=True):
    """Messages that were given up, the oldest first."""

    dead_letters: tuple[DeadLetterSummary, ...]
    next_cursor: str | None


class ReplayedBody(msgspec.Struct, frozen=True, kw_only=True):
    """What became of messages that were to be sent again."""

    replayed: int
    kept: int
    """It is not known where these came from; they stay."""
    next_cursor: str | None
    """There are more: ask again with this ``cursor``."""


class PurgedBody(msgspec.Struct, frozen=True, kw_only=True):
    """How many messages were deleted."""

    deleted: int


class TriedTaskBody(msgspec.Struct, frozen=True, kw_only=True):
    """A part or preparation that did not succeed at once."""

    phase: Phase
    number: int
    status: str
    attempts: int
    next_attempt_at: datetime | None
    error: Failure | None
    """Why the last attempt failed; null: a later one succeeded."""


class InspectedJobBody(msgspec.Struct, frozen=True, kw_only=True):
    """A job with what its users do not see of it."""

    job_id: str
    user_id: str
    status: JobStatus
    sequence: int
    told_sequence: int
    """Of the last end that was told: less than ``sequence`` in a job that is over means that its event is missing."""
    generation: int
    """Counts its plans: each time a file drops out or the upload is gone it is planned anew."""
    priority: int
    compression: Compression
    on_missing: OnMissing
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    expires_at: datetime | None
    error: Failure | None
    digest: str | None
    """Of the archive; jobs with the same one share it."""
    follows: str | None
    """The job that builds the archive for this one, too."""
    followers: int
    archive_key: str | None
    files: dict[str, int]
    """How many are in which state."""
    tasks: dict[str, dict[str, int]]
    """For each phase, how many parts or preparations of this plan are in which state."""
    attempts: int
    """Of all of them together."""
    tried: tuple[TriedTaskBody, ...]
    """Those that did not succeed at once, the most tried first; 100 at most."""


def letter_summary(letter: DeadLetter) -> DeadLetterSummary:
    """Return what lists tell of a message."""
    return DeadLetterSummary(**_common(letter, _decoded(letter.payload)))


def letter_view(letter: DeadLetter) -> DeadLetterView:
    """Return all that there is of a message."""
    payload = _decoded(letter.payload)
    return DeadLetterView(
        **_common(letter, payload),
        headers=letter.headers,
        payload=None if payload is msgspec.UNSET else payload,
        payload_base64=b64encode(letter.payload).decode() if payload is msgspec.UNSET else None,
    )


def _common(letter: DeadLetter, payload: Any) -> dict[str, Any]:
    job_id = payload.get("job_id") if isinstance(payload, dict) else None
    return {
        "sequence": letter.sequence,
        "stream": letter.stream,
        "subject": letter.subject,
        "reason": letter.reason,
        "given_up_at": in_seconds(letter.given_up_at),
        "job_id": job_id if isinstance(job_id, str) else None,
        "traceparent": letter.traceparent,
        "size_bytes": len(letter.payload),
    }


def _decoded(payload: bytes) -> Any:
    """Return what a payload says, or UNSET if it is not JSON."""
    try:
        return msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return msgspec.UNSET


def inspected_body(job: InspectedJob) -> InspectedJobBody:
    """Return the body that tells all of a job."""
    return InspectedJobBody(
        job_id=job.job_id,
        user_id=job.user_id,
        status=job.status,
        sequence=job.sequence,
        told_sequence=job.told_sequence,
        generation=job.generation,
        priority=job.priority,
        compression=job.compression,
        on_missing=job.on_missing,
        created_at=in_seconds(job.created_at),
        updated_at=in_seconds(job.updated_at),
        completed_at=in_seconds(job.completed_at) if job.completed_at else None,
        expires_at=in_seconds(job.expires_at) if job.expires_at else None,
        error=job.error,
        digest=job.digest,
        follows=job.follows,
        followers=job.followers,
        archive_key=job.archive_key,
        files=job.files,
        tasks={phase.value: counts for phase, counts in job.tasks.items()},
        attempts=job.attempts,
        tried=tuple(_tried_body(task) for task in job.tried),
    )


def _tried_body(task: TriedTask) -> TriedTaskBody:
    return TriedTaskBody(
        phase=task.phase,
        number=task.number,
        status=task.status,
        attempts=task.attempts,
        next_attempt_at=in_seconds(task.next_attempt_at) if task.next_attempt_at else None,
        error=task.error,
    )
