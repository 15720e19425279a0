"""The record of jobs and their files (tables ``download_jobs``, ``download_job_files``): all SQL that changes them.

Every change of a job goes through its row lock (`lock`) and raises its sequence, so that whoever tells of it can say
which state is newer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg
import msgspec

from haulyard_chassis.database import Connection
from haulyard_chassis.job_state import default_filename
from haulyard_contracts import ErrorCode, Failure, FileStatus, JobRequested, JobStatus
from haulyard_orchestrator.lifecycle import JobAction, next_status
from haulyard_orchestrator.planning import LostFile, Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job's row, as far as the orchestrator decides by it."""

    id: str
    user_id: str
    status: JobStatus
    sequence: int
    told_sequence: int
    generation: int
    priority: int
    filename: str
    created_at: datetime
    traceparent: str | None
    bucket: str | None
    key: str | None
    upload_id: str | None
    size_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFile:
    """One file of a job."""

    position: int
    file_id: int
    status: FileStatus
    name: str | None
    entry: int | None
    failure: Failure | None
    crc32: int | None
    size_bytes: int | None


_JOB = """id, user_id, status, sequence, told_sequence, generation, priority, filename, created_at, traceparent,
archive_bucket, archive_key, upload_id, size_bytes"""


def _job(row: asyncpg.Record) -> Job:
    return Job(
        id=row["id"],
        user_id=row["user_id"],
        status=JobStatus(row["status"]),
        sequence=row["sequence"],
        told_sequence=row["told_sequence"],
        generation=row["generation"],
        priority=row["priority"],
        filename=row["filename"],
        created_at=row["created_at"],
        traceparent=row["traceparent"],
        bucket=row["archive_bucket"],
        key=row["archive_key"],
        upload_id=row["upload_id"],
        size_bytes=row["size_bytes"],
    )


_INSERT_JOB = """
INSERT INTO download_jobs (id, user_id, file_ids, total_files, webhook_url, created_at, priority, filename, traceparent)
VALUES ($1, $2, $3::jsonb, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO NOTHING RETURNING id
"""

_INSERT_FILES = """
INSERT INTO download_job_files (job_id, file_id, position)
SELECT $1, file_id, ordinality - 1 FROM unnest($2::bigint[]) WITH ORDINALITY AS request (file_id, ordinality)
"""


async def insert(connection: Connection, request: JobRequested, *, traceparent: str | None) -> bool:
    """Create a job with its files; return False if it exists already. Call inside a transaction."""
    created = await connection.fetchval(
        _INSERT_JOB,
        request.job_id,
        request.user_id,
        msgspec.json.encode(request.file_ids).decode(),
        len(request.file_ids),
        request.webhook_url,
        request.created_at,
        request.priority,
        request.filename or default_filename(request.job_id),
        traceparent,
    )
    if created is None:
        return False
    await connection.execute(_INSERT_FILES, request.job_id, list(request.file_ids))
    return True


async def get(connection: Connection, job_id: str) -> Job | None:
    """Return a job, or None."""
    row = await connection.fetchrow(f"SELECT {_JOB} FROM download_jobs WHERE id = $1", job_id)  # noqa: S608
    return _job(row) if row else None


async def lock(connection: Connection, job_id: str) -> Job | None:
    """Return a job and keep everybody else from changing it until the transaction ends."""
    row = await connection.fetchrow(f"SELECT {_JOB} FROM download_jobs WHERE id = $1 FOR UPDATE", job_id)  # noqa: S608
    return _job(row) if row else None


_FILES = """
SELECT position, file_id, status, name, entry, error_code, error_message, crc32, size_bytes
FROM download_job_files WHERE job_id = $1 ORDER BY position
"""


async def files(connection: Connection, job_id: str) -> list[JobFile]:
    """Return the files of a job in the order of the request."""
    return [
        JobFile(
            position=row["position"],
            file_id=row["file_id"],
            status=FileStatus(row["status"]),
            name=row["name"],
            entry=row["entry"],
            failure=Failure(code=ErrorCode(row["error_code"]), message=row["error_message"])
            if row["error_code"]
            else None,
            crc32=row["crc32"],
            size_bytes=row["size_bytes"],
        )
        for row in await connection.fetch(_FILES, job_id)
    ]


_PLAN_FILES = """
UPDATE download_job_files file
SET status = 'processing', completed_at = NULL, name = plan.name, size_bytes = plan.size, s3_bucket = plan.bucket,
    s3_key = plan.key, etag = plan.etag, crc32 = plan.crc32, entry = plan.entry, first_part = plan.first_part,
    last_part = plan.last_part
FROM unnest($2::int[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::bigint[], $9::int[],
            $10::int[], $11::int[])
  AS plan (position, name, size, bucket, key, etag, crc32, entry, first_part, last_part)
WHERE file.job_id = $1 AND file.position = plan.position
"""

_LOSE_FILES = """
UPDATE download_job_files file
SET status = 'failed', completed_at = now(), entry = NULL, first_part = NULL, last_part = NULL,
    error_code = lost.code, error_message = lost.message, name = coalesce(lost.name, file.name)
FROM unnest($2::int[], $3::text[], $4::text[], $5::text[]) AS lost (position, code, message, name)
WHERE file.job_id = $1 AND file.position = lost.position AND file.status <> 'failed'
"""

_PLAN_JOB = """
UPDATE download_jobs
SET status = $2, sequence = sequence + 1, archive_bucket = $3, archive_key = $4, upload_id = $5, size_bytes = $6,
    bytes_total = $7, bytes_done = 0, completed_files = 0, failed_files = $8
WHERE id = $1
"""


async def store_plan(
    connection: Connection,
    job: Job,
    plan: Plan,
    lost: Sequence[LostFile],
    *,
    bucket: str,
    key: str,
    upload_id: str | None,
) -> None:
    """Record what a job is going to be. The job must be locked."""
    await connection.execute(
        _PLAN_FILES,
        job.id,
        [planned.file.position for planned in plan.files],
        [planned.name for planned in plan.files],
        [planned.file.size for planned in plan.files],
        [planned.file.bucket for planned in plan.files],
        [planned.file.key for planned in plan.files],
        [planned.file.etag for planned in plan.files],
        [planned.file.crc32 for planned in plan.files],
        [planned.entry for planned in plan.files],
        [planned.first_part for planned in plan.files],
        [planned.last_part for planned in plan.files],
    )
    await lose_files(connection, job.id, lost)
    await connection.execute(
        _PLAN_JOB,
        job.id,
        next_status(job.status, JobAction.PLAN),
        bucket,
        key,
        upload_id,
        plan.size,
        plan.bytes_total,
        len(lost),
    )


async def lose_files(connection: Connection, job_id: str, lost: Sequence[LostFile]) -> None:
    """Record that files cannot be archived, and why."""
    if not lost:
        return
    await connection.execute(
        _LOSE_FILES,
        job_id,
        [file.position for file in lost],
        [file.failure.code for file in lost],
        [file.failure.message for file in lost],
        [file.name for file in lost],
    )


async def begin_anew(connection: Connection, job_id: str) -> None:
    """Make all results so far void; the next plan has the next generation. The job must be locked."""
    await connection.execute("UPDATE download_jobs SET generation = generation + 1 WHERE id = $1", job_id)
    await connection.execute("DELETE FROM download_job_parts WHERE job_id = $1", job_id)


_STORE_CHECKSUMS = """
UPDATE download_job_files file SET crc32 = found.crc32
FROM unnest($2::int[], $3::bigint[]) AS found (entry, crc32) WHERE file.job_id = $1 AND file.entry = found.entry
"""


async def store_checksums(connection: Connection, job_id: str, checksums: dict[int, int]) -> None:
    """Record the CRC-32 of entries, by their index."""
    if checksums:
        await connection.execute(_STORE_CHECKSUMS, job_id, list(checksums), list(checksums.values()))


_COMPLETE_FILES = """
WITH done AS (
  UPDATE download_job_files file SET status = 'completed', completed_at = now()
  WHERE file.job_id = $1 AND file.status = 'processing' AND $2 BETWEEN file.first_part AND file.last_part
    AND NOT EXISTS (
      SELECT FROM download_job_parts part
      WHERE part.job_id = $1 AND part.number BETWEEN file.first_part AND file.last_part AND part.status <> 'done')
  RETURNING 1)
UPDATE download_jobs
SET sequence = sequence + 1, bytes_done = bytes_done + $3,
    completed_files = completed_files + (SELECT count(*) FROM done)
WHERE id = $1
"""


async def part_is_done(connection: Connection, job_id: str, number: int, *, data_bytes: int) -> None:
    """Complete the files that now have all their parts, and count them. The job must be locked."""
    await connection.execute(_COMPLETE_FILES, job_id, number, data_bytes)


_END = """
UPDATE download_jobs
SET status = $2, sequence = sequence + 1, completed_at = now(), error_code = $3, error_message = $4,
    expires_at = now() + $5, download_url = $6
WHERE id = $1
"""


async def complete(connection: Connection, job: Job, *, keep: timedelta) -> None:
    """The archive is in the store. The job must be locked."""
    url = f"s3://{job.bucket}/{job.key}"
    await connection.execute(_END, job.id, next_status(job.status, JobAction.COMPLETE), None, None, keep, url)


_FAIL_OPEN_FILES = """
UPDATE download_job_files SET status = 'failed', completed_at = now(), error_code = $2, error_message = $3
WHERE job_id = $1 AND status <> 'failed'
"""

_COUNT_FAILED = "UPDATE download_jobs SET failed_files = total_files, completed_files = 0 WHERE id = $1"


async def fail(connection: Connection, job: Job, failure: Failure, *, keep: timedelta) -> None:
    """The job is over without an archive, and so are its files. The job must be locked."""
    await connection.execute(_FAIL_OPEN_FILES, job.id, failure.code, failure.message)
    await connection.execute(_COUNT_FAILED, job.id)
    status = next_status(job.status, JobAction.FAIL)
    await connection.execute(_END, job.id, status, failure.code, failure.message, keep, None)


async def cancel(connection: Connection, job: Job, *, keep: timedelta) -> None:
    """The user stopped the job. The job must be locked."""
    await connection.execute(_END, job.id, next_status(job.status, JobAction.CANCEL), None, None, keep, None)


_TOLD = "UPDATE download_jobs SET told_sequence = $2 WHERE id = $1 AND told_sequence < $2"


async def mark_told(connection: Connection, job_id: str, sequence: int) -> None:
    """Record that the event of this sequence is in the event stream."""
    await connection.execute(_TOLD, job_id, sequence)


_CLAIM_STALE = """
UPDATE download_jobs SET checked_at = now() WHERE id IN (
  SELECT id FROM download_jobs
  WHERE status IN ('queued', 'processing') AND checked_at < now() - $1::interval AND updated_at < now() - $1::interval
  ORDER BY checked_at LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING id
"""


async def claim_stale(connection: Connection, *, older_than: timedelta, limit: int) -> list[str]:
    """Return jobs that have not moved for a while; each is returned to one caller, and not again for as long."""
    return [row["id"] for row in await connection.fetch(_CLAIM_STALE, older_than, limit)]


_CLAIM_UNTOLD = """
UPDATE download_jobs SET checked_at = now() WHERE id IN (
  SELECT id FROM download_jobs
  WHERE told_sequence < sequence AND completed_at IS NOT NULL
    AND checked_at < now() - $1::interval AND updated_at < now() - $1::interval
  ORDER BY checked_at LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING id
"""


async def claim_untold(connection: Connection, *, older_than: timedelta, limit: int) -> list[str]:
    """Return jobs that are over and of whose end the event stream may not know."""
    return [row["id"] for row in await connection.fetch(_CLAIM_UNTOLD, older_than, limit)]


async def live_uploads(connection: Connection, keys: Sequence[str]) -> set[tuple[str, str]]:
    """Return which of the archive keys belong to uploads of jobs that are not over, as (key, upload id)."""
    rows = await connection.fetch(
        "SELECT archive_key, upload_id FROM download_jobs"
        " WHERE archive_key = ANY($1::text[]) AND upload_id IS NOT NULL AND status IN ('queued', 'processing')",
        list(keys),
    )
    return {(row["archive_key"], row["upload_id"]) for row in rows}
