"""Links to finished archives."""

from datetime import UTC, datetime

from litestar import Response, get

from haulyard_chassis.logs import audit
from haulyard_contracts import JobDocument
from haulyard_gateway import openapi
from haulyard_gateway.auth import UserRequest
from haulyard_gateway.bodies import ArchiveLink, in_seconds
from haulyard_gateway.context import Context, Given
from haulyard_gateway.downloads import find_archive, link_lifetime
from haulyard_gateway.headers import NO_STORE
from haulyard_gateway.own_jobs import own_job, warn_of
from haulyard_gateway.status import JobIdPath


@get("/jobs/{job_id:str}/download", **openapi.DOWNLOAD)
async def download(request: UserRequest, job_id: JobIdPath, context: Given) -> Response[ArchiveLink]:
    """Sign a link to a job's archive."""
    return await _signed(request, job_id, context)


@get("/download/{job_id:str}", **openapi.DOWNLOAD_ALIAS)
async def download_alias(request: UserRequest, job_id: JobIdPath, context: Given) -> Response[ArchiveLink]:
    """Sign a link to a job's archive; the original requirement has both paths."""
    return await _signed(request, job_id, context)


async def _signed(request: UserRequest, job_id: str, context: Context) -> Response[ArchiveLink]:
    # Whoever was told of the end must not be told now that there is nothing to download yet.
    job, reading = await own_job(context.ports.state, job_id, request.user, sure=True)
    return Response(archive_link(request.user, job, context), headers=NO_STORE | warn_of(reading))


def archive_link(user_id: str, job: JobDocument, context: Context) -> ArchiveLink:
    """Return a link to the archive of a user's job.

    Raises:
        JobNotReadyError, JobFailedError, ArchiveExpiredError: there is none; see `find_archive`.
    """
    now = datetime.now(UTC)
    archive = find_archive(job, now=now)
    lifetime = link_lifetime(job, now=now, longest=context.settings.download_expires)
    audit("archive link issued", user_id=user_id, job_id=job.job_id)
    return ArchiveLink(
        job_id=job.job_id,
        download_url=context.ports.store.presign_get(
            archive.bucket, archive.key, expires=int(lifetime.total_seconds()), filename=job.filename
        ),
        expires_at=in_seconds(now + lifetime),
        size_bytes=job.size_bytes,
        filename=job.filename,
    )
