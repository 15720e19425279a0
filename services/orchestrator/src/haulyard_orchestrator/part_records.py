"""The record of a job's parts (table ``download_job_parts``): all SQL that reads and changes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import asyncpg
from msgspec.structs import replace

from haulyard_chassis.database import Connection
from haulyard_chassis.store import UploadedPart
from haulyard_contracts import Failure, PartDone, PartTask, decode, encode
from haulyard_orchestrator.planning import PlannedPart


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRow:
    """One part of a job."""

    number: int
    status: str
    is_closing: bool
    is_body: bool
    slice_of: int | None
    slice_offset: int | None
    slice_length: int | None
    slice_crc32: int | None
    attempts: int
    data_bytes: int
    task: PartTask
    """With the attempt that is to be made."""


_PART = """number, status, is_closing, is_body, slice_of, slice_offset, slice_length, slice_crc32, attempts, data_bytes,
task"""


def _part(row: asyncpg.Record) -> PartRow:
    return PartRow(
        number=row["number"],
        status=row["status"],
        is_closing=row["is_closing"],
        is_body=row["is_body"],
        slice_of=row["slice_of"],
        slice_offset=row["slice_offset"],
        slice_length=row["slice_length"],
        slice_crc32=row["slice_crc32"],
        attempts=row["attempts"],
        data_bytes=row["data_bytes"],
        task=replace(decode(row["task"], PartTask), attempt=row["attempts"]),
    )


_INSERT = """
INSERT INTO download_job_parts (job_id, number, generation, status, task, size_bytes, data_bytes, is_closing, is_body,
                                slice_of, slice_offset, slice_length)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
"""


async def insert(connection: Connection, parts: Sequence[PlannedPart]) -> None:
    """Record the parts of a plan."""
    await connection.executemany(
        _INSERT,
        [
            (
                part.task.job_id,
                part.task.number,
                part.task.generation,
                "waiting" if part.waits else "queued",
                encode(part.task),
                part.task.size,
                part.data_bytes,
                part.is_closing,
                part.is_body,
                part.slice.entry if part.slice else None,
                part.slice.offset if part.slice else None,
                part.slice.length if part.slice else None,
            )
            for part in parts
        ],
    )


async def get(connection: Connection, job_id: str, number: int) -> PartRow | None:
    """Return one part, or None."""
    row = await connection.fetchrow(
        f"SELECT {_PART} FROM download_job_parts WHERE job_id = $1 AND number = $2",  # noqa: S608
        job_id,
        number,
    )
    return _part(row) if row else None


async def with_status(connection: Connection, job_id: str, status: str) -> list[PartRow]:
    """Return the parts of a job that are in a state, in order."""
    rows = await connection.fetch(
        f"SELECT {_PART} FROM download_job_parts WHERE job_id = $1 AND status = $2 ORDER BY number",  # noqa: S608
        job_id,
        status,
    )
    return [_part(row) for row in rows]


async def exist(connection: Connection, job_id: str) -> bool:
    """Whether the job is planned."""
    return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM download_job_parts WHERE job_id = $1)", job_id))


_DONE = """
UPDATE download_job_parts
SET status = 'done', etag = $3, slice_crc32 = $4, bytes_through = $5, seconds = $6, next_attempt_at = NULL,
    error_code = NULL, error_message = NULL
WHERE job_id = $1 AND number = $2 AND status <> 'done' RETURNING 1
"""


async def mark_done(connection: Connection, result: PartDone, *, slice_crc32: int | None) -> bool:
    """Record that a part is in the store; return False if that was known."""
    return (
        await connection.fetchval(
            _DONE, result.job_id, result.number, result.etag, slice_crc32, result.bytes_through, result.seconds
        )
        is not None
    )


_RETRY = """
UPDATE download_job_parts
SET status = 'retrying', attempts = $3 + 1, next_attempt_at = now() + $4, error_code = $5, error_message = $6
WHERE job_id = $1 AND number = $2 AND status = 'queued' AND attempts = $3
"""


async def mark_retrying(
    connection: Connection, job_id: str, number: int, *, attempt: int, delay: timedelta, failure: Failure
) -> None:
    """Record that a part is to be tried again; a report of an attempt that is over changes nothing."""
    await connection.execute(_RETRY, job_id, number, attempt, delay, failure.code, failure.message)


async def release(connection: Connection, task: PartTask) -> None:
    """Record that what a waiting part waited for is known now, in its task."""
    await connection.execute(
        "UPDATE download_job_parts SET status = 'queued', task = $3 WHERE job_id = $1 AND number = $2",
        task.job_id,
        task.number,
        encode(task),
    )


_SLICES = f"""
SELECT {_PART} FROM download_job_parts WHERE job_id = $1 AND slice_of = ANY($2::int[]) ORDER BY slice_offset, number
"""  # noqa: S608


async def slices(connection: Connection, job_id: str, entries: Sequence[int]) -> list[PartRow]:
    """Return the parts that hold slices of large entries, in the order of their bytes."""
    return [_part(row) for row in await connection.fetch(_SLICES, job_id, list(entries))]


async def only_closing_is_left(connection: Connection, job_id: str) -> bool:
    """Whether every part but the one with the directory is in the store."""
    left = await connection.fetchval(
        "SELECT count(*) FROM download_job_parts WHERE job_id = $1 AND status <> 'done' AND NOT is_closing", job_id
    )
    return int(left) == 0


async def all_done(connection: Connection, job_id: str) -> bool:
    """Whether every part is in the store."""
    return not await connection.fetchval(
        "SELECT EXISTS (SELECT FROM download_job_parts WHERE job_id = $1 AND status <> 'done')", job_id
    )


async def uploaded(connection: Connection, job_id: str) -> list[UploadedPart]:
    """Return what is in the store, in order."""
    rows = await connection.fetch(
        "SELECT number, etag FROM download_job_parts WHERE job_id = $1 AND status = 'done' ORDER BY number", job_id
    )
    return [UploadedPart(row["number"], row["etag"]) for row in rows]


_DUE = """
SELECT part.job_id, part.number FROM download_job_parts part
WHERE part.status = 'retrying' AND part.next_attempt_at <= now()
ORDER BY part.next_attempt_at LIMIT $1 FOR UPDATE SKIP LOCKED
"""


async def due(connection: Connection, *, limit: int) -> list[tuple[str, int]]:
    """Return parts whose next attempt is due, locked for this transaction, as (job id, number)."""
    return [(row["job_id"], row["number"]) for row in await connection.fetch(_DUE, limit)]


async def mark_queued(connection: Connection, job_id: str, number: int) -> None:
    """Record that the next attempt of a part was sent."""
    await connection.execute(
        "UPDATE download_job_parts SET status = 'queued', next_attempt_at = NULL"
        " WHERE job_id = $1 AND number = $2 AND status = 'retrying'",
        job_id,
        number,
    )


async def put_off(connection: Connection, job_id: str, number: int, delay: timedelta) -> None:
    """Record that the next attempt of a part has to wait a little longer."""
    await connection.execute(
        "UPDATE download_job_parts SET next_attempt_at = now() + $3"
        " WHERE job_id = $1 AND number = $2 AND status = 'retrying'",
        job_id,
        number,
        delay,
    )
