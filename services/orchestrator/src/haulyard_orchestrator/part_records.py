"""The record of a job's tasks (table ``download_job_parts``): all SQL that reads and changes them.

Parts of the archive and preparations are kept alike, in two phases that are numbered apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import asyncpg
from msgspec.structs import replace

from haulyard_chassis.database import Connection
from haulyard_chassis.store import UploadedPart
from haulyard_contracts import Failure, PartDone, PartTask, Phase, PrepareDone, PrepareTask, Task, decode, encode
from haulyard_orchestrator.planning import PlannedPart
from haulyard_orchestrator.preparing import data_bytes


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


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """One part or one preparation, as far as sending it needs."""

    job_id: str
    phase: Phase
    number: int
    status: str
    attempts: int
    data_bytes: int
    task: Task
    """With the attempt that is to be made."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many parts of a plan are in which state."""

    preparing: int
    """Preparations that are not done."""
    prepared: int
    open: int
    """Parts that are not in the store."""
    waiting: int
    """Of these, parts that wait for others."""
    done: int
    ready: int
    """Parts and preparations that could be sent."""
    sent: int
    """Parts and preparations that are with archivers, or will be again."""

    @property
    def is_laid_out(self) -> bool:
        """Whether there are parts."""
        return self.open + self.done > 0


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


def _task(row: asyncpg.Record) -> TaskRow:
    phase = Phase(row["phase"])
    task: Task = decode(row["task"], Task)
    return TaskRow(
        job_id=row["job_id"],
        phase=phase,
        number=row["number"],
        status=row["status"],
        attempts=row["attempts"],
        data_bytes=row["data_bytes"],
        task=replace(task, attempt=row["attempts"]),
    )


_INSERT = """
INSERT INTO download_job_parts (job_id, phase, number, generation, status, task, size_bytes, data_bytes, is_closing,
                                is_body, slice_of, slice_offset, slice_length)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
"""


def part_values(part: PlannedPart) -> list[object]:
    """Return the row of a part that is sent, or waits for others."""
    task = part.task
    return [
        task.job_id,
        Phase.BUILD,
        task.number,
        task.generation,
        "waiting" if part.waits else "ready",
        encode(task),
        task.size,
        part.data_bytes,
        part.is_closing,
        part.is_body,
        part.slice.entry if part.slice else None,
        part.slice.offset if part.slice else None,
        part.slice.length if part.slice else None,
    ]


async def insert(connection: Connection, parts: Sequence[PlannedPart]) -> None:
    """Record the parts of a plan; none is sent yet."""
    await connection.executemany(_INSERT, [part_values(part) for part in parts])


async def insert_preparations(connection: Connection, tasks: Sequence[PrepareTask]) -> None:
    """Record what is to be prepared; nothing is sent yet."""
    await connection.executemany(
        _INSERT,
        [
            [
                task.job_id,
                Phase.PREPARE,
                task.number,
                task.generation,
                "ready",
                encode(task),
                0,
                data_bytes(task),
                False,
                False,
                None,
                None,
                None,
            ]
            for task in tasks
        ],
    )


async def get(connection: Connection, job_id: str, number: int) -> PartRow | None:
    """Return one part, or None."""
    row = await connection.fetchrow(
        f"SELECT {_PART} FROM download_job_parts WHERE job_id = $1 AND phase = 'build' AND number = $2",  # noqa: S608
        job_id,
        number,
    )
    return _part(row) if row else None


_TASK = "job_id, phase, number, status, attempts, data_bytes, task"


async def get_task(connection: Connection, job_id: str, phase: Phase, number: int) -> TaskRow | None:
    """Return one part or preparation, or None."""
    row = await connection.fetchrow(
        f"SELECT {_TASK} FROM download_job_parts WHERE job_id = $1 AND phase = $2 AND number = $3",  # noqa: S608
        job_id,
        phase,
        number,
    )
    return _task(row) if row else None


async def queued(connection: Connection, job_id: str) -> list[TaskRow]:
    """Return what was sent to archivers and is not done, in order."""
    rows = await connection.fetch(
        f"SELECT {_TASK} FROM download_job_parts WHERE job_id = $1 AND status = 'queued' ORDER BY phase, number",  # noqa: S608
        job_id,
    )
    return [_task(row) for row in rows]


_TAKE_READY = f"""
UPDATE download_job_parts SET status = 'queued' WHERE job_id = $1 AND status = 'ready' AND (phase, number) IN (
  SELECT phase, number FROM download_job_parts WHERE job_id = $1 AND status = 'ready' ORDER BY phase, number LIMIT $2)
RETURNING {_TASK}
"""  # noqa: S608


async def take_ready(connection: Connection, job_id: str, *, limit: int) -> list[TaskRow]:
    """Return tasks that are to be sent now, in order."""
    rows = [_task(row) for row in await connection.fetch(_TAKE_READY, job_id, limit)]
    return sorted(rows, key=lambda row: row.number)


async def waiting(connection: Connection, job_id: str) -> list[PartRow]:
    """Return the parts that wait for others, in order."""
    rows = await connection.fetch(
        f"SELECT {_PART} FROM download_job_parts"  # noqa: S608
        " WHERE job_id = $1 AND phase = 'build' AND status = 'waiting' ORDER BY number",
        job_id,
    )
    return [_part(row) for row in rows]


_COUNTS = """
SELECT count(*) FILTER (WHERE phase = 'prepare' AND status <> 'done') AS preparing,
       count(*) FILTER (WHERE phase = 'prepare' AND status = 'done') AS prepared,
       count(*) FILTER (WHERE phase = 'build' AND status <> 'done') AS open,
       count(*) FILTER (WHERE phase = 'build' AND status = 'waiting') AS waiting,
       count(*) FILTER (WHERE phase = 'build' AND status = 'done') AS done,
       count(*) FILTER (WHERE status = 'ready') AS ready,
       count(*) FILTER (WHERE status IN ('queued', 'retrying')) AS sent
FROM download_job_parts WHERE job_id = $1
"""


async def count(connection: Connection, job_id: str) -> Counts:
    """Return how far the tasks of a job are."""
    row = await connection.fetchrow(_COUNTS, job_id)
    return Counts(**dict(row)) if row else Counts(0, 0, 0, 0, 0, 0, 0)


_DONE = """
UPDATE download_job_parts
SET status = 'done', etag = $3, slice_crc32 = $4, bytes_through = $5, bytes_copied = $6, checksum = $7, seconds = $8,
    next_attempt_at = NULL, error_code = NULL, error_message = NULL
WHERE job_id = $1 AND phase = 'build' AND number = $2 AND status <> 'done' RETURNING 1
"""


async def mark_done(connection: Connection, result: PartDone, *, slice_crc32: int | None) -> bool:
    """Record that a part is in the store; return False if that was known."""
    done = await connection.fetchval(
        _DONE,
        result.job_id,
        result.number,
        result.etag,
        slice_crc32,
        result.bytes_through,
        result.bytes_copied,
        result.checksum,
        result.seconds,
    )
    return done is not None


_PREPARED = """
UPDATE download_job_parts
SET status = 'done', etag = '', result = $3, bytes_through = $4, seconds = $5, next_attempt_at = NULL,
    error_code = NULL, error_message = NULL
WHERE job_id = $1 AND phase = 'prepare' AND number = $2 AND status <> 'done' RETURNING 1
"""


async def mark_prepared(connection: Connection, result: PrepareDone) -> bool:
    """Record what a preparation found out; return False if that was known."""
    done = await connection.fetchval(
        _PREPARED, result.job_id, result.number, encode(result), result.bytes_through, result.seconds
    )
    return done is not None


async def outcomes(connection: Connection, job_id: str) -> list[PrepareDone]:
    """Return what the preparations of a job found out."""
    rows = await connection.fetch(
        "SELECT result FROM download_job_parts WHERE job_id = $1 AND phase = 'prepare' AND status = 'done'"
        " ORDER BY number",
        job_id,
    )
    return [decode(row["result"], PrepareDone) for row in rows]


_RETRY = """
UPDATE download_job_parts
SET status = 'retrying', attempts = $4 + 1, next_attempt_at = now() + $5, error_code = $6, error_message = $7
WHERE job_id = $1 AND phase = $2 AND number = $3 AND status = 'queued' AND attempts = $4
"""


async def mark_retrying(
    connection: Connection, job_id: str, phase: Phase, number: int, *, attempt: int, delay: timedelta, failure: Failure
) -> None:
    """Record that a task is to be tried again; a report of an attempt that is over changes nothing."""
    await connection.execute(_RETRY, job_id, phase, number, attempt, delay, failure.code, failure.message)


async def release(connection: Connection, task: PartTask) -> None:
    """Record that what a waiting part waited for is known now, in its task."""
    await connection.execute(
        "UPDATE download_job_parts SET status = 'queued', task = $3"
        " WHERE job_id = $1 AND phase = 'build' AND number = $2",
        task.job_id,
        task.number,
        encode(task),
    )


_SLICES = f"""
SELECT {_PART} FROM download_job_parts WHERE job_id = $1 AND phase = 'build' AND slice_of = ANY($2::int[])
ORDER BY slice_offset, number
"""  # noqa: S608


async def slices(connection: Connection, job_id: str, entries: Sequence[int]) -> list[PartRow]:
    """Return the parts that hold slices of large entries, in the order of their bytes."""
    return [_part(row) for row in await connection.fetch(_SLICES, job_id, list(entries))]


async def uploaded(connection: Connection, job_id: str) -> list[UploadedPart]:
    """Return what is in the store, in order."""
    rows = await connection.fetch(
        "SELECT number, etag, checksum FROM download_job_parts"
        " WHERE job_id = $1 AND phase = 'build' AND status = 'done' ORDER BY number",
        job_id,
    )
    return [UploadedPart(row["number"], row["etag"], row["checksum"]) for row in rows]


_DUE = """
SELECT part.job_id, part.phase, part.number FROM download_job_parts part
WHERE part.status = 'retrying' AND part.next_attempt_at <= now()
ORDER BY part.next_attempt_at LIMIT $1 FOR UPDATE SKIP LOCKED
"""


async def due(connection: Connection, *, limit: int) -> list[tuple[str, Phase, int]]:
    """Return tasks whose next attempt is due, locked for this transaction, as (job id, phase, number)."""
    return [(row["job_id"], Phase(row["phase"]), row["number"]) for row in await connection.fetch(_DUE, limit)]


async def mark_queued(connection: Connection, job_id: str, phase: Phase, number: int) -> None:
    """Record that the next attempt of a task was sent."""
    await connection.execute(
        "UPDATE download_job_parts SET status = 'queued', next_attempt_at = NULL"
        " WHERE job_id = $1 AND phase = $2 AND number = $3 AND status = 'retrying'",
        job_id,
        phase,
        number,
    )


async def put_off(connection: Connection, job_id: str, phase: Phase, number: int, delay: timedelta) -> None:
    """Record that the next attempt of a task has to wait a little longer."""
    await connection.execute(
        "UPDATE download_job_parts SET next_attempt_at = now() + $4"
        " WHERE job_id = $1 AND phase = $2 AND number = $3 AND status = 'retrying'",
        job_id,
        phase,
        number,
        delay,
    )
