"""The catalogue (table ``files``) as the orchestrator uses it: look files up, remember what was learned of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from haulyard_chassis.database import Connection, Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was true of a source when somebody last looked."""

    size: int
    etag: str
    mtime: int
    """Unix seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueFile:
    """A row of the catalogue."""

    file_id: int
    bucket: str | None
    """None, like ``key``: the source is at ``url``."""
    key: str | None
    url: str | None
    name: str
    facts: Facts | None
    """None: nobody has looked yet."""
    crc32: int | None
    crc32_etag: str | None
    """The version of the object that ``crc32`` belongs to."""


# A file of another user is as good as none: whether it exists is not told.
_FIND = """
SELECT id, bucket, key, url, name, size_bytes, etag, modified_at, crc32, crc32_etag FROM files
WHERE id = ANY($1::bigint[]) AND (owner_id = $2 OR owner_id IS NULL)
"""

# Sizes, ETags and checksums that the job found out, for the version that it read.
_REMEMBER = """
UPDATE files SET size_bytes = job.size_bytes, etag = job.etag, crc32 = job.crc32, crc32_etag = job.etag,
                 modified_at = to_timestamp(job.mtime)
FROM download_job_files job
WHERE job.job_id = $1 AND job.status = 'completed' AND job.crc32 IS NOT NULL AND job.etag <> ''
  AND files.id = job.file_id
  AND (files.url IS NOT NULL OR (files.bucket = job.s3_bucket AND files.key = job.s3_key))
  AND (files.crc32, files.crc32_etag) IS DISTINCT FROM (job.crc32, job.etag)
"""

_FORGET_CHECKSUM = "UPDATE files SET crc32 = NULL, crc32_etag = NULL WHERE id = $1"

_FORGET = "UPDATE files SET modified_at = NULL, crc32 = NULL, crc32_etag = NULL WHERE id = $1"


async def find(connection: Connection | Pool, file_ids: Sequence[int], *, user_id: str) -> dict[int, CatalogueFile]:
    """Return those of the files that the user may archive, by id."""
    rows = await connection.fetch(_FIND, list(file_ids), user_id)
    return {
        row["id"]: CatalogueFile(
            file_id=row["id"],
            bucket=row["bucket"],
            key=row["key"],
            url=row["url"],
            name=row["name"],
            facts=Facts(size=row["size_bytes"], etag=row["etag"], mtime=int(row["modified_at"].timestamp()))
            if None not in (row["size_bytes"], row["etag"], row["modified_at"])
            else None,
            crc32=row["crc32"],
            crc32_etag=row["crc32_etag"],
        )
        for row in rows
    }


async def remember(connection: Connection, job_id: str) -> None:
    """Keep the checksums that a job found out, so that nobody computes them again."""
    await connection.execute(_REMEMBER, job_id)


async def forget_checksum(connection: Connection, file_id: int) -> None:
    """Drop a checksum that turned out wrong."""
    await connection.execute(_FORGET_CHECKSUM, file_id)


async def forget(connection: Connection, file_id: int) -> None:
    """Drop all that was believed of a source, which is another one by now: the next plan looks at it."""
    await connection.execute(_FORGET, file_id)


async def delete_of_user(connection: Connection, user_id: str) -> int:
    """Forget all files of a user; return how many there were."""
    rows = await connection.fetch("DELETE FROM files WHERE owner_id = $1 RETURNING 1", user_id)
    return len(rows)
