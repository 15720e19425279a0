"""When a job may be done: a promise to nobody, and a hint how long to wait before asking again."""

import math
from datetime import datetime, timedelta

from haulyard_contracts import TERMINAL, JobDocument

_OVERHEAD = 5.0
"""Seconds from request to first part, on a system that is not busy."""
_PER_FILE = 0.5
"""Seconds a file; neither sizes nor load are known when a job is accepted."""
_FURTHEST = timedelta(days=7)
"""What lies further ahead is no estimate: then nothing is left of the job anyway."""


def estimated_completion(created_at: datetime, *, files: int) -> datetime:
    """Return when a job of so many files is expected to be done: 5 s, and half a second for each file."""
    return created_at + timedelta(seconds=math.ceil(_OVERHEAD + _PER_FILE * files))


def bytes_per_second(job: JobDocument) -> int | None:
    """Return how fast a job goes, from its start to its last change; None until something is done."""
    elapsed = (job.updated_at - job.created_at).total_seconds()
    if elapsed <= 0 or not job.progress.bytes_current:
        return None
    return int(job.progress.bytes_current / elapsed)


def expected_completion(job: JobDocument) -> datetime | None:
    """Return when a job is expected to be done, from the bytes that are; None if it is over, or nothing is known.

    It only depends on the state, so that a state has one answer however often it is asked for.
    """
    if job.status in TERMINAL:
        return None
    speed = bytes_per_second(job)
    if speed:
        left = max(job.progress.bytes_total - job.progress.bytes_current, 0)
        return job.updated_at + timedelta(seconds=left / speed) if left < speed * _FURTHEST.total_seconds() else None
    guess = estimated_completion(job.created_at, files=job.progress.total)
    return guess if guess > job.updated_at else None
