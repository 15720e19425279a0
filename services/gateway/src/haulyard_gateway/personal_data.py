"""What is held of a user, and receipts for those who wish to be forgotten: all SQL of it."""

import hashlib
import hmac
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import msgspec

from haulyard_chassis.database import Pool
from haulyard_gateway.job_records import record
from haulyard_gateway.ports import Erasure

_BATCH = 500
"""Rows of one list that are in memory at a time."""
_STATEMENT_TIMEOUT = 10.0

# What only the machinery needs, and says nothing of the user.
_INTERNAL = [
    *("told_sequence", "checked_at", "generation", "archive_bucket", "archive_key", "upload_id", "digest", "follows"),
    *("archive_id", "archive_crc32", "missing_text", "missing_name", "missing_mtime", "staged", "download_url"),
]

# Each list comes in batches along an index, from the last row of the batch before ($2), as JSON that PostgreSQL makes.

_JOBS = """
SELECT job.id AS place, to_jsonb(job) - $4::text[] || jsonb_build_object('files', (
         SELECT jsonb_agg(to_jsonb(file) - '{id,job_id,source,s3_bucket,s3_key}'::text[] ORDER BY position)
         FROM download_job_files file WHERE job_id = job.id)) AS item
FROM download_jobs job
WHERE user_id = $1 AND id > $2
ORDER BY id LIMIT $3
"""

_FILES = """
SELECT id AS place, to_jsonb(file) - $4::text[] AS item
FROM files file WHERE owner_id = $1 AND id > $2 ORDER BY id LIMIT $3
"""

_DELIVERIES = """
SELECT delivery.id AS place, to_jsonb(delivery) - $4::text[] AS item
FROM webhook_deliveries delivery JOIN download_jobs job ON job.id = delivery.job_id
WHERE job.user_id = $1 AND delivery.id > $2 ORDER BY delivery.id LIMIT $3
"""

_LISTS: tuple[tuple[str, str, Any], ...] = (("jobs", _JOBS, ""), ("files", _FILES, 0), ("deliveries", _DELIVERIES, ""))

_BEGIN = "INSERT INTO erasures (id, user_hash, requested_at) VALUES ($1, $2, $3)"
_DROP = "DELETE FROM erasures WHERE id = $1 AND completed_at IS NULL"
_GET = "SELECT id, user_hash, requested_at, completed_at, counts FROM erasures WHERE id = $1"


def user_hash(user_id: str, secret: str) -> str:
    """Return what stands for a user on a receipt: whoever has the secret can check a guess, and nobody can find out."""
    return hmac.new(secret.encode(), b"erasure\0" + user_id.encode(), hashlib.sha256).hexdigest()


class PersonalDataRecords:
    """The record of what is held of a user. Every method raises `RecordUnavailableError` when the database is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def export(self, user_id: str) -> AsyncIterator[tuple[str, list[bytes]]]:
        """Yield each list's name and its next items, as JSON; a list without items comes once, with none."""
        for name, query, start in _LISTS:
            place, is_last = start, False
            while not is_last:
                async with record(self._pool) as connection:
                    rows = await connection.fetch(query, user_id, place, _BATCH, _INTERNAL, timeout=_STATEMENT_TIMEOUT)
                yield name, [row["item"].encode() for row in rows]
                is_last = len(rows) < _BATCH
                place = rows[-1]["place"] if rows else place

    async def begin_erasure(self, erasure_id: str, user_hash: str, requested_at: datetime) -> None:
        """Record that a user wishes to be forgotten."""
        async with record(self._pool) as connection:
            await connection.execute(_BEGIN, erasure_id, user_hash, requested_at, timeout=_STATEMENT_TIMEOUT)

    async def drop_erasure(self, erasure_id: str) -> None:
        """Take back what could not be handed over."""
        async with record(self._pool) as connection:
            await connection.execute(_DROP, erasure_id, timeout=_STATEMENT_TIMEOUT)

    async def erasure(self, erasure_id: str) -> Erasure | None:
        """Return how far it is."""
        async with record(self._pool) as connection:
            row = await connection.fetchrow(_GET, erasure_id, timeout=_STATEMENT_TIMEOUT)
        if row is None:
            return None
        return Erasure(
            erasure_id=row["id"],
            user_hash=row["user_hash"],
            requested_at=row["requested_at"],
            completed_at=row["completed_at"],
            counts=msgspec.json.decode(row["counts"], type=dict[str, int]),
        )
