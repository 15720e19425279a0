"""The record of archives (table ``archives``), which jobs share: all SQL that reads and changes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from ulid import ULID

from haulyard_chassis.database import Connection, Pool

ARCHIVES: Final = "archives/"
"""Start of the keys of all archives."""


def archive_key(now: datetime) -> str:
    """Return a new key, behind those of before; it names no job, because several may come to have the archive."""
    return f"{ARCHIVES}{str(ULID.from_datetime(now)).lower()}.zip"


@dataclass(frozen=True, slots=True)
class Shared:
    """Where what a job wants is to be had already."""

    archive_id: int | None = None
    """A finished archive."""
    leader_id: str | None = None
    """A job that is building it."""

    @property
    def is_nowhere(self) -> bool:
        """Whether it has to be built."""
        return self.archive_id is None and self.leader_id is None


_FIND = """
SELECT (SELECT id FROM archives WHERE digest = $1 AND expires_at > now() + $3::interval
        ORDER BY expires_at DESC LIMIT 1) AS archive_id,
       (SELECT id FROM download_jobs
        WHERE digest = $1 AND status = 'processing' AND follows IS NULL AND id <> $2 LIMIT 1) AS leader_id
"""


async def find_shared(connection: Connection | Pool, digest: str, *, job_id: str, remaining: timedelta) -> Shared:
    """Return who has, or builds, an archive with a digest.

    Args:
        connection: to the database.
        digest: of the archive.
        job_id: the job that asks.
        remaining: how long a finished archive must be kept at least from now on.
    """
    row = await connection.fetchrow(_FIND, digest, job_id, remaining)
    return Shared(row["archive_id"], row["leader_id"]) if row else Shared()


_INSERT = """
INSERT INTO archives (digest, bucket, key, size_bytes, expires_at) VALUES ($1, $2, $3, $4, now() + $5) RETURNING id
"""


async def insert(
    connection: Connection, *, digest: str | None, bucket: str, key: str, size: int, keep: timedelta
) -> int:
    """Record a finished archive; return its id."""
    return int(await connection.fetchval(_INSERT, digest, bucket, key, size, keep))


_WANTED = """
SELECT EXISTS (SELECT FROM archives WHERE key = $1)
    OR EXISTS (SELECT FROM download_jobs WHERE archive_key = $1 AND status IN ('queued', 'processing'))
"""


async def is_wanted(connection: Connection, key: str) -> bool:
    """Whether an object is an archive, or is to become one."""
    return bool(await connection.fetchval(_WANTED, key))


_UNKNOWN = """
SELECT listed.key FROM unnest($1::text[]) AS listed (key)
WHERE NOT EXISTS (SELECT FROM archives WHERE archives.key = listed.key)
  AND NOT EXISTS (SELECT FROM download_jobs
                  WHERE archive_key = listed.key AND status IN ('queued', 'processing'))
"""


async def unknown(connection: Connection, keys: Sequence[str]) -> list[str]:
    """Return those of the keys that no archive has, and that none is to get."""
    return [row["key"] for row in await connection.fetch(_UNKNOWN, list(keys))]


@dataclass(frozen=True, slots=True)
class Unused:
    """An archive that no job has any more, or whose time is over."""

    id: int
    bucket: str
    key: str


# Two statements: a plan that has to do for both of them would read all archives.
_CLAIM = """
SELECT id, bucket, key FROM archives archive
WHERE {} AND NOT EXISTS (SELECT FROM download_jobs WHERE archive_id = archive.id AND status = 'completed')
ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
"""
_CLAIM_EXPIRED = _CLAIM.format("expires_at <= now()")
_CLAIM_ONE = _CLAIM.format("id = $2")


async def claim_unused(connection: Connection, *, limit: int, archive_id: int | None = None) -> list[Unused]:
    """Return archives that are to be deleted, locked for this transaction: no job can take one up meanwhile.

    Args:
        connection: inside a transaction.
        limit: at most so many.
        archive_id: look at this one only, whether its time is over or not.
    """
    if archive_id is None:
        rows = await connection.fetch(_CLAIM_EXPIRED, limit)
    else:
        rows = await connection.fetch(_CLAIM_ONE, limit, archive_id)
    return [Unused(row["id"], row["bucket"], row["key"]) for row in rows]


_LET_GO = """
UPDATE archives archive SET expires_at = now()
WHERE id = $1 AND NOT EXISTS (SELECT FROM download_jobs WHERE archive_id = archive.id AND status = 'completed')
"""


async def let_go(connection: Connection, archive_id: int) -> None:
    """End the time of an archive if no job has it any more."""
    await connection.execute(_LET_GO, archive_id)


async def delete(connection: Connection, archive_id: int) -> None:
    """Forget an archive."""
    await connection.execute("DELETE FROM archives WHERE id = $1", archive_id)
