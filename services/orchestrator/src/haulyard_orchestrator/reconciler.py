"""Repairs what a crash or an outage left undone. Safe to run in every replica: each row is claimed by one.

* parts whose next attempt is due are sent again;
* jobs that were accepted while the broker was away begin when it is back;
* jobs that have not moved for a while are driven on;
* jobs that take longer than a job may are failed;
* jobs that are over and of whose end nobody was told are told of;
* jobs and archives whose time is over go;
* multipart uploads, archives and staging objects that belong to no job are dropped.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from haulyard_chassis.database import Pool
from haulyard_chassis.logs import get_logger
from haulyard_chassis.store import ObjectStore
from haulyard_chassis.store_profile import PROBE_PREFIX
from haulyard_chassis.tasks import cancel_and_wait
from haulyard_contracts import ErrorCode, Failure
from haulyard_orchestrator import archive_records, job_records
from haulyard_orchestrator.archive_records import ARCHIVES, archive_key
from haulyard_orchestrator.jobs import Jobs
from haulyard_orchestrator.preparing import STAGING, staged_for

log = get_logger(__name__)

_BATCH = 100
_KEYS = 1000
"""Keys that the record is asked about at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """How often, and how old things must be; seconds."""

    retries: float = 0.5
    parked_check: float = 2.0
    stale_check: float = 5.0
    stale_after: float = 60.0
    upload_check: float = 600.0
    orphan_after: float = 3600.0
    expiry_check: float = 30.0
    job_timeout: float = 86_400.0
    record_keep: float = 30 * 86_400.0
    """How long the record of an expired job is kept."""


class Reconciler:
    """Runs the repairs until it is stopped."""

    def __init__(self, *, jobs: Jobs, pool: Pool, store: ObjectStore, bucket: str, intervals: Intervals) -> None:
        self._jobs = jobs
        self._pool = pool
        self._store = store
        self._bucket = bucket
        self._intervals = intervals
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        every = self._intervals
        self._tasks = [
            asyncio.create_task(self._repeat(self.send_due, every.retries)),
            asyncio.create_task(self._repeat(self.drive_parked, every.parked_check)),
            asyncio.create_task(self._repeat(self.drive_stale, every.stale_check)),
            asyncio.create_task(self._repeat(self.fail_overdue, every.stale_check)),
            asyncio.create_task(self._repeat(self.tell_untold, every.stale_check)),
            asyncio.create_task(self._repeat(self.forget_old, every.expiry_check)),
            asyncio.create_task(self._repeat(self.drop_orphan_uploads, every.upload_check)),
            asyncio.create_task(self._repeat(self.drop_orphan_staging, every.upload_check)),
            asyncio.create_task(self._repeat(self.drop_orphan_probes, every.upload_check)),
            asyncio.create_task(self._repeat(self.drop_orphan_archives, every.upload_check)),
        ]

    async def stop(self) -> None:
        """Stop, wherever it is: what breaks off is repaired next time."""
        await cancel_and_wait(*self._tasks)

    async def _repeat(self, repair: Callable[[], Awaitable[None]], pause: float) -> None:
        while True:
            try:
                await repair()
            except Exception as error:  # noqa: BLE001 - a dependency is away; the next round is the repair
                log.warning("repair put off", repair=getattr(repair, "__name__", ""), error=repr(error))
            await asyncio.sleep(pause)

    async def send_due(self) -> None:
        """Send the parts whose next attempt is due."""
        while await self._jobs.send_due(limit=_BATCH) == _BATCH:
            pass

    async def drive_parked(self) -> None:
        """Begin the jobs that were accepted while the broker was away."""
        while self._jobs.can_send:
            async with self._pool.acquire() as connection:
                parked = await job_records.claim_parked(connection, limit=_BATCH)
            left = [job_id for job_id in parked if not await self._one(self._jobs.drive(job_id), job_id)]
            if left:
                async with self._pool.acquire() as connection:
                    await job_records.park_again(connection, left)
            if left or len(parked) < _BATCH:
                return

    async def drive_stale(self) -> None:
        """Drive the jobs on that have not moved for a while."""
        older_than = timedelta(seconds=self._intervals.stale_after)
        async with self._pool.acquire() as connection:
            stale = await job_records.claim_stale(connection, older_than=older_than, limit=_BATCH)
        for job_id in stale:
            log.info("driving a job that did not move", job_id=job_id)
            await self._one(self._jobs.drive(job_id), job_id)

    async def fail_overdue(self) -> None:
        """Fail the jobs that take longer than a job may."""
        limit = timedelta(seconds=self._intervals.job_timeout)
        async with self._pool.acquire() as connection:
            overdue = await job_records.overdue(connection, older_than=limit, limit=_BATCH)
        failure = Failure(code=ErrorCode.JOB_TIMEOUT, message=f"The job did not finish within {limit}.")
        for job_id in overdue:
            await self._one(self._jobs.fail(job_id, failure), job_id)

    async def forget_old(self) -> None:
        """Let go of jobs and archives whose time is over."""
        forgetting = self._jobs.forgetting
        while await forgetting.expire(limit=_BATCH) == _BATCH:
            pass
        while await forgetting.drop_archives(limit=_BATCH) == _BATCH:
            pass
        await forgetting.forget_old(older_than=timedelta(seconds=self._intervals.record_keep), limit=_BATCH)

    async def tell_untold(self) -> None:
        """Do what follows from the ends that nobody was told of."""
        older_than = timedelta(seconds=self._intervals.stale_check)
        async with self._pool.acquire() as connection:
            untold = await job_records.claim_untold(connection, older_than=older_than, limit=_BATCH)
        for job_id in untold:
            await self._one(self._jobs.drive(job_id), job_id)

    async def _one(self, step: Awaitable[None], job_id: str) -> bool:
        """Do a step; one job that cannot be helped now must not keep the others from it."""
        try:
            await step
        except Exception as error:  # noqa: BLE001 - see above; the job is claimed again later
            log.warning("job not repaired", job_id=job_id, error=repr(error))
            return False
        return True

    async def drop_orphan_uploads(self) -> None:
        """Drop multipart uploads that no job will complete."""
        before = datetime.now(UTC) - timedelta(seconds=self._intervals.orphan_after)
        old = [upload for upload in await self._store.pending_uploads(self._bucket) if upload.initiated < before]
        if not old:
            return
        async with self._pool.acquire() as connection:
            live = await job_records.live_uploads(connection, [upload.key for upload in old])
        for upload in old:
            if (upload.key, upload.upload_id) not in live:
                log.info("dropping an upload of no job", key=upload.key)
                await self._store.abort_upload(self._bucket, upload.key, upload_id=upload.upload_id)

    async def drop_orphan_staging(self) -> None:
        """Delete what was staged for jobs that are over."""
        before = datetime.now(UTC) - timedelta(seconds=self._intervals.orphan_after)
        old = [
            each.key async for each in self._store.list_objects(self._bucket, prefix=STAGING) if each.modified < before
        ]
        if not old:
            return
        async with self._pool.acquire() as connection:
            live = await job_records.live(connection, list({staged_for(key) for key in old}))
        orphans = [key for key in old if staged_for(key) not in live]
        log.info("deleting staging objects of no job", objects=len(orphans))
        await self._store.delete_all(self._bucket, orphans)

    async def drop_orphan_probes(self) -> None:
        """Delete what an orchestrator left that died while it found out what the store can do."""
        before = datetime.now(UTC) - timedelta(seconds=self._intervals.orphan_after)
        listed = self._store.list_objects(self._bucket, prefix=PROBE_PREFIX)
        await self._store.delete_all(self._bucket, [each.key async for each in listed if each.modified < before])

    async def drop_orphan_archives(self) -> None:
        """Delete archives that no record names: an archiver that died after writing one told nobody of it.

        Keys sort by the time at which they were made, so that a look at those of the last jobs is enough.
        """
        now = datetime.now(UTC)
        before = now - timedelta(seconds=self._intervals.orphan_after)
        since = before - timedelta(seconds=self._intervals.job_timeout)
        listed = self._store.list_objects(self._bucket, prefix=ARCHIVES, after=archive_key(since))
        old = [each.key async for each in listed if each.modified < before]
        for start in range(0, len(old), _KEYS):
            async with self._pool.acquire() as connection:
                orphans = await archive_records.unknown(connection, old[start : start + _KEYS])
            if orphans:
                log.info("deleting archives of no job", objects=len(orphans))
                await self._store.delete_all(self._bucket, orphans)
