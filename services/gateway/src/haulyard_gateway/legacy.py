"""The synchronous endpoints of before: is a file there, and the deprecated start, which waits for the archive.

Sources: RFC 9745 (Deprecation), RFC 8594 (Sunset), RFC 8288 (Link), RFC 7234, section 5.5.7 (Warning 299).
"""

import asyncio
from datetime import UTC, datetime
from email.utils import format_datetime

from litestar import Response, post

from haulyard_chassis.job_state import JobStateUnavailableError
from haulyard_chassis.logs import get_logger
from haulyard_chassis.problems import NotFoundError
from haulyard_chassis.store import AccessDeniedError, ObjectNotFoundError, StoreRefusedError
from haulyard_contracts import TERMINAL, JobDocument
from haulyard_gateway import openapi
from haulyard_gateway.answering import note_headers
from haulyard_gateway.archives import archive_link
from haulyard_gateway.auth import UserRequest
from haulyard_gateway.bodies import ArchiveLink, JobAccepted
from haulyard_gateway.context import Context, Given
from haulyard_gateway.file_bodies import Availability
from haulyard_gateway.file_validation import ObjectAt
from haulyard_gateway.headers import NO_STORE, warning
from haulyard_gateway.initiating import accept, answer, read_wanted
from haulyard_gateway.links import Links
from haulyard_gateway.looking import look_at
from haulyard_gateway.own_jobs import own_job
from haulyard_gateway.reading import read_object
from haulyard_gateway.validation import parse_check, parse_start
from haulyard_gateway.waiting import wait_for_change

log = get_logger(__name__)

DEPRECATED_AT = datetime(2026, 11, 25, tzinfo=UTC)
SUNSET = datetime(2027, 11, 25, tzinfo=UTC)


def deprecation(links: Links) -> dict[str, str]:
    """Return the headers that say that an endpoint goes, when, and what takes its place."""
    return {
        "Deprecation": f"@{int(DEPRECATED_AT.timestamp())}",
        "Sunset": format_datetime(SUNSET, usegmt=True),
        "Link": f'<{links.initiate()}>; rel="successor-version"',
        "Warning": '299 haulyard "Deprecated: use POST /v1/download/initiate, which answers at once"',
    }


@post("/download/check", status_code=200, **openapi.CHECK)
async def check(request: UserRequest, context: Given) -> Response[Availability]:
    """Look whether one file can be archived."""
    file_id = parse_check(await read_object(request))
    file = await context.ports.catalogue.get(file_id, user_id=request.user)
    if file is None:
        gone = Availability(
            file_id=file_id, available=False, name=None, size_bytes=None, reason="You have no file with this id."
        )
        return Response(gone, headers=NO_STORE)
    reason, size = None, file.size_bytes
    if isinstance(file.source, ObjectAt):
        try:
            size = (await look_at(context.ports.store, file.source)).size
        except ObjectNotFoundError:
            reason = "It has not been uploaded yet." if file.is_awaited else "Its source is gone."
        except (AccessDeniedError, StoreRefusedError) as error:
            log.info("source refused", file_id=file_id, error=str(error))
            reason = "Its source may not be read."
    body = Availability(
        file_id=file_id,
        available=reason is None,
        name=file.name,
        size_bytes=size if reason is None else None,
        reason=reason,
    )
    return Response(body, headers=NO_STORE)


@post("/download/start", status_code=200, **openapi.START)
async def start(request: UserRequest, context: Given) -> Response[ArchiveLink | JobAccepted]:
    """Make an archive and wait for it; hand over to the job if it takes longer than a proxy would wait."""
    note_headers(request.scope, deprecation(context.links))
    accepted = await accept(request, context, await read_wanted(request, context, "start", parse_start))
    job = None if accepted.parked else await _until_over(request, context, accepted.request.job_id)
    if job is None or job.status not in TERMINAL:
        return answer(context, accepted)  # type: ignore[return-value]  # one of the two
    return Response(archive_link(request.user, job, context), headers={**NO_STORE, **warning(*accepted.warnings)})


async def _until_over(request: UserRequest, context: Context, job_id: str) -> JobDocument | None:
    """Return the job when it is over, or as it is when the time is up; None if it cannot be followed."""
    now = asyncio.get_running_loop().time
    ends = now() + context.settings.start_wait
    async with context.ports.changes.watch(job_id) as watch:
        at_least = 0
        while watch is not None:
            try:
                job, _ = await own_job(context.ports.state, job_id, request.user, at_least=at_least)
            except (NotFoundError, JobStateUnavailableError) as error:
                log.warning("job cannot be followed", job_id=job_id, error=str(error))
                return None
            if job.status in TERMINAL:
                return job
            changed = await wait_for_change(watch, request.receive, after=job.sequence, seconds=max(ends - now(), 0))
            if changed is None:
                return job
            at_least = changed
    return None
