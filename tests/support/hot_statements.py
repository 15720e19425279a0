"""The statements that run for each job, for each request, or every few seconds: what must not get slower with age."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from haulyard_chassis.database import Connection, Pool
from haulyard_chassis.job_state import load_job
from haulyard_chassis.store_profile import StoreProfile
from haulyard_contracts import Compression, JobRequested, JobStatus, ObjectSource, PartDone, SliceCrc
from haulyard_gateway.archive_records import ArchiveRecords
from haulyard_gateway.catalogue import Catalogue
from haulyard_gateway.job_records import JobRecords
from haulyard_gateway.queries import FilesWanted, JobsWanted
from haulyard_notifier.webhooks.deliveries import Deliveries
from haulyard_orchestrator import archive_records, catalogue, job_records, part_records, whole_records
from haulyard_orchestrator.planning import FoundFile, Plan, contents_of, digest_of, make_plan
from haulyard_zipline import Limits
from support.full_record import HEAVY_USER, Filled

BATCH = 100
"""Rows that the reconciler takes at a time."""
_STORE = StoreProfile(copy=True, copy_checks_etag=False, copy_crc32=False, equal_parts=False, min_part=5 * 1024 * 1024)
_NEW_JOB = "job_3" + "0" * 25
_WEEK = timedelta(days=7)
_MINUTE = timedelta(minutes=1)


class OneConnection:
    """A pool that always lends the same connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    @asynccontextmanager
    async def acquire(self, timeout: float | None = None) -> AsyncIterator[Connection]:  # noqa: ASYNC109 - as asyncpg's
        yield self._connection


@dataclass(frozen=True, slots=True)
class On:
    """What a statement is tried on."""

    connection: Connection
    filled: Filled

    @property
    def pool(self) -> Pool:
        return cast("Pool", OneConnection(self.connection))


@dataclass(frozen=True, slots=True)
class Hot:
    """A statement."""

    name: str
    rows: int
    """Rows that it may look at in one table, whatever else is in it."""
    run: Callable[[On], Awaitable[object]]


def _found(file_ids: list[int]) -> list[FoundFile]:
    sources = [ObjectSource(bucket="files", key=f"sources/{file_id}", etag="e") for file_id in file_ids]
    return [
        FoundFile(
            position=position,
            file_id=file_id,
            name=f"{file_id}.bin",
            origin=source,
            data=source,
            version="e",
            size=100_000,
            mtime=1_760_000_000,
            crc32=None,
        )
        for position, (file_id, source) in enumerate(zip(file_ids, sources, strict=True))
    ]


def _plan(found: list[FoundFile]) -> Plan:
    return make_plan(
        job_id=_NEW_JOB,
        generation=1,
        bucket="archives",
        key="archives/new.zip",
        found=found,
        contents=contents_of(found, []),
        limits=Limits(),
        store=_STORE,
    )


async def _insert(on: On) -> bool:
    found = _found(on.filled.file_ids)
    request = JobRequested(
        job_id=_NEW_JOB, user_id="user_1", file_ids=tuple(on.filled.file_ids), created_at=datetime.now(UTC)
    )
    return await whole_records.insert(
        on.pool,
        request,
        _plan(found),
        found,
        traceparent=None,
        bucket="archives",
        key="archives/new.zip",
        digest=digest_of(found, contents_of(found, []), Compression.STORE),
    )


async def _complete(on: On) -> object:
    result = PartDone(
        job_id=on.filled.running_job,
        generation=1,
        number=1,
        attempt=1,
        etag="e",
        size=300_000,
        slices=tuple(SliceCrc(entry=entry, offset=0, length=100_000, crc32=entry) for entry in range(3)),
        whole=True,
    )
    done = await whole_records.complete(
        on.pool, result, {found.entry: found.crc32 for found in result.slices}, keep=_WEEK
    )
    assert done is not None
    return done


async def _take_ready(on: On) -> object:
    await on.connection.execute(
        "UPDATE download_job_parts SET status = 'ready' WHERE job_id = $1", on.filled.running_job
    )
    taken = await on.connection.fetch(part_records._TAKE_READY, on.filled.running_job, 8)  # its tasks are no tasks
    assert taken
    return taken


HOT = (
    # For each job
    Hot("catalogue.find", 3, lambda on: catalogue.find(on.connection, on.filled.file_ids, user_id="user_1")),
    Hot(
        "archive_records.find_shared",
        1,
        lambda on: archive_records.find_shared(on.connection, "0" * 64, job_id=_NEW_JOB, remaining=timedelta(days=1)),
    ),
    Hot("whole_records.insert", 3, _insert),
    Hot("whole_records.complete", 4, _complete),
    Hot("load_job", 3, lambda on: load_job(on.connection, on.filled.finished_job)),
    Hot("job_records.mark_told", 1, lambda on: job_records.mark_told(on.connection, on.filled.running_job, 2)),
    Hot("job_records.lock", 1, lambda on: job_records.lock(on.connection, on.filled.running_job)),
    Hot("job_records.running", 100, lambda on: job_records.running(on.connection, "user_3")),
    Hot("part_records.count", 1, lambda on: part_records.count(on.connection, on.filled.running_job)),
    Hot("part_records.take_ready", 1, _take_ready),
    # Every few seconds, in each orchestrator and notifier
    Hot(
        "job_records.claim_stale",
        BATCH,
        lambda on: job_records.claim_stale(on.connection, older_than=_MINUTE, limit=BATCH),
    ),
    Hot(
        "job_records.claim_untold",
        BATCH,
        lambda on: job_records.claim_untold(on.connection, older_than=_MINUTE, limit=BATCH),
    ),
    Hot(
        "job_records.overdue",
        BATCH,
        lambda on: job_records.overdue(on.connection, older_than=timedelta(days=1), limit=BATCH),
    ),
    Hot("job_records.expired", BATCH, lambda on: job_records.expired(on.connection, limit=BATCH)),
    Hot(
        "job_records.forgettable",
        BATCH,
        lambda on: job_records.forgettable(on.connection, older_than=timedelta(days=30), limit=BATCH),
    ),
    Hot(
        "job_records.forget_deleted",
        BATCH,
        lambda on: job_records.forget_deleted(on.connection, older_than=timedelta(days=30)),
    ),
    Hot("archive_records.claim_unused", BATCH, lambda on: archive_records.claim_unused(on.connection, limit=BATCH)),
    Hot("part_records.due", BATCH, lambda on: part_records.due(on.connection, limit=BATCH)),
    Hot("deliveries.claim", BATCH, lambda on: Deliveries(on.pool).claim(BATCH, lease=60.0)),
    # For each request
    Hot("gateway: jobs page", 21, lambda on: JobRecords(on.pool).page(HEAVY_USER, JobsWanted(limit=20))),
    Hot(
        "gateway: jobs page of a rare status",
        21,
        lambda on: JobRecords(on.pool).page(HEAVY_USER, JobsWanted(limit=20, status=JobStatus.FAILED)),
    ),
    # For a user with a twentieth of all files it may be quicker to pass over those of others than to go by the owner.
    Hot("gateway: files page", 500, lambda on: Catalogue(on.pool).page(HEAVY_USER, FilesWanted(limit=20))),
    Hot("gateway: archive's contents", 3, lambda on: ArchiveRecords(on.pool).find(on.filled.finished_job)),
)
