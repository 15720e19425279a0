"""The archive itself: streamed before it is built, and afterwards where it lies in the store.

A client that has a part of what was streamed is never sent to the store for the rest: the store calls the same bytes by
another ETag, so that it would get them all anew.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from litestar import MediaType, Response, get, head

from haulyard_chassis.job_state import StateReading
from haulyard_chassis.logs import audit
from haulyard_chassis.problems import JobNotReadyError, NotFoundError
from haulyard_chassis.store import content_disposition
from haulyard_contracts import TERMINAL, ArchiveLocation, JobDocument
from haulyard_gateway import openapi
from haulyard_gateway.archive_conditions import NOT_MODIFIED, PARTIAL, Asked, Choice, choose, names, parse_asked
from haulyard_gateway.archive_contents import Awaited, Built, LaidOut
from haulyard_gateway.archive_ports import Wanted
from haulyard_gateway.archive_sending import ArchiveResponse
from haulyard_gateway.auth import TICKET, UserRequest
from haulyard_gateway.context import Context, Given
from haulyard_gateway.downloads import find_archive, link_lifetime
from haulyard_gateway.headers import NO_STORE, RETRY_AFTER, retry_after
from haulyard_gateway.own_jobs import own_job, warn_of
from haulyard_gateway.reading import read_query
from haulyard_gateway.status import JobIdPath
from haulyard_gateway.waiting import wait_for_change

_ZIP = "application/zip"

_ALWAYS = {
    "Accept-Ranges": "bytes",
    # Whoever asked may keep it; and nobody on the way may change it, or its ETag would no longer be true.
    "Cache-Control": "private, no-cache, no-transform",
}


@get("/jobs/{job_id:str}/archive", **openapi.ARCHIVE)
async def get_archive(request: UserRequest, job_id: JobIdPath, context: Given) -> Response[bytes]:
    """Send the archive, or lead to it."""
    return await _answer(request, job_id, context)


@head("/jobs/{job_id:str}/archive", **openapi.ARCHIVE_HEAD)
async def head_archive(request: UserRequest, job_id: JobIdPath, context: Given) -> Response[None]:
    """Say how long it is, and by which ETag it goes."""
    return await _answer(request, job_id, context)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Here:
    """It is sent from here."""

    job: JobDocument
    reading: StateReading
    archive: LaidOut | Built
    choice: Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class _Elsewhere:
    """It is to be had from the store."""

    job: JobDocument
    reading: StateReading
    location: ArchiveLocation


_Offer = _Here | _Elsewhere


async def _answer(request: UserRequest, job_id: str, context: Context) -> Response[Any]:
    read_query(request, (TICKET,))
    asked = parse_asked(request.method, request.headers)
    # Whoever was told of the end must not be told now that there is nothing to download yet.
    job, reading = await own_job(context.ports.state, job_id, request.user, sure=True)
    if job.status in TERMINAL:
        offer = await _offer_when_over(context, job, reading, asked)
    else:
        offer = await _offer_when_there_is_one(request, context, job, reading, asked)
    match offer:
        case _Here():
            return _content(request, context, offer, asked)
        case _Elsewhere():
            return _elsewhere(request, context, offer)


def _elsewhere(request: UserRequest, context: Context, offer: _Elsewhere) -> Response[bytes]:
    """Lead to the archive in the store."""
    job, place = offer.job, offer.location
    lifetime = link_lifetime(job, now=datetime.now(UTC), longest=context.settings.download_expires)
    link = context.ports.store.presign_get(
        place.bucket, place.key, expires=int(lifetime.total_seconds()), filename=job.filename
    )
    audit("archive link issued", user_id=request.user, job_id=job.job_id)
    headers = {**NO_STORE, "Location": link, **warn_of(offer.reading)}
    return Response(b"", status_code=307, headers=headers, media_type=MediaType.TEXT)


def _content(request: UserRequest, context: Context, offer: _Here, asked: Asked) -> Response[bytes]:
    """Send of the archive what was chosen."""
    job, archive, choice = offer.job, offer.archive, offer.choice
    headers = {**_ALWAYS, "ETag": archive.etag, **warn_of(offer.reading)}
    if choice.status == NOT_MODIFIED:
        return Response(b"", status_code=choice.status, headers=headers)
    headers |= {
        "Content-Type": _ZIP,
        "Content-Length": str(choice.stop - choice.start),
        "Content-Disposition": content_disposition(job.filename),
        "X-Accel-Buffering": "no",  # nginx would take all of it in, however slowly the client reads
    }
    if choice.status == PARTIAL:
        headers["Content-Range"] = f"bytes {choice.start}-{choice.stop - 1}/{archive.size}"
    if not asked.with_content:
        return Response(b"", status_code=choice.status, headers=headers)
    audit("archive streamed", user_id=request.user, job_id=job.job_id, start=choice.start, stop=choice.stop)
    wanted = Wanted(job_id=job.job_id, user_id=request.user, archive=archive, start=choice.start, stop=choice.stop)
    return ArchiveResponse(
        partial(context.ports.archives.open, wanted),
        status=choice.status,
        headers=headers,
        stall=context.settings.archive_stall,
    )


async def _offer_when_over(context: Context, job: JobDocument, reading: StateReading, asked: Asked) -> _Offer:
    """Return what a job is answered with that is over.

    Raises:
        JobFailedError, ArchiveExpiredError, NotFoundError: there is no archive.
        PreconditionFailedError, RangeNotSatisfiableError
    """
    elsewhere = _Elsewhere(job=job, reading=reading, location=find_archive(job, now=datetime.now(UTC)))
    if asked.with_content and not asked.is_conditional:
        return elsewhere  # which needs no database
    found = await _look(context, job, reading, asked)
    if not isinstance(found, str):
        return found
    if not asked.with_content:
        raise NotFoundError("You have no job with this id.")  # the record has it no longer: it has just been deleted
    return elsewhere


async def _offer_when_there_is_one(
    request: UserRequest, context: Context, job: JobDocument, reading: StateReading, asked: Asked
) -> _Offer:
    """Return what a job is answered with that is not over, as soon as there is something, or the job is over.

    Raises:
        JobNotReadyError: there was nothing in time.
        JobFailedError: there will be nothing.
        PreconditionFailedError, RangeNotSatisfiableError
    """
    found = await _look(context, job, reading, asked)
    if not isinstance(found, str):
        return found
    deadline = time.monotonic() + context.settings.archive_patience
    async with context.ports.changes.watch(job.job_id) as watch:
        newest: int | None = job.sequence
        while watch is not None and newest is not None:
            # The first time because it may have changed before we listened.
            job, reading = await own_job(context.ports.state, job.job_id, request.user, at_least=newest)
            if job.status in TERMINAL:
                return await _offer_when_over(context, job, reading, asked)
            found = await _look(context, job, reading, asked)
            if not isinstance(found, str):
                return found
            left = max(0.0, deadline - time.monotonic())
            newest = await wait_for_change(watch, request.receive, after=job.sequence, seconds=left)
    raise JobNotReadyError(
        f"The job is {job.status}, and {found}. Ask again in {RETRY_AFTER} seconds.", headers=retry_after()
    )


async def _look(context: Context, job: JobDocument, reading: StateReading, asked: Asked) -> _Offer | str:
    """Return what can be answered with, or why nothing can."""
    archive = await context.ports.archives.find(job.job_id)
    if isinstance(archive, Awaited):
        return "its archive is not laid out yet"
    if isinstance(archive, Built) and asked.with_content and not names(asked, archive.etag):
        return _Elsewhere(job=job, reading=reading, location=archive.location)
    choice = choose(asked, etag=archive.etag, size=archive.size)
    if isinstance(archive, LaidOut) and asked.with_content:
        unread = sum(archive.entries[index].size for index in archive.unknown(choice.start, choice.stop))
        if unread > context.settings.archive_probe_bytes:
            return "its files are still being read"
    return _Here(job=job, reading=reading, archive=archive, choice=choice)
