"""May an archive be downloaded now, and for how long is the link good? Pure functions."""

from datetime import datetime, timedelta

from haulyard_chassis.problems import ArchiveExpiredError, JobFailedError, JobNotReadyError
from haulyard_contracts import ArchiveLocation, JobDocument, JobStatus
from haulyard_gateway.headers import RETRY_AFTER, retry_after


def find_archive(job: JobDocument, *, now: datetime) -> ArchiveLocation:
    """Return where a job's archive is.

    Raises:
        JobNotReadyError: it is yet to be made.
        JobFailedError: there will be none.
        ArchiveExpiredError: it is gone.
    """
    if job.status is JobStatus.EXPIRED or (job.expires_at is not None and job.expires_at <= now):
        raise ArchiveExpiredError("The archive was deleted after its time; start a new job for the same files.")
    if job.status in (JobStatus.FAILED, JobStatus.CANCELLED):
        reason = f" {job.error.code}: {job.error.message}" if job.error else ""
        raise JobFailedError(f"The job is {job.status}.{reason}")
    if job.status is not JobStatus.COMPLETED or job.archive is None:
        raise JobNotReadyError(
            f"The job is {job.status}: {job.progress.current} of {job.progress.total} files are done."
            f" Ask again in {RETRY_AFTER} seconds.",
            headers=retry_after(),
        )
    return job.archive


def link_lifetime(job: JobDocument, *, now: datetime, longest: int) -> timedelta:
    """Return how long a link is good for: ``longest`` seconds, but not longer than the archive is there."""
    lifetime = timedelta(seconds=longest)
    if job.expires_at is not None:
        left = timedelta(seconds=int((job.expires_at - now).total_seconds()))
        lifetime = min(lifetime, max(left, timedelta(seconds=1)))
    return lifetime
