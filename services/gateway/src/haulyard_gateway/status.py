"""How a job is: at once, or as soon as that changes."""

from typing import Annotated, Any

from litestar import Response, get
from litestar.params import PathParameter

from haulyard_chassis.job_state import StateReading
from haulyard_contracts import TERMINAL, JobDocument
from haulyard_gateway import openapi
from haulyard_gateway.auth import UserRequest
from haulyard_gateway.bodies import JobView, job_view
from haulyard_gateway.conditions import STATUS_PARAMETERS, Known, etag, is_known, parse_known, should_wait
from haulyard_gateway.context import Context, Given
from haulyard_gateway.headers import NO_STORE, retry_after
from haulyard_gateway.own_jobs import own_job, warn_of
from haulyard_gateway.reading import read_query
from haulyard_gateway.waiting import wait_for_change

JobIdPath = Annotated[str, PathParameter(description="The job's id, as `initiate` gave it.")]


@get("/jobs/{job_id:str}/status", **openapi.STATUS)
async def status(request: UserRequest, job_id: JobIdPath, context: Given) -> Response[JobView]:
    """Tell how a job is."""
    known = parse_known(read_query(request, STATUS_PARAMETERS), request.headers.get("If-None-Match"))
    job, reading = await own_job(context.ports.state, job_id, request.user, at_least=known.least)
    if should_wait(job, known):
        job, reading = await _wait(request, context, job, reading, known)
    headers = NO_STORE | {"ETag": etag(job)} | warn_of(reading)
    if job.status not in TERMINAL:
        headers |= retry_after()
    if is_known(job, known):
        return Response[Any](None, status_code=304, headers=headers)
    return Response(job_view(job, archive_url=context.archive_url(job.job_id, job.user_id)), headers=headers)


async def _wait(
    request: UserRequest, context: Context, job: JobDocument, reading: StateReading, known: Known
) -> tuple[JobDocument, StateReading]:
    """Return the job after its next change, or as it is when the time is up."""
    state = context.ports.state
    async with context.ports.changes.watch(job.job_id) as watch:
        if watch is None:
            return job, reading
        before = job.sequence
        # It may have changed before we listened.
        job, reading = await own_job(state, job.job_id, request.user, at_least=known.least)
        if job.sequence > before or not should_wait(job, known):
            return job, reading
        changed = await wait_for_change(watch, request.receive, after=job.sequence, seconds=known.wait)
    if changed is None:
        return job, reading
    return await own_job(state, job.job_id, request.user, at_least=changed)
