"""The record of jobs (table ``download_jobs``): all SQL that changes them, but for `whole_records`.

Every change of a job goes through its row lock (`lock`) and raises its sequence, so that whoever tells of it can say
which state is newer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg
import msgspec

from haulyard_chassis.database import Connection, Pool
from haulyard_chassis.job_state import default_filename
from haulyard_contracts import Compression, Failure, JobRequested, JobStatus, OnMissing
from haulyard_orchestrator.lifecycle import Step, next_status
from haulyard_orchestrator.planning import Plan


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
    upload_crc32: bool
    size_bytes: int | None
    compression: Compression
    on_missing: OnMissing
    digest: str | None
    follows: str | None
    archive_id: int | None
    staged: bool


_JOB = """id, user_id, status, sequence, told_sequence, generation, priority, filename, created_at, traceparent,
archive_bucket, archive_key, upload_id, archive_crc32, size_bytes, compression, on_missing, digest, follows, archive_id,
staged"""


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
        upload_crc32=row["archive_crc32"],
        size_bytes=row["size_bytes"],
        compression=Compression(row["compression"]),
        on_missing=OnMissing(row["on_missing"]),
        digest=row["digest"],
        follows=row["follows"],
        archive_id=row["archive_id"],
        staged=row["staged"],
    )


def new_job(request: JobRequested, *, traceparent: str | None) -> Job:
    """Return the row that a request makes."""
    return Job(
        id=request.job_id,
        user_id=request.user_id,
        status=JobStatus.QUEUED,
        sequence=1,
        told_sequence=0,
        generation=1,
        priority=request.priority,
        filename=request.filename or default_filename(request.job_id),
        created_at=request.created_at,
        traceparent=traceparent,
        bucket=None,
        key=None,
        upload_id=None,
        upload_crc32=False,
        size_bytes=None,
        compression=request.compression,
        on_missing=request.on_missing,
        digest=None,
        follows=None,
        archive_id=None,
        staged=False,
    )


def request_values(request: JobRequested, *, traceparent: str | None) -> list[object]:
    """Return the values of `REQUEST_COLUMNS` that a request makes."""
    return [
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
    ]


REQUEST_COLUMNS = """id, user_id, file_ids, total_files, webhook_url, created_at, priority, filename, traceparent,
compression, on_missing, retry_of"""
"""Columns that a request fills."""
REQUEST_VALUES = "$1, $2, $3::jsonb, $4, $5, $6, $7, $8, $9, $10, $11, $12"

_INSERT = f"""
WITH job AS (
  INSERT INTO download_jobs ({REQUEST_COLUMNS}) VALUES ({REQUEST_VALUES}) ON CONFLICT (id) DO NOTHING RETURNING id),
files AS (
  INSERT INTO download_job_files (job_id, file_id, position)
  SELECT job.id, request.file_id, request.ordinality - 1
  FROM job, unnest($13::bigint[]) WITH ORDINALITY AS request (file_id, ordinality))
SELECT id FROM job
"""  # noqa: S608 - only our own column names are put in


async def insert(connection: Connection, request: JobRequested, *, traceparent: str | None) -> bool:
    """Create a job with its files; return False if it exists already."""
    values = request_values(request, traceparent=traceparent)
    return await connection.fetchval(_INSERT, *values, list(request.file_ids)) is not None


async def get(connection: Connection, job_id: str) -> Job | None:
    """Return a job, or None."""
    row = await connection.fetchrow(f"SELECT {_JOB} FROM download_jobs WHERE id = $1", job_id)  # noqa: S608
    return _job(row) if row else None


async def lock(connection: Connection, job_id: str) -> Job | None:
    """Return a job and keep everybody else from changing it until the transaction ends."""
    row = await connection.fetchrow(f"SELECT {_JOB} FROM download_jobs WHERE id = $1 FOR UPDATE", job_id)  # noqa: S608
    return _job(row) if row else None


# What a plan says of the job

_PREPARE = """
UPDATE download_jobs
SET status = $2, sequence = sequence + 1, digest = $3, bytes_total = $4, bytes_done = 0, completed_files = 0,
    failed_files = $5, staged = true, follows = NULL, preparing_at = now()
WHERE id = $1
"""


async def store_preparing(connection: Connection, job: Job, *, digest: str | None, bytes_total: int, lost: int) -> None:
    """Record that the job's files are being prepared. The job must be locked."""
    status = next_status(job.status, Step.PLAN)
    await connection.execute(_PREPARE, job.id, status, digest, bytes_total, lost)


_PLAN = """
UPDATE download_jobs
SET status = $2, sequence = sequence + 1, archive_bucket = $3, archive_key = $4, upload_id = $5, archive_crc32 = $6,
    size_bytes = $7, bytes_total = $8, bytes_done = CASE WHEN staged THEN bytes_done ELSE 0 END, completed_files = 0,
    failed_files = $9, digest = $10, follows = NULL, missing_name = $11, missing_text = $12, missing_mtime = $13,
    planned_at = now(), prepared_at = coalesce(prepared_at, now())
WHERE id = $1
"""


async def store_plan(
    connection: Connection,
    job: Job,
    plan: Plan,
    *,
    bucket: str,
    key: str,
    upload_id: str | None,
    digest: str | None,
    lost: int,
) -> None:
    """Record what a job is going to be. The job must be locked."""
    note = plan.note
    await connection.execute(
        _PLAN,
        job.id,
        next_status(job.status, Step.PLAN),
        bucket,
        key,
        upload_id,
        plan.upload_crc32,
        plan.size,
        plan.bytes_total,
        lost,
        digest,
        note.name if note else None,
        note.text if note else None,
        note.mtime if note else None,
    )


async def begin_anew(connection: Connection, job_id: str) -> None:
    """Make all results so far void; the next plan has the next generation. The job must be locked."""
    await connection.execute(
        "UPDATE download_jobs SET generation = generation + 1, digest = NULL, follows = NULL, bytes_copied = 0,"
        " bytes_through = 0 WHERE id = $1",
        job_id,
    )
    await connection.execute("DELETE FROM download_job_parts WHERE job_id = $1", job_id)
    # What was prepared of a source that has a version stays good while it has that version.
    await connection.execute(
        "UPDATE download_job_files SET prepared = false WHERE job_id = $1 AND prepared AND etag = ''", job_id
    )


_FOLLOW = """
UPDATE download_jobs job
SET status = $2, sequence = job.sequence + 1, digest = $3, follows = leader.id, bytes_total = leader.bytes_total,
    bytes_done = leader.bytes_done, completed_files = leader.completed_files, failed_files = $5,
    planned_at = now(), prepared_at = now()
FROM download_jobs leader
WHERE job.id = $1 AND leader.id = $4 AND leader.status = 'processing' AND leader.follows IS NULL
RETURNING 1
"""


async def follow(connection: Connection, job: Job, leader_id: str, *, digest: str, lost: int) -> bool:
    """Record that another job builds what this one wants; False if it no longer does. The job must be locked."""
    status = next_status(job.status, Step.PLAN)
    return await connection.fetchval(_FOLLOW, job.id, status, digest, leader_id, lost) is not None


async def release(connection: Connection, job_id: str) -> None:
    """Record that a job follows nobody any more: it has to be planned. The job must be locked."""
    await connection.execute("UPDATE download_jobs SET follows = NULL, digest = NULL WHERE id = $1", job_id)


async def followers(connection: Connection, job_id: str) -> list[str]:
    """Return the jobs that wait for what this one builds."""
    rows = await connection.fetch("SELECT id FROM download_jobs WHERE follows = $1 AND status = 'processing'", job_id)
    return [row["id"] for row in rows]


_MIRROR = """
UPDATE download_jobs follower
SET sequence = follower.sequence + 1, bytes_done = leader.bytes_done, bytes_total = leader.bytes_total,
    completed_files = leader.completed_files
FROM download_jobs leader
WHERE leader.id = $1 AND follower.follows = $1 AND follower.status = 'processing'
RETURNING follower.id
"""


async def mirror(connection: Connection, leader_id: str) -> list[str]:
    """Show with the jobs that follow one how far it is; return them."""
    return [row["id"] for row in await connection.fetch(_MIRROR, leader_id)]


# Progress

_COMPLETE_FILES = """
WITH done AS (
  UPDATE download_job_files file SET status = 'completed', completed_at = now()
  WHERE file.job_id = $1 AND file.status = 'processing' AND $2 BETWEEN file.first_part AND file.last_part
    AND NOT EXISTS (
      SELECT FROM download_job_parts part
      WHERE part.job_id = $1 AND part.phase = 'build' AND part.number BETWEEN file.first_part AND file.last_part
        AND part.status <> 'done')
  RETURNING 1)
UPDATE download_jobs
SET sequence = sequence + 1, bytes_done = bytes_done + $3, bytes_copied = bytes_copied + $4,
    bytes_through = bytes_through + $5, completed_files = completed_files + (SELECT count(*) FROM done)
WHERE id = $1
"""


async def part_is_done(
    connection: Connection, job_id: str, number: int, *, data_bytes: int, copied: int, through: int
) -> None:
    """Complete the files that now have all their parts, and count them. The job must be locked."""
    await connection.execute(_COMPLETE_FILES, job_id, number, data_bytes, copied, through)


async def preparation_is_done(connection: Connection, job_id: str, *, data_bytes: int, through: int) -> None:
    """Count what was prepared. The job must be locked."""
    await connection.execute(
        "UPDATE download_jobs SET sequence = sequence + 1, bytes_done = bytes_done + $2,"
        " bytes_through = bytes_through + $3 WHERE id = $1",
        job_id,
        data_bytes,
        through,
    )


async def all_is_prepared(connection: Connection, job_id: str) -> None:
    """Note when all preparations were done."""
    await connection.execute("UPDATE download_jobs SET prepared_at = now() WHERE id = $1", job_id)


async def all_is_built(connection: Connection, job_id: str) -> None:
    """Note when the last part was in the store."""
    await connection.execute("UPDATE download_jobs SET built_at = coalesce(built_at, now()) WHERE id = $1", job_id)


# Ends

_COMPLETE = """
UPDATE download_jobs job
SET status = $2, sequence = sequence + 1, completed_at = now(), expires_at = archive.expires_at,
    archive_id = archive.id, archive_bucket = archive.bucket, archive_key = archive.key, upload_id = NULL,
    size_bytes = archive.size_bytes, download_url = 's3://' || archive.bucket || '/' || archive.key,
    failed_files = coalesce($5, job.failed_files), completed_files = job.total_files - coalesce($5, job.failed_files),
    bytes_total = coalesce($6, bytes_total), bytes_done = coalesce($6, bytes_total), follows = NULL, digest = $4,
    planned_at = coalesce(planned_at, now()), prepared_at = coalesce(prepared_at, now()),
    built_at = coalesce(built_at, now())
FROM archives archive WHERE job.id = $1 AND archive.id = $3 AND archive.expires_at > now()
RETURNING 1
"""


async def complete(
    connection: Connection,
    job: Job,
    archive_id: int,
    *,
    digest: str | None,
    lost: int | None = None,
    bytes_total: int | None = None,
) -> bool:
    """The job has its archive; False if that is gone. The job must be locked.

    Args:
        connection: inside a transaction.
        job: the job.
        archive_id: its archive.
        digest: of the archive.
        lost: files that are not in it; None if they are counted already.
        bytes_total: of the files that are; None if they are counted already.
    """
    # A job that finds its archive in the store was never planned: for the table of states it is planned and complete.
    status = next_status(next_status(job.status, Step.PLAN), Step.COMPLETE)
    if job.status is JobStatus.QUEUED:
        await connection.execute("UPDATE download_jobs SET status = 'processing' WHERE id = $1", job.id)
    return await connection.fetchval(_COMPLETE, job.id, status, archive_id, digest, lost, bytes_total) is not None


_END = """
UPDATE download_jobs
SET status = $2, sequence = sequence + 1, completed_at = now(), error_code = $3, error_message = $4,
    expires_at = now() + $5
WHERE id = $1
"""

_COUNT_FAILED = "UPDATE download_jobs SET failed_files = total_files, completed_files = 0 WHERE id = $1"


async def fail(connection: Connection, job: Job, failure: Failure, *, keep: timedelta) -> None:
    """The job is over without an archive. The job must be locked."""
    await connection.execute(_COUNT_FAILED, job.id)
    await connection.execute(_END, job.id, next_status(job.status, Step.FAIL), failure.code, failure.message, keep)


async def cancel(connection: Connection, job: Job, *, keep: timedelta) -> None:
    """The user stopped the job. The job must be locked."""
    await connection.execute(_END, job.id, next_status(job.status, Step.CANCEL), None, None, keep)


async def expire(connection: Connection, job: Job) -> None:
    """The job's archive is no longer kept. The job must be locked."""
    await connection.execute(
        "UPDATE download_jobs SET status = $2, sequence = sequence + 1, archive_id = NULL, download_url = NULL"
        " WHERE id = $1",
        job.id,
        next_status(job.status, Step.EXPIRE),
    )


async def delete(connection: Connection, job_id: str) -> None:
    """Forget a job, its files, its parts and its deliveries. Its id is kept for a while: it must not come back."""
    await connection.execute("DELETE FROM webhook_deliveries WHERE job_id = $1", job_id)
    await connection.execute("DELETE FROM download_jobs WHERE id = $1", job_id)


async def forget_deleted(connection: Connection, *, older_than: timedelta) -> None:
    """Forget which jobs were deleted so long ago that nobody asks for them any more."""
    await connection.execute("DELETE FROM deleted_jobs WHERE deleted_at < now() - $1::interval", older_than)


@dataclass(frozen=True, slots=True)
class Took:
    """How long each phase of a job took, in seconds; None where it did not get there."""

    plan: float | None
    """From the request until it was known what is to be done."""
    prepare: float | None
    build: float | None
    finish: float | None


_TOLD = """
UPDATE download_jobs SET told_sequence = $2 WHERE id = $1 AND told_sequence < $2
RETURNING extract(epoch FROM coalesce(preparing_at, planned_at) - created_at)::float AS plan,
          extract(epoch FROM prepared_at - preparing_at)::float AS prepare,
          extract(epoch FROM built_at - planned_at)::float AS build,
          extract(epoch FROM completed_at - built_at)::float AS finish
"""


async def mark_told(connection: Connection | Pool, job_id: str, sequence: int) -> Took | None:
    """Record that the event of this sequence is in the event stream; None if that was known."""
    row = await connection.fetchrow(_TOLD, job_id, sequence)
    return Took(**dict(row)) if row else None


async def running(connection: Connection, user_id: str) -> int:
    """Return how many jobs of a user are being built or prepared."""
    return int(
        await connection.fetchval(
            "SELECT count(*) FROM download_jobs WHERE user_id = $1 AND status = 'processing' AND follows IS NULL",
            user_id,
        )
    )


# What the reconciler looks for

_CLAIM_STALE = """
UPDATE download_jobs SET checked_at = now() WHERE id IN (
  SELECT id FROM download_jobs
  WHERE status IN ('queued', 'processing') AND greatest(checked_at, updated_at) < now() - $1::interval
  ORDER BY greatest(checked_at, updated_at) LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING id
"""


async def claim_stale(connection: Connection, *, older_than: timedelta, limit: int) -> list[str]:
    """Return jobs that have not moved for a while; each is returned to one caller, and not again for as long."""
    return [row["id"] for row in await connection.fetch(_CLAIM_STALE, older_than, limit)]


_CLAIM_PARKED = """
UPDATE download_jobs SET checked_at = now() WHERE id IN (
  SELECT id FROM download_jobs WHERE status = 'queued' AND checked_at = 'epoch'
  ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING id
"""


async def claim_parked(connection: Connection, *, limit: int) -> list[str]:
    """Return jobs that were recorded because the broker did not take their requests; each to one caller."""
    return [row["id"] for row in await connection.fetch(_CLAIM_PARKED, limit)]


async def park_again(connection: Connection, job_ids: Sequence[str]) -> None:
    """Give claimed jobs back that could not begin."""
    await connection.execute(
        "UPDATE download_jobs SET checked_at = 'epoch' WHERE id = ANY($1::text[]) AND status = 'queued'", list(job_ids)
    )


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


async def overdue(connection: Connection, *, older_than: timedelta, limit: int) -> list[str]:
    """Return jobs that have taken longer than a job may."""
    rows = await connection.fetch(
        "SELECT id FROM download_jobs WHERE status IN ('queued', 'processing') AND created_at < now() - $1::interval"
        " ORDER BY created_at LIMIT $2",
        older_than,
        limit,
    )
    return [row["id"] for row in rows]


async def expired(connection: Connection, *, limit: int) -> list[str]:
    """Return jobs whose time is over, and of which that is not recorded yet."""
    rows = await connection.fetch(
        "SELECT id FROM download_jobs WHERE status IN ('completed', 'failed', 'cancelled') AND expires_at <= now()"
        " ORDER BY expires_at LIMIT $1",
        limit,
    )
    return [row["id"] for row in rows]


async def forgettable(connection: Connection, *, older_than: timedelta, limit: int) -> list[str]:
    """Return jobs that expired long ago."""
    rows = await connection.fetch(
        "SELECT id FROM download_jobs WHERE status = 'expired' AND expires_at <= now() - $1::interval LIMIT $2",
        older_than,
        limit,
    )
    return [row["id"] for row in rows]


async def of_user(connection: Connection, user_id: str, *, limit: int) -> list[str]:
    """Return jobs of a user."""
    rows = await connection.fetch("SELECT id FROM download_jobs WHERE user_id = $1 LIMIT $2", user_id, limit)
    return [row["id"] for row in rows]


async def live_uploads(connection: Connection, keys: Sequence[str]) -> set[tuple[str, str]]:
    """Return which of the archive keys belong to uploads of jobs that are not over, as (key, upload id)."""
    rows = await connection.fetch(
        "SELECT archive_key, upload_id FROM download_jobs"
        " WHERE archive_key = ANY($1::text[]) AND upload_id IS NOT NULL AND status IN ('queued', 'processing')",
        list(keys),
    )
    return {(row["archive_key"], row["upload_id"]) for row in rows}


async def live(connection: Connection, job_ids: Sequence[str]) -> set[str]:
    """Return those of the jobs that are not over."""
    rows = await connection.fetch(
        "SELECT id FROM download_jobs WHERE id = ANY($1::text[]) AND status IN ('queued', 'processing')", list(job_ids)
    )
    return {row["id"] for row in rows}
