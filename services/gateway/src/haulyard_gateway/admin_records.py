"""What operators may know of a job: its tasks, their attempts, and whose archive it waits for. All SQL of it."""

from collections import defaultdict

import asyncpg

from haulyard_chassis.database import Pool
from haulyard_contracts import Compression, ErrorCode, Failure, JobStatus, OnMissing, Phase
from haulyard_gateway.job_records import record
from haulyard_gateway.ports import InspectedJob, TriedTask

_TIMEOUT = 5.0
_MOST_TRIED = 100
"""Tasks that are told of one by one; a job has up to 10,000, and when all of them fail, some tell enough."""

_JOB = """
SELECT job.id, user_id, status, sequence, told_sequence, generation, priority, compression, on_missing, job.created_at,
       updated_at, completed_at, job.expires_at, error_code, error_message, job.digest, follows, archive_key,
       (SELECT count(*) FROM download_jobs follower WHERE follower.follows = job.id) AS followers
FROM download_jobs job WHERE job.id = $1
"""

_FILES = "SELECT status, count(*) AS count FROM download_job_files WHERE job_id = $1 GROUP BY status ORDER BY status"

_TASKS = """
SELECT phase, status, count(*) AS count, sum(attempts) AS attempts
FROM download_job_parts WHERE job_id = $1 GROUP BY phase, status ORDER BY phase, status
"""

_TRIED = """
SELECT phase, number, status, attempts, next_attempt_at, error_code, error_message
FROM download_job_parts WHERE job_id = $1 AND (attempts > 1 OR error_code IS NOT NULL)
ORDER BY attempts DESC, phase, number LIMIT $2
"""


class Inspections:
    """What operators may know of jobs. Every method raises `RecordUnavailableError` when the database is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def job(self, job_id: str) -> InspectedJob | None:
        """Return anybody's job, as it is at one moment."""
        async with record(self._pool) as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            job = await connection.fetchrow(_JOB, job_id, timeout=_TIMEOUT)
            if job is None:
                return None
            files = await connection.fetch(_FILES, job_id, timeout=_TIMEOUT)
            tasks = await connection.fetch(_TASKS, job_id, timeout=_TIMEOUT)
            tried = await connection.fetch(_TRIED, job_id, _MOST_TRIED, timeout=_TIMEOUT)
        by_phase: dict[Phase, dict[str, int]] = defaultdict(dict)
        for row in tasks:
            by_phase[Phase(row["phase"])][row["status"]] = row["count"]
        return InspectedJob(
            job_id=job["id"],
            user_id=job["user_id"],
            status=JobStatus(job["status"]),
            sequence=job["sequence"],
            told_sequence=job["told_sequence"],
            generation=job["generation"],
            priority=job["priority"],
            compression=Compression(job["compression"]),
            on_missing=OnMissing(job["on_missing"]),
            created_at=job["created_at"],
            updated_at=job["updated_at"],
            completed_at=job["completed_at"],
            expires_at=job["expires_at"],
            error=_failure(job),
            digest=job["digest"],
            follows=job["follows"],
            followers=job["followers"],
            archive_key=job["archive_key"],
            files={row["status"]: row["count"] for row in files},
            tasks=dict(by_phase),
            attempts=sum(row["attempts"] for row in tasks),
            tried=tuple(
                TriedTask(
                    phase=Phase(row["phase"]),
                    number=row["number"],
                    status=row["status"],
                    attempts=row["attempts"],
                    next_attempt_at=row["next_attempt_at"],
                    error=_failure(row),
                )
                for row in tried
            ),
        )


def _failure(row: asyncpg.Record) -> Failure | None:
    code = row["error_code"]
    return Failure(code=ErrorCode(code), message=row["error_message"] or "") if code else None
