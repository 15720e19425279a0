"""The endpoints of jobs: ask for an archive, see how it is, get a link to it."""

import asyncio
import re
from datetime import UTC, datetime
from typing import Annotated

from litestar import Response, get, post
from litestar.params import PathParameter
from ulid import ULID

from haulyard_chassis.broker import TRACEPARENT
from haulyard_chassis.job_state import CACHE_UNAVAILABLE, StateReading, queued_document
from haulyard_chassis.logs import get_logger
from haulyard_chassis.problems import NotFoundError
from haulyard_contracts import TERMINAL, JobDocument, JobRequested
from haulyard_gateway import openapi
from haulyard_gateway.auth import UserRequest
from haulyard_gateway.bodies import ArchiveLink, JobAccepted, JobView, in_seconds, job_view
from haulyard_gateway.context import Given
from haulyard_gateway.downloads import find_archive, link_lifetime
from haulyard_gateway.estimates import estimated_completion
from haulyard_gateway.headers import NO_STORE, retry_after, warning
from haulyard_gateway.ports import StatusCache, StatusReader
from haulyard_gateway.reading import read_object
from haulyard_gateway.validation import parse_initiate

log = get_logger(__name__)

JobIdPath = Annotated[str, PathParameter(description="The job's id, as `initiate` gave it.")]

_CACHE_PATIENCE = 1.0
"""Seconds that an answer waits for the cache: the job is safe already."""
_JOB_ID = re.compile(r"job_[0-7][0-9A-HJKMNP-TV-Z]{25}")  # Crockford's base 32, as ULIDs are written


@post("/download/initiate", status_code=202, **openapi.INITIATE)
async def initiate(request: UserRequest, context: Given) -> Response[JobAccepted]:
    """Accept a job: one round trip to the broker, one to the cache, and the database is not needed."""
    wanted = parse_initiate(
        await read_object(request),
        max_files=context.settings.max_files_per_job,
        allow_private_webhooks=context.settings.environment == "development",
    )
    now = datetime.now(UTC)
    job = JobRequested(
        job_id=f"job_{ULID.from_datetime(now)}",
        user_id=request.user,
        file_ids=wanted.file_ids,
        created_at=now,
        priority=wanted.priority,
        filename=wanted.filename,
        webhook_url=wanted.webhook_url,
    )
    await context.ports.publisher.publish(
        context.topology.job_requested(job.priority, job.job_id),
        job,
        message_id=job.job_id,
        headers={TRACEPARENT: request.headers[TRACEPARENT]},
    )
    log.info("job accepted", job_id=job.job_id, user_id=job.user_id, files=len(job.file_ids), priority=job.priority)
    document = queued_document(job)
    cached = await _remember(context.ports.cache, document)
    ticket = context.tickets.issue(job.job_id, job.user_id, ttl_seconds=context.settings.ticket_ttl)
    status_url = context.links.status(job.job_id)
    return Response(
        JobAccepted(
            job_id=job.job_id,
            status=document.status,
            created_at=in_seconds(now),
            estimated_completion=in_seconds(estimated_completion(now, files=len(job.file_ids))),
            total_files=len(job.file_ids),
            websocket_url=context.links.websocket(job.job_id, ticket),
            status_url=status_url,
            events_url=context.links.events(job.job_id, ticket),
        ),
        headers={
            **NO_STORE,
            **retry_after(),
            "Location": status_url,
            **({} if cached else warning("the status cache is away; the job is safe, and its status may lag")),
        },
    )


@get("/jobs/{job_id:str}/status", **openapi.STATUS)
async def status(request: UserRequest, job_id: JobIdPath, context: Given) -> Response[JobView]:
    """Tell how a job is."""
    job, reading = await _own_job(context.ports.state, job_id, request.user)
    again = {} if job.status in TERMINAL else retry_after()
    return Response(job_view(job), headers=NO_STORE | again | _warn_of(reading))


@get("/jobs/{job_id:str}/download", **openapi.DOWNLOAD)
async def download(request: UserRequest, job_id: JobIdPath, context: Given) -> Response[ArchiveLink]:
    """Sign a link to a job's archive."""
    # Whoever was told of the end must not be told now that there is nothing to download yet.
    job, reading = await _own_job(context.ports.state, job_id, request.user, sure=True)
    now = datetime.now(UTC)
    archive = find_archive(job, now=now)
    lifetime = link_lifetime(job, now=now, longest=context.settings.download_expires)
    link = ArchiveLink(
        job_id=job.job_id,
        download_url=context.ports.store.presign_get(
            archive.bucket, archive.key, expires=int(lifetime.total_seconds()), filename=job.filename
        ),
        expires_at=in_seconds(now + lifetime),
        size_bytes=job.size_bytes,
        filename=job.filename,
    )
    log.info("archive link issued", job_id=job.job_id, user_id=request.user)
    return Response(link, headers=NO_STORE | _warn_of(reading))


async def _remember(cache: StatusCache, document: JobDocument) -> bool:
    """Write a job's first state to the cache; whether that was possible."""
    try:
        async with asyncio.timeout(_CACHE_PATIENCE):
            await cache.put(document)
    except CACHE_UNAVAILABLE as error:
        log.warning("cache unavailable", job_id=document.job_id, error=repr(error))
        return False
    return True


async def _own_job(
    state: StatusReader, job_id: str, user_id: str, *, sure: bool = False
) -> tuple[JobDocument, StateReading]:
    """Return a user's job; one that is malformed, unknown or another's is the same to them."""
    reading = await state.look_up(job_id, sure=sure) if _JOB_ID.fullmatch(job_id) else StateReading(None)
    job = reading.document
    if job is None or job.user_id != user_id:
        raise NotFoundError("You have no job with this id.")
    return job, reading


def _warn_of(reading: StateReading) -> dict[str, str]:
    return warning("the status cache is away; this was read without it") if "cache" in reading.away else {}
