"""The life of a job: one table of what may follow what.

The database has the same table (``job_transitions``) and refuses what is not in it; a test compares the two.
"""

from enum import StrEnum

from haulyard_contracts import JobStatus


class Step(StrEnum):
    """What can happen to a job."""

    PLAN = "plan"
    """Its layout is computed and its tasks are sent; again when a file drops out."""
    COMPLETE = "complete"
    FAIL = "fail"
    CANCEL = "cancel"
    EXPIRE = "expire"


TRANSITIONS: dict[tuple[JobStatus, Step], JobStatus] = {
    (JobStatus.QUEUED, Step.PLAN): JobStatus.PROCESSING,
    (JobStatus.QUEUED, Step.FAIL): JobStatus.FAILED,
    (JobStatus.QUEUED, Step.CANCEL): JobStatus.CANCELLED,
    (JobStatus.PROCESSING, Step.PLAN): JobStatus.PROCESSING,
    (JobStatus.PROCESSING, Step.COMPLETE): JobStatus.COMPLETED,
    (JobStatus.PROCESSING, Step.FAIL): JobStatus.FAILED,
    (JobStatus.PROCESSING, Step.CANCEL): JobStatus.CANCELLED,
    (JobStatus.COMPLETED, Step.EXPIRE): JobStatus.EXPIRED,
    (JobStatus.FAILED, Step.EXPIRE): JobStatus.EXPIRED,
    (JobStatus.CANCELLED, Step.EXPIRE): JobStatus.EXPIRED,
}


class IllegalTransitionError(Exception):
    """This cannot happen to a job in this state: somebody else was faster, or a message came late."""


def next_status(status: JobStatus, action: Step) -> JobStatus:
    """Return the state after ``action``.

    Raises:
        IllegalTransitionError: the table has no such pair.
    """
    try:
        return TRANSITIONS[status, action]
    except KeyError:
        raise IllegalTransitionError(f"a job that is {status} cannot {action}") from None
