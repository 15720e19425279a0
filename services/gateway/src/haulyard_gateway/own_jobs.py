"""A user's own job, or 404: one that is malformed, unknown or another's is the same to them."""

from haulyard_chassis.job_state import StateReading
from haulyard_chassis.problems import NotFoundError
from haulyard_contracts import JobDocument
from haulyard_gateway.headers import warning
from haulyard_gateway.ports import StatusReader
from haulyard_gateway.queries import JOB_ID


async def own_job(
    state: StatusReader, job_id: str, user_id: str, *, at_least: int = 0, sure: bool = False
) -> tuple[JobDocument, StateReading]:
    """Return a user's job, and how it was read.

    Args:
        state: reads it.
        job_id: as the client wrote it.
        user_id: who asks.
        at_least: a sequence that the job is said to have reached.
        sure: whether it must be known for certain that the job is not over.

    Raises:
        NotFoundError
        haulyard_chassis.job_state.JobStateUnavailableError
    """
    reading = (
        await state.look_up(job_id, at_least=at_least, sure=sure) if JOB_ID.fullmatch(job_id) else StateReading(None)
    )
    job = reading.document
    if job is None or job.user_id != user_id:
        raise NotFoundError("You have no job with this id.")
    return job, reading


def warn_of(reading: StateReading) -> dict[str, str]:
    """Return a ``Warning`` header if something was away."""
    return warning("the status cache is away; this was read without it") if "cache" in reading.away else {}
