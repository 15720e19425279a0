"""Ends jobs: with an archive, or without one and with nothing left in the store."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from haulyard_chassis.database import Pool
from haulyard_chassis.logs import get_logger
from haulyard_chassis.store import ObjectNotFoundError, ObjectStore, StoreError, UploadGoneError
from haulyard_chassis.tracing import span
from haulyard_contracts import TERMINAL, ErrorCode, Failure, JobStatus, PartDone
from haulyard_orchestrator import archive_records, catalogue, file_records, job_records, part_records
from haulyard_orchestrator.dispatch import Dispatcher
from haulyard_orchestrator.job_records import Job
from haulyard_orchestrator.planning import LostFile
from haulyard_orchestrator.preparing import staging_prefix
from haulyard_orchestrator.telling import Teller

log = get_logger(__name__)


class Ending:
    """The ends that a job can have.

    Args:
        pool: the database.
        store: takes the archives.
        bucket: takes the archives and the staging objects.
        dispatcher: knows the tasks that are still in their lanes.
        teller: is told of each end.
        keep: how long an archive, and the record of its job, is kept.
        go_on: drives a job on that waited for the one that ended.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        store: ObjectStore,
        bucket: str,
        dispatcher: Dispatcher,
        teller: Teller,
        keep: timedelta,
        go_on: Callable[[str], Awaitable[None]],
    ) -> None:
        self._pool = pool
        self._store = store
        self._bucket = bucket
        self._dispatcher = dispatcher
        self._teller = teller
        self._keep = keep
        self._go_on = go_on

    async def finish(self, job: Job) -> None:
        """Make the object out of its parts, verify it, and complete the job; done again if it breaks off."""
        with span("complete job", parent=job.traceparent, attributes={"haulyard.job_id": job.id}):
            await self._finish(job)

    async def _finish(self, job: Job) -> None:
        if job.bucket is None or job.key is None or job.size_bytes is None:
            raise RuntimeError(f"job {job.id} is planned and has no archive key")
        if job.upload_id is not None:
            async with self._pool.acquire() as connection:
                parts = await part_records.uploaded(connection, job.id)
            try:
                await self._store.complete_upload(job.bucket, job.key, upload_id=job.upload_id, parts=parts)
            except UploadGoneError:
                log.info("upload was completed before")  # or aborted: the object tells
        try:
            size = (await self._store.head(job.bucket, job.key)).size
        except ObjectNotFoundError:
            size = None
        if size != job.size_bytes:
            message = f"the archive has {size} bytes in the store instead of {job.size_bytes}"
            await self.fail(job.id, Failure(code=ErrorCode.INTERNAL, message=message), generation=job.generation)
            return
        async with self._pool.acquire() as connection, connection.transaction():
            now = await job_records.lock(connection, job.id)
            if now is not None and now.status is JobStatus.PROCESSING and now.generation == job.generation:
                archive_id = await archive_records.insert(
                    connection, digest=job.digest, bucket=job.bucket, key=job.key, size=size, keep=self._keep
                )
                await job_records.complete(connection, now, archive_id, digest=job.digest)
                await catalogue.remember(connection, job.id)
                log.info("job completed", bytes=job.size_bytes)
        await self.over(job)

    async def over(self, job: Job) -> None:
        """Do what follows from the end of a job: its staging objects go, it is told, others go on."""
        if job.staged:
            await self.drop_staged(job.id)
        await self._teller.tell(job.id)
        await self.drive_followers(job.id)

    async def drive_followers(self, job_id: str) -> None:
        """Drive the jobs on that wait for what a job builds."""
        async with self._pool.acquire() as connection:
            followers = await job_records.followers(connection, job_id)
        for follower in followers:
            await self._go_on(follower)

    async def fail(self, job_id: str, failure: Failure, *, generation: int | None = None) -> None:
        """The job is over without an archive; one that is over already stays as it is.

        Args:
            job_id: the job.
            failure: why.
            generation: the plan that failed; a job that was planned anew since goes on.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            job = await job_records.lock(connection, job_id)
            if job is None or generation not in (None, job.generation):
                return
            if job.status not in TERMINAL:
                await file_records.fail_all(connection, job_id, failure)
                await job_records.fail(connection, job, failure, keep=self._keep)
                log.warning("job failed", code=failure.code, reason=failure.message)
        await self.clean_up(job)
        await self.over(job)

    async def clean_up(self, job: Job) -> None:
        """Take back what a plan left behind: tasks in their lanes, and parts or a whole object in the store."""
        if job.status in (JobStatus.COMPLETED, JobStatus.EXPIRED):
            return  # what is in the store is an archive
        await self._dispatcher.recall(job)
        if job.bucket is None or job.key is None:
            return
        try:
            if job.upload_id is not None:
                await self._store.abort_upload(job.bucket, job.key, upload_id=job.upload_id)
            else:
                await self._store.delete(job.bucket, job.key)
        except StoreError as error:
            # The reconciler or the bucket's rules drop it later; the job's end does not wait for it.
            log.warning("not taken back from the store", error=str(error))

    async def drop_void(self, result: PartDone) -> None:
        """Delete a whole archive that came too late: its job is over without it, or was planned anew since."""
        if result.key is None:
            return
        async with self._pool.acquire() as connection:
            if await archive_records.is_wanted(connection, result.key):
                return
        log.info("deleting an archive that nobody waits for")
        await self._store.delete(self._bucket, result.key)

    async def drop_staged(self, job_id: str) -> None:
        """Delete what was staged for a job."""
        try:
            keys = [each.key async for each in self._store.list_objects(self._bucket, prefix=staging_prefix(job_id))]
            await self._store.delete_all(self._bucket, keys)
        except StoreError as error:
            log.warning("staging objects not deleted", error=str(error))  # the reconciler does it later

    async def lose_all(self, job: Job, lost: Sequence[LostFile]) -> None:
        """The job is over because none of its files can be archived."""
        first = min(lost, key=lambda file: file.position).failure.message
        message = first if len(lost) == 1 else f"None of the {len(lost)} files could be archived; first: {first}"
        await self._end_without(job, lost, Failure(code=ErrorCode.PROCESSING_FAILED, message=message))

    async def refuse_incomplete(self, job: Job, lost: Sequence[LostFile]) -> None:
        """The job is over because it was to fail when a file is missing."""
        first = min(lost, key=lambda file: file.position).failure
        others = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
        await self._end_without(job, lost, Failure(code=first.code, message=f"{first.message}{others}"))

    async def _end_without(self, job: Job, lost: Sequence[LostFile], failure: Failure) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            now = await job_records.lock(connection, job.id)
            if now is None or now.status in TERMINAL or now.generation != job.generation:
                return
            await file_records.lose(connection, job.id, lost)
            await file_records.fail_all(connection, job.id, failure)
            await job_records.fail(connection, now, failure, keep=self._keep)
        await self.over(now)

    async def cancel(self, job_id: str) -> None:
        """The user stopped the job; nothing of it is left in the store. One that is over stays as it is."""
        async with self._pool.acquire() as connection, connection.transaction():
            job = await job_records.lock(connection, job_id)
            if job is None:
                return
            if job.status not in TERMINAL:
                await job_records.cancel(connection, job, keep=self._keep)
                log.info("job cancelled")
            elif job.status is not JobStatus.CANCELLED or job.told_sequence >= job.sequence:
                return  # else whoever cancelled it did not get to the end of this
        await self.clean_up(job)
        await self.over(job)
