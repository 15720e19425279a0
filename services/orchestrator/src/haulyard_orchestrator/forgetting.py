"""Forgets: archives and jobs whose time is over, jobs that their users delete, and users who want to be forgotten."""

from datetime import timedelta

from haulyard_chassis.database import Pool
from haulyard_chassis.dead_letters import DeadLetters
from haulyard_chassis.job_state import CACHE_UNAVAILABLE, JobCache
from haulyard_chassis.logs import get_logger
from haulyard_chassis.store import ObjectStore
from haulyard_chassis.uploads import upload_folder
from haulyard_chassis.webhook_records import forget_webhooks
from haulyard_contracts import TERMINAL, JobStatus, UserErasure
from haulyard_orchestrator import archive_records, catalogue, erasure_records, job_records
from haulyard_orchestrator.dispatch import Dispatcher
from haulyard_orchestrator.ending import Ending
from haulyard_orchestrator.telling import Teller

log = get_logger(__name__)

_BATCH = 100
_REMEMBERED = timedelta(days=7)
"""How long the id of a deleted job is kept: longer than its request can be under way."""


class Forgetting:
    """What is no longer kept.

    Args:
        pool: the database.
        store: holds the archives.
        files_bucket: holds the uploads of users.
        cache: holds the states of jobs.
        dispatcher: knows the events of jobs.
        teller: is told of what expires.
        ending: ends jobs that are deleted before they are over.
        dead_letters: holds messages that were given up, which may name users.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        store: ObjectStore,
        files_bucket: str,
        cache: JobCache,
        dispatcher: Dispatcher,
        teller: Teller,
        ending: Ending,
        dead_letters: DeadLetters,
    ) -> None:
        self._pool = pool
        self._store = store
        self._files_bucket = files_bucket
        self._cache = cache
        self._dispatcher = dispatcher
        self._teller = teller
        self._ending = ending
        self._dead_letters = dead_letters

    async def expire(self, *, limit: int) -> int:
        """Let jobs expire whose time is over; return how many."""
        async with self._pool.acquire() as connection:
            due = await job_records.expired(connection, limit=limit)
        for job_id in due:
            async with self._pool.acquire() as connection, connection.transaction():
                job = await job_records.lock(connection, job_id)
                if job is None or job.status not in TERMINAL - {JobStatus.EXPIRED}:
                    continue
                await job_records.expire(connection, job)
            await self._teller.tell(job_id)
        return len(due)

    async def drop_archives(self, *, limit: int, archive_id: int | None = None) -> int:
        """Delete archives that no job has any more from the store; return how many.

        Args:
            limit: at most so many.
            archive_id: look at this one only, whether its time is over or not.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            unused = await archive_records.claim_unused(connection, limit=limit, archive_id=archive_id)
            for archive in unused:
                # Locked: a job that wants to share it waits, and then finds it gone.
                await self._store.delete(archive.bucket, archive.key)
                await archive_records.delete(connection, archive.id)
        if unused:
            log.info("archives deleted", archives=len(unused))
        return len(unused)

    async def forget_old(self, *, older_than: timedelta, limit: int) -> int:
        """Delete the records of jobs that expired long ago; return how many."""
        async with self._pool.acquire() as connection:
            old = await job_records.forgettable(connection, older_than=older_than, limit=limit)
            await job_records.forget_deleted(connection, older_than=_REMEMBERED)
        for job_id in old:
            await self.delete_job(job_id)
        return len(old)

    async def erase_user(self, erasure: UserErasure) -> None:
        """Forget a user: jobs, archives, uploads, messages, rows of the catalogue; done again if it breaks off.

        What the receipt says afterwards is only how much there was.
        """
        jobs = 0
        while True:
            async with self._pool.acquire() as connection:
                batch = await job_records.of_user(connection, erasure.user_id, limit=_BATCH)
            if not batch:
                break
            await self._dead_letters.forget(job_ids=batch)  # while it is known whose these jobs were
            for job_id in batch:
                jobs += await self.delete_job(job_id)
        try:
            await self._cache.forget_user(erasure.user_id)
        except CACHE_UNAVAILABLE as error:
            log.warning("cache unavailable", error=repr(error))  # what it has of users expires within a day
        await self._dead_letters.forget(user_id=erasure.user_id)
        folder = upload_folder(erasure.user_id)
        uploads = [each.key async for each in self._store.list_objects(self._files_bucket, prefix=folder)]
        await self._store.delete_all(self._files_bucket, uploads)
        async with self._pool.acquire() as connection, connection.transaction():
            files = await catalogue.delete_of_user(connection, erasure.user_id)
            await forget_webhooks(connection, erasure.user_id)
            await erasure_records.complete(connection, erasure.erasure_id, jobs=jobs, files=files, uploads=len(uploads))
        log.info("user erased", erasure_id=erasure.erasure_id, jobs=jobs, files=files)

    async def delete_job(self, job_id: str) -> bool:
        """Forget a job: its record, its events, and its archive unless another job has it; whether there was one."""
        await self._ending.cancel(job_id)
        async with self._pool.acquire() as connection, connection.transaction():
            job = await job_records.lock(connection, job_id)
            if job is not None:
                await job_records.delete(connection, job_id)
                if job.archive_id is not None:
                    await archive_records.let_go(connection, job.archive_id)  # if we do not get as far as below
        try:
            await self._cache.forget(job_id)
        except CACHE_UNAVAILABLE as error:
            log.warning("cache unavailable", error=repr(error))
        await self._dispatcher.forget_events(job_id)
        if job is None:
            return False
        await self._dispatcher.recall(job)  # a task that is done may wait there to be acknowledged: it names files
        if job.archive_id is not None:
            await self.drop_archives(limit=1, archive_id=job.archive_id)
        log.info("job deleted", job_id=job_id)
        return True
