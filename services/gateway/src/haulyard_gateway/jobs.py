"""The endpoints of jobs that exist: list them, stop them, do them again, forget them."""

from datetime import UTC, datetime

from litestar import Response, delete, get, post

from haulyard_chassis.broker import TRACEPARENT, AlreadyPendingError
from haulyard_chassis.job_state import default_filename
from haulyard_chassis.logs import audit, get_logger
from haulyard_contracts import TERMINAL, FileStatus, JobAction, JobControl, JobDocument, JobStatus
from haulyard_gateway import openapi
from haulyard_gateway.auth import UserRequest
from haulyard_gateway.bodies import JobAccepted, JobPage, JobWish, job_summary
from haulyard_gateway.context import Context, Given
from haulyard_gateway.errors import JobNotOverError, JobOverError, NothingToRetryError
from haulyard_gateway.headers import NO_STORE, warning
from haulyard_gateway.initiating import Wanted, accept, answer, read_claim
from haulyard_gateway.own_jobs import own_job, warn_of
from haulyard_gateway.queries import JOB_PARAMETERS, job_cursor, link_to_next, parse_jobs_wanted
from haulyard_gateway.reading import read_query
from haulyard_gateway.status import JobIdPath
from haulyard_gateway.validation import InitiateRequest

log = get_logger(__name__)


@get("/jobs", **openapi.LIST_JOBS)
async def list_jobs(request: UserRequest, context: Given) -> Response[JobPage]:
    """List a user's jobs, the newest first."""
    query = read_query(request, JOB_PARAMETERS)
    wanted = parse_jobs_wanted(query)
    found = await context.ports.records.page(request.user, wanted)
    page = found[: wanted.limit]
    deleted = await context.ports.tombstones.among([job.document.job_id for job in page])
    cursor = job_cursor(page[-1].document) if len(found) > wanted.limit else None
    body = JobPage(
        jobs=tuple(
            job_summary(job, status_url=context.links.status(job.document.job_id))
            for job in page
            if job.document.job_id not in deleted
        ),
        next_cursor=cursor,
    )
    return Response(body, headers=NO_STORE | link_to_next(context.links.jobs(), query, cursor))


@post("/jobs/{job_id:str}/cancel", status_code=202, **openapi.CANCEL)
async def cancel(request: UserRequest, job_id: JobIdPath, context: Given) -> Response[JobWish]:
    """Stop a job; asked again while it is being stopped, or after, it is the same."""
    job, reading = await own_job(context.ports.state, job_id, request.user, sure=True)
    check_cancellable(job)
    if job.status is not JobStatus.CANCELLED:
        await _wish(request, context, job, JobAction.CANCEL)
    audit("job cancelled", user_id=request.user, job_id=job.job_id, status=job.status)
    status_url = context.links.status(job.job_id)
    body = JobWish(job_id=job.job_id, action=JobAction.CANCEL, status=job.status, status_url=status_url)
    return Response(body, headers={**NO_STORE, "Location": status_url, **warn_of(reading)})


@delete("/jobs/{job_id:str}", status_code=202, **openapi.DELETE_JOB)
async def delete_job(request: UserRequest, job_id: JobIdPath, context: Given) -> Response[JobWish]:
    """Forget a job: it is gone at once for whoever asks, and soon in truth."""
    job, _ = await own_job(context.ports.state, job_id, request.user)
    await _wish(request, context, job, JobAction.DELETE)
    is_hidden = await context.ports.tombstones.put(job.job_id)
    audit("job deleted", user_id=request.user, job_id=job.job_id, status=job.status)
    body = JobWish(job_id=job.job_id, action=JobAction.DELETE, status=job.status, status_url=None)
    headers = {} if is_hidden else warning("the status cache is away; the job may be seen a little longer")
    return Response(body, headers=NO_STORE | headers)


@post("/jobs/{job_id:str}/retry", status_code=202, **openapi.RETRY)
async def retry(request: UserRequest, job_id: JobIdPath, context: Given) -> Response[JobAccepted]:
    """Make a new job of the files that failed."""
    claim = read_claim(request, f"retry {job_id}", {})
    job, _ = await own_job(context.ports.state, job_id, request.user, sure=True)
    file_ids = files_to_retry(job)
    webhook_url = await context.ports.records.webhook_of(job.job_id)
    wanted = Wanted(job=repeated(job, file_ids, webhook_url), claim=claim, retry_of=job.job_id)
    return answer(context, await accept(request, context, wanted, charged=True))


def check_cancellable(job: JobDocument) -> None:
    """Return if a job can be stopped, or was.

    Raises:
        JobOverError
    """
    if job.status in TERMINAL and job.status is not JobStatus.CANCELLED:
        raise JobOverError(f"The job is {job.status}; it can no longer be cancelled.")


def files_to_retry(job: JobDocument) -> tuple[int, ...]:
    """Return the files of a job that are to be done again: those that failed, or all if there is no archive anyway.

    Raises:
        JobNotOverError: it is still at work.
        NothingToRetryError: all of them are in the archive.
    """
    if job.status not in TERMINAL:
        raise JobNotOverError(f"The job is {job.status}; cancel it first, or wait until it is over.")
    failed = tuple(file.file_id for file in job.files if file.status is FileStatus.FAILED)
    if not failed and job.status is JobStatus.COMPLETED:
        raise NothingToRetryError("Every file of the job was archived.")
    return failed or tuple(file.file_id for file in job.files)


def repeated(job: JobDocument, file_ids: tuple[int, ...], webhook_url: str | None) -> InitiateRequest:
    """Return the wish to do some files of a job again, as the job was done."""
    return InitiateRequest(
        file_ids=file_ids,
        priority=job.priority,
        filename=None if job.filename == default_filename(job.job_id) else job.filename,
        webhook_url=webhook_url,
        compression=job.compression,
        on_missing=job.on_missing,
    )


async def _wish(request: UserRequest, context: Context, job: JobDocument, action: JobAction) -> None:
    wish = JobControl(job_id=job.job_id, action=action, requested_at=datetime.now(UTC))
    try:
        await context.ports.publisher.publish(
            context.topology.job_control(job.job_id, action),
            wish,
            message_id=f"{job.job_id}:{action}",
            headers={TRACEPARENT: request.headers[TRACEPARENT]},
        )
    except AlreadyPendingError:
        log.info("the same wish is waiting already", job_id=job.job_id, action=action)
