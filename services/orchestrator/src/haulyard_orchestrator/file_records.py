"""The record of a job's files (table ``download_job_files``): all SQL that reads and changes them."""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from haulyard_chassis.database import Connection
from haulyard_contracts import ErrorCode, Failure, FileStatus, HttpSource, ObjectSource, Source, decode, encode
from haulyard_orchestrator.planning import FoundFile, LostFile, PlannedFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What the preparations of a file found out."""

    version: str
    """Of the source that they read."""
    size: int
    crc32: int
    packed: int | None
    data: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFile:
    """One file of a job."""

    position: int
    file_id: int
    status: FileStatus = FileStatus.QUEUED
    name: str | None = None
    entry: int | None = None
    failure: Failure | None = None
    crc32: int | None = None
    size_bytes: int | None = None
    is_packed: bool = False
    confirmed: bool = True
    prepared: Prepared | None = None


_FILES = """
SELECT position, file_id, status, name, entry, error_code, error_message, crc32, size_bytes, packed_bytes, etag, source,
       prepared, confirmed
FROM download_job_files WHERE job_id = $1 ORDER BY position
"""


async def of_job(connection: Connection, job_id: str) -> list[JobFile]:
    """Return the files of a job in the order of the request."""
    return [_file(row) for row in await connection.fetch(_FILES, job_id)]


def _file(row: asyncpg.Record) -> JobFile:
    code = row["error_code"]
    return JobFile(
        position=row["position"],
        file_id=row["file_id"],
        status=FileStatus(row["status"]),
        name=row["name"],
        entry=row["entry"],
        failure=Failure(code=ErrorCode(code), message=row["error_message"] or "") if code else None,
        crc32=row["crc32"],
        size_bytes=row["size_bytes"],
        is_packed=row["packed_bytes"] is not None,
        confirmed=row["confirmed"],
        prepared=_prepared(row) if row["prepared"] else None,
    )


def _prepared(row: asyncpg.Record) -> Prepared:
    data: Source = decode(row["source"], Source)
    return Prepared(
        version=row["etag"],
        size=row["size_bytes"],
        crc32=row["crc32"],
        packed=row["packed_bytes"],
        data=data,
    )


_FOUND = """
SELECT position, file_id, size_bytes, crc32, etag, source, mtime, confirmed FROM download_job_files
WHERE job_id = $1 AND status = 'processing' AND source IS NOT NULL AND NOT prepared ORDER BY position
"""


async def found(connection: Connection, job_id: str) -> list[FoundFile]:
    """Return the files of a job that is being prepared, as they were found."""
    return [
        FoundFile(
            position=row["position"],
            file_id=row["file_id"],
            name="",  # comes from the catalogue when the archive is laid out
            origin=decode(row["source"], ObjectSource | HttpSource),
            data=decode(row["source"], ObjectSource | HttpSource),
            version=row["etag"],
            size=row["size_bytes"],
            mtime=row["mtime"],
            crc32=row["crc32"],
            confirmed=row["confirmed"],
        )
        for row in await connection.fetch(_FOUND, job_id)
    ]


def columns_of(files: Sequence[FoundFile], planned: Sequence[PlannedFile] = ()) -> list[list[object]]:
    """Return the values that are recorded of files, a list for each column, in the order of the statements here."""
    places = {each.file.position: each for each in planned}
    rows: list[tuple[object, ...]] = []
    for file in files:
        place = places.get(file.position)
        origin = file.origin if isinstance(file.origin, ObjectSource) else None
        rows.append(
            (
                file.position,
                place.name if place else None,
                file.size,
                origin.bucket if origin else None,
                origin.key if origin else None,
                file.version,
                file.crc32,
                file.packed,
                encode(file.data),
                file.mtime,
                place.entry if place else None,
                place.first_part if place else None,
                place.last_part if place else None,
                file.prepared,
                file.confirmed,
            )
        )
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(15)]


UNNEST = """unnest({0}::int[], {1}::text[], {2}::bigint[], {3}::text[], {4}::text[], {5}::text[], {6}::bigint[],
  {7}::bigint[], {8}::bytea[], {9}::bigint[], {10}::int[], {11}::int[], {12}::int[], {13}::bool[], {14}::bool[])
  AS plan (position, name, size_bytes, s3_bucket, s3_key, etag, crc32, packed_bytes, source, mtime, entry, first_part,
           last_part, prepared, confirmed)"""
"""The columns as a table; fill in the numbers of the parameters."""

_PLAN = f"""
UPDATE download_job_files file
SET status = 'processing', completed_at = NULL, name = plan.name, size_bytes = plan.size_bytes,
    s3_bucket = plan.s3_bucket, s3_key = plan.s3_key, etag = plan.etag, crc32 = plan.crc32,
    packed_bytes = plan.packed_bytes, source = plan.source, mtime = plan.mtime, entry = plan.entry,
    first_part = plan.first_part, last_part = plan.last_part, prepared = plan.prepared, confirmed = plan.confirmed
FROM {UNNEST.format(*(f"${number}" for number in range(2, 17)))}
WHERE file.job_id = $1 AND file.position = plan.position
"""  # noqa: S608 - only numbers of parameters are put in


async def plan(
    connection: Connection, job_id: str, files: Sequence[FoundFile], planned: Sequence[PlannedFile] = ()
) -> None:
    """Record what is known of a job's files, and their places in the archive once it is laid out."""
    await connection.execute(_PLAN, job_id, *columns_of(files, planned))


_LOSE = """
UPDATE download_job_files file
SET status = 'failed', completed_at = now(), entry = NULL, first_part = NULL, last_part = NULL,
    error_code = lost.code, error_message = lost.message, name = coalesce(lost.name, file.name)
FROM unnest($2::int[], $3::text[], $4::text[], $5::text[]) AS lost (position, code, message, name)
WHERE file.job_id = $1 AND file.position = lost.position AND file.status <> 'failed'
"""


async def lose(connection: Connection, job_id: str, lost: Sequence[LostFile]) -> None:
    """Record that files cannot be archived, and why."""
    if not lost:
        return
    await connection.execute(
        _LOSE,
        job_id,
        [file.position for file in lost],
        [file.failure.code for file in lost],
        [file.failure.message for file in lost],
        [file.name for file in lost],
    )


_STORE_CHECKSUMS = """
UPDATE download_job_files file SET crc32 = found.crc32
FROM unnest($2::int[], $3::bigint[]) AS found (entry, crc32)
WHERE file.job_id = $1 AND file.entry = found.entry AND file.crc32 IS NULL
"""


async def store_checksums(connection: Connection, job_id: str, checksums: dict[int, int]) -> None:
    """Record the CRC-32 of entries, by their index."""
    if checksums:
        await connection.execute(_STORE_CHECKSUMS, job_id, list(checksums), list(checksums.values()))


_FAIL_OPEN = """
UPDATE download_job_files SET status = 'failed', completed_at = now(), error_code = $2, error_message = $3
WHERE job_id = $1 AND status <> 'failed'
"""


async def fail_all(connection: Connection, job_id: str, failure: Failure) -> None:
    """Record that none of the files is archived."""
    await connection.execute(_FAIL_OPEN, job_id, failure.code, failure.message)


_COMPLETE_ALL = """
UPDATE download_job_files SET status = 'completed', completed_at = now() WHERE job_id = $1 AND status = 'processing'
"""


async def complete_all(connection: Connection, job_id: str) -> None:
    """Record that all files that were found are in the archive."""
    await connection.execute(_COMPLETE_ALL, job_id)


_MIRROR = """
UPDATE download_job_files file SET status = leader.status, completed_at = leader.completed_at
FROM download_jobs follower, download_job_files leader
WHERE follower.follows = $1 AND follower.status = 'processing' AND leader.job_id = $1
  AND file.job_id = follower.id AND file.entry = leader.entry AND file.status <> leader.status
"""


async def mirror(connection: Connection, leader_id: str) -> None:
    """Show with the jobs that follow one how far its files are."""
    await connection.execute(_MIRROR, leader_id)
