"""The gateway's SQL of jobs: pages of a user's, a job's webhook, and jobs that wait for the broker. Nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import asyncpg
import msgspec

from haulyard_chassis.database import UNAVAILABLE, Connection, Pool
from haulyard_chassis.job_state import default_filename, percentage
from haulyard_contracts import (
    Compression,
    ErrorCode,
    Failure,
    JobDocument,
    JobRequested,
    JobStatus,
    OnMissing,
    Progress,
)
from haulyard_gateway.errors import RecordUnavailableError
from haulyard_gateway.ports import ListedJob
from haulyard_gateway.queries import JobsWanted

_ACQUIRE_TIMEOUT = 5.0
_STATEMENT_TIMEOUT = 5.0

# A walk along the index (user_id, created_at, id), from where the page before ended; or along the one that begins with
# (user_id, status), which one statement for both could not count on.
_PAGE = """
SELECT id, user_id, status, sequence, total_files, completed_files, failed_files, bytes_total, bytes_done, created_at,
       updated_at, completed_at, expires_at, priority, filename, error_code, error_message, size_bytes, compression,
       on_missing, retry_of, bytes_copied, bytes_through
FROM download_jobs
WHERE user_id = $1 AND (created_at, id) < ($2, $3) AND created_at >= $4 {}
ORDER BY created_at DESC, id DESC
LIMIT $5
"""
PAGE = _PAGE.format("")
PAGE_OF_STATUS = _PAGE.format("AND status = $6")

_WEBHOOK = "SELECT webhook_url FROM download_jobs WHERE id = $1"

# As the orchestrator records a request; it was not looked at for long, so that it is driven on at once.
_PARK = """
WITH job AS (
  INSERT INTO download_jobs (id, user_id, file_ids, total_files, webhook_url, created_at, priority, filename,
                             traceparent, compression, on_missing, retry_of, checked_at)
  VALUES ($1, $2, $3::jsonb, $4, $5, $6, $7, $8, $9, $10, $11, $12, 'epoch')
  ON CONFLICT (id) DO NOTHING RETURNING id)
INSERT INTO download_job_files (job_id, file_id, position)
SELECT job.id, request.file_id, request.ordinality - 1
FROM job, unnest($13::bigint[]) WITH ORDINALITY AS request (file_id, ordinality)
"""

_LATEST = datetime.max.replace(tzinfo=UTC)
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


@asynccontextmanager
async def record(pool: Pool) -> AsyncIterator[Connection]:
    """Lend a connection to the record.

    Raises:
        RecordUnavailableError: the database is away.
    """
    try:
        async with pool.acquire(timeout=_ACQUIRE_TIMEOUT) as connection:
            yield connection
    except UNAVAILABLE as error:
        raise RecordUnavailableError(repr(error)) from error


class JobRecords:
    """The record of jobs. Every method raises `RecordUnavailableError` when the database is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(self, user_id: str, wanted: JobsWanted) -> list[ListedJob]:
        """Return one job more than the page has, if there are more."""
        created, job_id = wanted.before or (_LATEST, "")
        if wanted.created_before is not None and wanted.created_before < created:
            created, job_id = wanted.created_before, ""
        async with record(self._pool) as connection:
            rows = await connection.fetch(
                PAGE if wanted.status is None else PAGE_OF_STATUS,
                user_id,
                created,
                job_id,
                wanted.created_after or _EARLIEST,
                wanted.limit + 1,
                *(() if wanted.status is None else (wanted.status,)),
                timeout=_STATEMENT_TIMEOUT,
            )
        return [ListedJob(_document(row), row["failed_files"]) for row in rows]

    async def webhook_of(self, job_id: str) -> str | None:
        """Return a job's webhook."""
        async with record(self._pool) as connection:
            found: str | None = await connection.fetchval(_WEBHOOK, job_id, timeout=_STATEMENT_TIMEOUT)
        return found

    async def park(self, request: JobRequested, *, traceparent: str) -> None:
        """Record a job whose request the broker does not take now."""
        async with record(self._pool) as connection:
            await connection.execute(
                _PARK,
                request.job_id,
                request.user_id,
                msgspec.json.encode(request.file_ids).decode(),
                len(request.file_ids),
                request.webhook_url,
                request.created_at,
                request.priority,
                request.filename or default_filename(request.job_id),
                traceparent,
                request.compression,
                request.on_missing,
                request.retry_of,
                list(request.file_ids),
                timeout=_STATEMENT_TIMEOUT,
            )


def _document(row: asyncpg.Record) -> JobDocument:
    settled = row["completed_files"] + row["failed_files"]
    code = row["error_code"]
    return JobDocument(
        job_id=row["id"],
        user_id=row["user_id"],
        status=JobStatus(row["status"]),
        sequence=row["sequence"],
        progress=Progress(
            current=settled,
            total=row["total_files"],
            percentage=percentage(settled, row["total_files"]),
            bytes_current=row["bytes_done"],
            bytes_total=row["bytes_total"],
        ),
        files=(),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        priority=row["priority"],
        filename=row["filename"],
        completed_at=row["completed_at"],
        expires_at=row["expires_at"],
        error=Failure(code=ErrorCode(code), message=row["error_message"] or "") if code else None,
        size_bytes=row["size_bytes"] if row["status"] == JobStatus.COMPLETED else None,
        compression=Compression(row["compression"]),
        on_missing=OnMissing(row["on_missing"]),
        retry_of=row["retry_of"],
        bytes_copied=row["bytes_copied"],
        bytes_through=row["bytes_through"],
    )
