"""Jobs whose archive is one part, which most are: one statement when they are planned, one more when they are done.

A job of many parts takes a transaction for each step instead, and can afford it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import asyncpg

from haulyard_chassis.database import Pool
from haulyard_contracts import JobRequested, PartDone
from haulyard_orchestrator.file_records import UNNEST, columns_of
from haulyard_orchestrator.job_records import REQUEST_COLUMNS, REQUEST_VALUES, request_values
from haulyard_orchestrator.part_records import part_values
from haulyard_orchestrator.planning import FoundFile, Plan

_INSERT = f"""
WITH job AS (
  INSERT INTO download_jobs ({REQUEST_COLUMNS}, status, sequence, archive_bucket, archive_key, size_bytes, bytes_total,
                             digest, prepared_at, planned_at)
  VALUES ({REQUEST_VALUES}, 'processing', 2, $13, $14, $15, $16, $17, now(), now())
  ON CONFLICT (id) DO NOTHING RETURNING id),
files AS (
  INSERT INTO download_job_files (job_id, file_id, status, position, name, size_bytes, s3_bucket, s3_key, etag, crc32,
                                  packed_bytes, source, mtime, entry, first_part, last_part, prepared, confirmed)
  SELECT job.id, ($18::bigint[])[plan.position + 1], 'processing', plan.*
  FROM job, {UNNEST.format(*(f"${number}" for number in range(19, 34)))}),
part AS (
  INSERT INTO download_job_parts (job_id, phase, number, generation, status, task, size_bytes, data_bytes, is_closing,
                                  is_body, slice_of, slice_offset, slice_length)
  SELECT $34, $35, $36, $37, $38, $39, $40, $41, $42, $43, $44, $45, $46 FROM job)
SELECT id FROM job
"""  # noqa: S608 - only our own column names are put in


class SharedMeanwhileError(Exception):
    """Another job has begun to build the same archive."""


async def insert(
    pool: Pool,
    request: JobRequested,
    plan: Plan,
    found: Sequence[FoundFile],
    *,
    traceparent: str | None,
    bucket: str,
    key: str,
    digest: str | None,
) -> bool:
    """Create a job that is planned, of files that are all there and one part; return False if it exists already.

    Raises:
        SharedMeanwhileError: nothing is recorded.
    """
    (part,) = plan.parts
    try:
        created = await pool.fetchval(
            _INSERT,
            *request_values(request, traceparent=traceparent),
            bucket,
            key,
            plan.size,
            plan.bytes_total,
            digest,
            list(request.file_ids),
            *columns_of(found, plan.files),
            *(("queued" if value == "ready" else value) for value in part_values(part)),
        )
    except asyncpg.UniqueViolationError as error:
        raise SharedMeanwhileError from error
    return created is not None


# A result that comes twice finds the job completed and changes nothing. The file's checksum is read as it was before
# this statement, so the one that was found out now is put beside it.
_COMPLETE = """
WITH found AS (
  SELECT job.id, job.digest, job.archive_bucket, job.archive_key, job.size_bytes
  FROM download_jobs job
  WHERE job.id = $1 AND job.generation = $2 AND job.status = 'processing' AND job.upload_id IS NULL
    AND EXISTS (SELECT FROM download_job_parts part
                WHERE part.job_id = job.id AND part.phase = 'build' AND part.number = 1)
  FOR UPDATE),
archive AS (
  INSERT INTO archives (digest, bucket, key, size_bytes, expires_at)
  SELECT digest, archive_bucket, archive_key, size_bytes, now() + $3::interval FROM found
  RETURNING id, expires_at),
part_done AS (
  UPDATE download_job_parts SET status = 'done', etag = $4, bytes_through = $5, seconds = $6, next_attempt_at = NULL,
         error_code = NULL, error_message = NULL
  FROM found WHERE job_id = found.id AND phase = 'build' AND number = 1),
read_now AS (
  SELECT * FROM unnest($7::int[], $8::bigint[]) AS read_now (entry, crc32)),
files_done AS (
  UPDATE download_job_files file
  SET status = 'completed', completed_at = now(),
      crc32 = coalesce(file.crc32, (SELECT crc32 FROM read_now WHERE read_now.entry = file.entry))
  FROM found WHERE file.job_id = found.id AND file.status = 'processing'
  RETURNING file.file_id, file.s3_bucket, file.s3_key, file.etag, file.size_bytes, file.crc32, file.mtime),
remembered AS (
  UPDATE files SET size_bytes = done.size_bytes, etag = done.etag, crc32 = done.crc32, crc32_etag = done.etag,
                   modified_at = to_timestamp(done.mtime)
  FROM files_done done
  WHERE files.id = done.file_id AND done.crc32 IS NOT NULL AND done.etag <> ''
    AND (files.url IS NOT NULL OR (files.bucket = done.s3_bucket AND files.key = done.s3_key))
    AND (files.crc32, files.crc32_etag) IS DISTINCT FROM (done.crc32, done.etag)),
job_done AS (
  UPDATE download_jobs job
  SET status = 'completed', sequence = job.sequence + 1, completed_at = now(), built_at = now(),
      expires_at = archive.expires_at, archive_id = archive.id, bytes_done = job.bytes_total,
      bytes_through = job.bytes_through + $5, completed_files = job.total_files - job.failed_files,
      download_url = 's3://' || job.archive_bucket || '/' || job.archive_key
  FROM found, archive WHERE job.id = found.id
  RETURNING job.id, job.size_bytes, job.staged)
SELECT id, size_bytes, staged,
       ARRAY(SELECT id FROM download_jobs WHERE follows = $1 AND status = 'processing') AS followers
FROM job_done
"""


@dataclass(frozen=True, slots=True)
class CompletedJob:
    """A job that this result has completed."""

    size: int
    """Bytes of the archive."""
    staged: bool
    followers: tuple[str, ...]
    """Jobs that wait for the same archive."""


async def complete(
    pool: Pool, result: PartDone, checksums: Mapping[int, int], *, keep: timedelta
) -> CompletedJob | None:
    """Complete a job whose only part is in the store; None if it is over already, or was planned anew since.

    Args:
        pool: the database.
        result: of the part.
        checksums: CRC-32 of the entries that the part found out, by their index.
        keep: how long the archive is kept.
    """
    row = await pool.fetchrow(
        _COMPLETE,
        result.job_id,
        result.generation,
        keep,
        result.etag,
        result.bytes_through,
        result.seconds,
        list(checksums),
        list(checksums.values()),
    )
    return CompletedJob(row["size_bytes"], row["staged"], tuple(row["followers"])) if row else None
