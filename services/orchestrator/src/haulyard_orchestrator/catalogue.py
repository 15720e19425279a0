"""The catalogue (table ``files``) as the orchestrator uses it: look files up, remember what was learned of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from haulyard_chassis.database import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueFile:
    """A row of the catalogue."""

    file_id: int
    bucket: str
    key: str
    name: str
    crc32: int | None
    crc32_etag: str | None
    """The version of the object that ``crc32`` belongs to."""


# A file of another user is as good as none: whether it exists is not told.
_FIND = """
SELECT id, bucket, key, name, crc32, crc32_etag FROM files
WHERE id = ANY($1::bigint[]) AND (owner_id = $2 OR owner_id IS NULL)
"""

# Sizes, ETags and checksums that the job found out, for the version that it read.
_REMEMBER = """
UPDATE files SET size_bytes = job.size_bytes, etag = job.etag, crc32 = job.crc32, crc32_etag = job.etag
FROM download_job_files job
WHERE job.job_id = $1 AND job.status = 'completed' AND job.crc32 IS NOT NULL AND files.id = job.file_id
  AND files.bucket = job.s3_bucket AND files.key = job.s3_key
  AND (files.crc32, files.crc32_etag) IS DISTINCT FROM (job.crc32, job.etag)
"""

_FORGET = "UPDATE files SET crc32 = NULL, crc32_etag = NULL WHERE id = $1"


async def find(connection: Connection, file_ids: Sequence[int], *, user_id: str) -> dict[int, CatalogueFile]:
    """Return those of the files that the user may archive, by id."""
    rows = await connection.fetch(_FIND, list(file_ids), user_id)
    return {
        row["id"]: CatalogueFile(
            file_id=row["id"],
            bucket=row["bucket"],
            key=row["key"],
            name=row["name"],
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
    await connection.execute(_FORGET, file_id)
