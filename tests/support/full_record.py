"""A record that holds many jobs, made by SQL in seconds: what an installation has after a week."""

from dataclasses import dataclass

from haulyard_chassis.database import Connection

HEAVY_USER = "user_heavy"
"""Has a tenth of the finished jobs."""
LARGE_TABLES = frozenset(
    {
        "download_jobs",
        "download_job_files",
        "download_job_parts",
        "archives",
        "files",
        "webhook_deliveries",
        "deleted_jobs",
    }
)
"""Tables that grow with the jobs: nobody may read one of them from end to end."""

# Finished jobs of three files and one part each, of the last week: nine in ten have an archive.
_FINISHED = """
WITH new AS (
  SELECT n, 'job_1' || lpad(n::text, 25, '0') AS id,
         CASE n % 50 WHEN 1 THEN 'failed' WHEN 2 THEN 'cancelled' WHEN 3 THEN 'expired' ELSE 'completed' END AS status,
         now() - interval '9900 minutes' * ((n * 7919 % 100003) / 100003.0) - interval '10 days' * (n % 50 = 3)::int
           AS created_at
  FROM generate_series($1::int, $2::int) AS n),
archive AS (
  INSERT INTO archives (id, digest, bucket, key, size_bytes, created_at, expires_at) OVERRIDING SYSTEM VALUE
  SELECT $4::bigint + n, md5(n::text) || md5(n::text), 'archives', 'archives/' || n || '.zip', 300000, created_at,
         created_at + interval '7 days'
  FROM new WHERE status = 'completed'),
job AS (
  INSERT INTO download_jobs (id, user_id, status, file_ids, total_files, completed_files, failed_files, error_code,
                             created_at, updated_at, completed_at, expires_at, sequence, told_sequence, checked_at,
                             filename, archive_bucket, archive_key, size_bytes, bytes_total, bytes_done, archive_id,
                             digest, planned_at, prepared_at, built_at)
  SELECT id, CASE n % 10 WHEN 0 THEN 'user_heavy' ELSE 'user_' || n % 97 END, status, '[1, 2, 3]', 3,
         CASE status WHEN 'completed' THEN 3 ELSE 0 END, CASE status WHEN 'failed' THEN 3 ELSE 0 END,
         CASE status WHEN 'failed' THEN 'INTERNAL' END, created_at, created_at, created_at + interval '1 second',
         created_at + interval '7 days', 3, 3, created_at, 'download_' || id || '.zip', 'archives',
         'archives/' || n || '.zip', 300000, 300000, 300000, CASE status WHEN 'completed' THEN $4::bigint + n END,
         md5(n::text) || md5(n::text), created_at, created_at, created_at
  FROM new),
file AS (
  INSERT INTO download_job_files (job_id, file_id, status, size_bytes, s3_key, error_code, completed_at, position, name,
                                  s3_bucket, etag, crc32, entry, first_part, last_part, mtime, source)
  SELECT id, $3 + (n * 3 + position) % $2, CASE status WHEN 'failed' THEN 'failed' ELSE 'completed' END, 100000,
         'sources/' || n || '/' || position, CASE status WHEN 'failed' THEN 'INTERNAL' END, created_at, position,
         n || '-' || position || '.bin', 'files', md5(n::text), n, position, 1, 1, 1760000000,
         decode(repeat('00', 120), 'hex')
  FROM new, generate_series(0, 2) AS position),
part AS (
  INSERT INTO download_job_parts (job_id, phase, number, generation, status, task, size_bytes, data_bytes, is_closing,
                                  is_body, etag)
  SELECT id, 'build', 1, 1, 'done', decode(repeat('00', 700), 'hex'), 300000, 300000, true, false, md5(n::text)
  FROM new),
deleted AS (
  INSERT INTO deleted_jobs (id, deleted_at) SELECT 'job_0' || lpad(n::text, 25, '0'), created_at
  FROM new WHERE n % 5 = 0),
catalogue AS (
  INSERT INTO files (id, owner_id, bucket, key, name, size_bytes, etag, crc32, crc32_etag, modified_at)
  SELECT $3::bigint + n, CASE n % 20 WHEN 0 THEN NULL WHEN 1 THEN 'user_heavy' ELSE 'user_' || n % 97 END, 'files',
         'sources/' || n, n || '.bin', 100000, md5(n::text), n, md5(n::text), now()
  FROM new)
INSERT INTO webhook_deliveries (id, job_id, user_id, url, event_type, payload, status, next_attempt_at)
SELECT id || ':3', id, 'user_' || n % 97, 'https://example.com/hook', 'completed', repeat('{}', 200), 'delivered', NULL
FROM new WHERE n % 10 = 5
"""

# Half of the jobs under way wait to be planned, half for an archiver; most of them the reconciler has looked at before.
_RUNNING = """
WITH new AS (
  SELECT n, 'job_2' || lpad(n::text, 25, '0') AS id,
         CASE n % 2 WHEN 0 THEN 'queued' ELSE 'processing' END AS status
  FROM generate_series($1::int, $2::int) AS n),
job AS (
  INSERT INTO download_jobs (id, user_id, status, file_ids, total_files, created_at, updated_at, sequence, checked_at,
                             filename, archive_bucket, archive_key, size_bytes, bytes_total, digest)
  SELECT id, 'user_' || n % 97, status, '[1, 2, 3]', 3, now() - interval '1 second' * (n % 3600), now(), 2,
         now() - interval '1 second' * (n % 120), 'download_' || id || '.zip', 'archives', 'archives/r' || n || '.zip',
         300000, 300000, CASE status WHEN 'processing' THEN 'r' || md5(n::text) END
  FROM new),
file AS (
  INSERT INTO download_job_files (job_id, file_id, status, size_bytes, s3_bucket, s3_key, etag, position, name, entry,
                                  first_part, last_part, mtime, source)
  SELECT id, $3 + n, status, 100000, 'files', 'sources/' || n, md5(n::text), position, n || '-' || position || '.bin',
         position, 1, 1, 1760000000, decode(repeat('00', 120), 'hex')
  FROM new, generate_series(0, 2) AS position)
INSERT INTO download_job_parts (job_id, phase, number, generation, status, next_attempt_at, task, size_bytes,
                                data_bytes, is_closing, is_body)
SELECT id, 'build', 1, 1, CASE n % 20 WHEN 1 THEN 'retrying' ELSE 'queued' END,
       CASE n % 20 WHEN 1 THEN now() + interval '1 second' * (n % 300 - 10) END, decode(repeat('00', 700), 'hex'),
       300000, 300000, true, false
FROM new WHERE status = 'processing'
"""

# The database gives away ids behind ours from now on.
_GO_ON = "SELECT setval(pg_get_serial_sequence('{0}', 'id'), greatest(max(id), $1)) FROM {0}"

_FIRST_FILE = 1_000_000
_FIRST_ARCHIVE = 1_000_000
"""Ids begin behind those that the database gave away before."""
_LAST = 100_000_000


@dataclass(frozen=True, slots=True)
class Filled:
    """What is in the record now."""

    finished: int
    running: int

    @property
    def finished_job(self) -> str:
        """One in the middle, completed."""
        return f"job_1{self.finished // 100 * 50 + 10:025}"

    @property
    def running_job(self) -> str:
        """One whose part an archiver has."""
        return f"job_2{self.running // 40 * 20 + 3:025}"

    @property
    def file_ids(self) -> list[int]:
        """Three that a user of any name may archive."""
        return [_FIRST_FILE + 20 * number for number in (1, 2, 3)]


async def add_jobs(connection: Connection, before: Filled, after: Filled) -> None:
    """Fill the record up.

    Foreign keys are not checked, and triggers do not fire: what is put in is right, and it takes seconds.

    Args:
        connection: of a superuser.
        before: what is in it.
        after: what is to be in it.
    """
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(
            _FINISHED, before.finished + 1, after.finished, _FIRST_FILE, _FIRST_ARCHIVE, timeout=300
        )
        for table in ("archives", "files"):
            await connection.execute(_GO_ON.format(table), _LAST)
        await connection.execute(_RUNNING, before.running + 1, after.running, _FIRST_FILE, timeout=300)
    await connection.execute("VACUUM ANALYZE", timeout=300)
