"""The life of a job: one table of what may follow what.

The database has the same table (``job_transitions``) and refuses what is not in it; a test compares the two.
"""

from enum import StrEnum

from haulyard_contracts import JobStatus


class JobAction(StrEnum):
    """What can happen to a job."""

    PLAN = "plan"
    """Its layout is computed and its tasks are sent; again when a file drops out."""
    COMPLETE = "complete"
    FAIL = "fail"
    CANCEL = "cancel"
    EXPIRE = "expire"


TRANSITIONS: dict[tuple[JobStatus, JobAction], JobStatus] = {
    (JobStatus.QUEUED, JobAction.PLAN): JobStatus.PROCESSING,
    (JobStatus.QUEUED, JobAction.FAIL): JobStatus.FAILED,
    (JobStatus.QUEUED, JobAction.CANCEL): JobStatus.CANCELLED,
    (JobStatus.PROCESSING, JobAction.PLAN): JobStatus.PROCESSING,
    (JobStatus.PROCESSING, JobAction.COMPLETE): JobStatus.COMPLETED,
    (JobStatus.PROCESSING, JobAction.FAIL): JobStatus.FAILED,
    (JobStatus.PROCESSING, JobAction.CANCEL): JobStatus.CANCELLED,
    (JobStatus.COMPLETED, JobAction.EXPIRE): JobStatus.EXPIRED,
    (JobStatus.FAILED, JobAction.EXPIRE): JobStatus.EXPIRED,
    (JobStatus.CANCELLED, JobAction.EXPIRE): JobStatus.EXPIRED,
}


class IllegalTransitionError(Exception):
    """This cannot happen to a job in this state: somebody else was faster, or a message came late."""


def next_status(status: JobStatus, action: JobAction) -> JobStatus:
    """Return the state after ``action``.

    Raises:
        IllegalTransitionError: the table has no such pair.
    """
    try:
        return TRANSITIONS[status, action]
    except KeyError:
        raise IllegalTransitionError(f"a job that is {status} cannot {action}") from None
