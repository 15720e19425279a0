"""Plans jobs: from the files that are asked for to the tasks that make their archive.

In order: looks the files up, finds out whether the archive is there already, has prepared what must be, lays the
archive out, starts the upload, records the plan and sends the tasks.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg

from haulyard_chassis.database import Connection, Pool
from haulyard_chassis.logs import get_logger
from haulyard_chassis.store import ObjectStore
from haulyard_chassis.store_profile import StoreProfile
from haulyard_chassis.tracing import span
from haulyard_contracts import TERMINAL, ErrorCode, Failure, JobRequested, OnMissing, PreparedRange, PrepareTask
from haulyard_orchestrator import archive_records, file_records, job_records, measures, part_records, whole_records
from haulyard_orchestrator.archive_records import Shared, archive_key
from haulyard_orchestrator.dispatch import Dispatcher, Window
from haulyard_orchestrator.ending import Ending
from haulyard_orchestrator.file_records import JobFile
from haulyard_orchestrator.job_records import Job
from haulyard_orchestrator.planning import (
    Contents,
    FoundFile,
    LostFile,
    Plan,
    PlannedFile,
    contents_of,
    digest_of,
    make_plan,
    with_upload,
)
from haulyard_orchestrator.preparing import Blocks, data_bytes, preparations, prepared
from haulyard_orchestrator.retry import RetryPolicy
from haulyard_orchestrator.sources import Resolved, Sources
from haulyard_orchestrator.telling import Teller
from haulyard_zipline import ArchiveTooLargeError, Limits

log = get_logger(__name__)

_ZIP = "application/zip"
_ONE_BUILDER = "download_jobs_builder"
"""The index that keeps two jobs from building the same archive."""


class _GoneMeanwhileError(Exception):
    """What was to be shared is no longer there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What an installation decides about its jobs."""

    bucket: str
    """Takes the archives."""
    files_bucket: str
    """Holds the uploads of users."""
    limits: Limits
    retry: RetryPolicy
    keep: timedelta
    """How long an archive, and the record of its job, is kept."""
    store: StoreProfile
    """What the store can do."""
    blocks: Blocks
    window: Window
    reuse: bool = True
    """Whether jobs for the same entries share an archive."""

    @property
    def reuse_remaining(self) -> timedelta:
        """How long an archive must be kept at least from now on, for another job to get it."""
        return min(self.keep / 2, timedelta(days=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """What a job wants, as far as that is known."""

    job: Job
    resolved: Resolved
    contents: Contents
    digest: str | None

    @property
    def found(self) -> list[FoundFile]:
        return self.resolved.found

    @property
    def lost(self) -> list[LostFile]:
        return self.resolved.lost


class Planner:
    """Makes and records plans. Of two that plan the same job, the first to record it counts."""

    def __init__(
        self,
        *,
        pool: Pool,
        store: ObjectStore,
        sources: Sources,
        dispatcher: Dispatcher,
        teller: Teller,
        ending: Ending,
        rules: Rules,
    ) -> None:
        self._pool = pool
        self._store = store
        self._sources = sources
        self._dispatcher = dispatcher
        self._teller = teller
        self._ending = ending
        self._rules = rules

    # New jobs

    async def accept(self, request: JobRequested, *, traceparent: str | None) -> bool:
        """Record and plan a job that is new; return False if it is recorded already.

        Most jobs are one part and need nothing prepared: those are recorded and planned in one statement. Others are
        recorded first.

        Raises:
            StoreError: the store does not answer; the job may be recorded, and is planned when it is driven on.
        """
        with span("plan job", parent=traceparent, attributes={"haulyard.files": len(request.file_ids)}):
            return await self._accept(request, traceparent)

    async def _accept(self, request: JobRequested, traceparent: str | None) -> bool:
        job = job_records.new_job(request, traceparent=traceparent)
        files = [JobFile(position=position, file_id=file_id) for position, file_id in enumerate(request.file_ids)]
        wish = await self._wish(job, files)
        if wish.found and not wish.lost and not self._to_prepare(wish):
            shared = await self._shared(wish)
            plan = self._lay_out(wish, archive_key(datetime.now(UTC))) if shared.is_nowhere else None
            if plan is not None and len(plan.parts) == 1:
                try:
                    return await self._accept_whole(request, wish, plan, traceparent)
                except whole_records.SharedMeanwhileError:
                    log.debug("another job has just begun to build the same archive")
        async with self._pool.acquire() as connection:
            if not await job_records.insert(connection, request, traceparent=traceparent):
                return False
        await self._go_on(wish)
        return True

    async def _accept_whole(self, request: JobRequested, wish: _Wish, plan: Plan, traceparent: str | None) -> bool:
        task = plan.parts[0].task
        is_new = await whole_records.insert(
            self._pool,
            request,
            plan,
            wish.found,
            traceparent=traceparent,
            bucket=task.bucket,
            key=task.key,
            digest=wish.digest,
        )
        if is_new:
            measures.planned(plan)
            await self._dispatcher.send_task(wish.job, task)
            await self._teller.tell(wish.job.id, planned=True)
        return is_new

    # Jobs that are recorded

    async def plan(self, job_id: str) -> None:
        """Plan a job that is not planned; harmless for one that is, or is over.

        Raises:
            StoreError: the store does not answer.
        """
        async with self._pool.acquire() as connection:
            job = await job_records.get(connection, job_id)
            files = await file_records.of_job(connection, job_id)
        if job is not None and job.status not in TERMINAL:
            with span("plan job", parent=job.traceparent, attributes={"haulyard.job_id": job_id}):
                await self._go_on(await self._wish(job, files))

    async def _wish(self, job: Job, files: Sequence[JobFile], *, sure: bool = False) -> _Wish:
        resolved = await self._sources.resolve(
            [file for file in files if file.failure is None], user_id=job.user_id, sure=sure
        )
        resolved.lost.extend(
            LostFile(position=file.position, file_id=file.file_id, failure=file.failure, name=file.name)
            for file in files
            if file.failure is not None
        )
        contents = contents_of(resolved.found, resolved.lost)
        digest = digest_of(resolved.found, contents, job.compression) if self._rules.reuse else None
        return _Wish(job=job, resolved=resolved, contents=contents, digest=digest)

    async def _go_on(self, wish: _Wish) -> None:
        """Do the next thing for a job that is recorded and not laid out."""
        job, lost = wish.job, wish.lost
        if not wish.found:
            await self._ending.lose_all(job, lost)
            return
        if lost and job.on_missing is OnMissing.FAIL:
            await self._ending.refuse_incomplete(job, lost)
            return
        shared = await self._shared(wish)
        if not shared.is_nowhere and not wish.resolved.confirmed:
            # An archive of what the catalogue believes is not good enough: the sources may have been replaced.
            wish = await self._confirmed(wish)
            if wish.lost != lost or not wish.found:
                await self._go_on(wish)
                return
            shared = await self._shared(wish)
        if not shared.is_nowhere and await self._share(wish, shared):
            return
        tasks = self._to_prepare(wish)
        try:
            if tasks:
                await self._prepare(wish, tasks)
            else:
                await self._build(wish)
        except asyncpg.UniqueViolationError as error:
            if error.constraint_name != _ONE_BUILDER:
                raise
            # Another job has begun to build the same archive since we looked: follow it.
            await self._go_on(wish)

    async def _confirmed(self, wish: _Wish) -> _Wish:
        async with self._pool.acquire() as connection:
            files = await file_records.of_job(connection, wish.job.id)
        return await self._wish(wish.job, files, sure=True)

    # Archives that are there already, or will be

    async def _shared(self, wish: _Wish) -> Shared:
        if wish.digest is None:
            return Shared()
        return await archive_records.find_shared(
            self._pool, wish.digest, job_id=wish.job.id, remaining=self._rules.reuse_remaining
        )

    async def _share(self, wish: _Wish, shared: Shared) -> bool:
        """Give the job an archive that is there, or let it wait for the job that builds it; whether that worked."""
        job = wish.job
        planned = [
            PlannedFile(file=file, entry=entry, name=name, first_part=0, last_part=0)
            for entry, (file, name) in enumerate(zip(wish.found, wish.contents.names, strict=True))
        ]
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                now = await self._unplanned(connection, job)
                if now is None:
                    return True
                await file_records.plan(connection, job.id, wish.found, planned)
                await file_records.lose(connection, job.id, wish.lost)
                await self._take_share(connection, now, wish, shared)
        except (_GoneMeanwhileError, asyncpg.ForeignKeyViolationError):
            return False
        how = "finished" if shared.archive_id is not None else "in_flight"
        measures.reused(how)
        log.info("archive shared", how=how, files=len(wish.found))
        await self._teller.tell(job.id, planned=shared.archive_id is None)
        return True

    async def _take_share(self, connection: Connection, job: Job, wish: _Wish, shared: Shared) -> None:
        digest, lost = wish.digest or "", len(wish.lost)
        if shared.archive_id is not None:
            is_shared = await job_records.complete(
                connection,
                job,
                shared.archive_id,
                digest=digest,
                lost=lost,
                bytes_total=sum(file.size or 0 for file in wish.found),
            )
            await file_records.complete_all(connection, job.id)
        else:
            is_shared = await job_records.follow(connection, job, shared.leader_id or "", digest=digest, lost=lost)
        if not is_shared:
            raise _GoneMeanwhileError

    async def _unplanned(self, connection: Connection, job: Job) -> Job | None:
        """Return the job, locked, if it is still for us to plan."""
        now = await job_records.lock(connection, job.id)
        if now is None or now.status in TERMINAL or now.generation != job.generation or now.follows is not None:
            return None
        return None if (await part_records.count(connection, job.id)).is_laid_out else now

    # Preparations

    def _to_prepare(self, wish: _Wish) -> tuple[PrepareTask, ...]:
        return preparations(
            wish.found,
            job_id=wish.job.id,
            generation=wish.job.generation,
            bucket=self._rules.bucket,
            compression=wish.job.compression,
            equal_parts=self._rules.limits.equal_parts,
            blocks=self._rules.blocks,
        )

    async def _prepare(self, wish: _Wish, tasks: Sequence[PrepareTask]) -> None:
        job = wish.job
        async with self._pool.acquire() as connection, connection.transaction():
            now = await self._unplanned(connection, job)
            if now is None:
                return
            counts = await part_records.count(connection, job.id)
            if counts.preparing:
                return
            if counts.prepared:  # and yet a source has another version than the one that was prepared
                await job_records.begin_anew(connection, job.id)
                is_void = True
            else:
                is_void = False
                await self._record_preparations(connection, now, wish, tasks)
        if is_void:
            await self._plan_anew(job)
            return
        log.info("job is being prepared", preparations=len(tasks), bytes=sum(data_bytes(task) for task in tasks))
        await self._teller.tell(job.id, planned=True)

    async def _plan_anew(self, job: Job) -> None:
        """Plan a job whose preparations are void; a source that is another one each time has to end some day."""
        if job.generation < self._rules.retry.generations:
            await self.plan(job.id)
            return
        message = "A source changes faster than it can be read."
        await self._ending.fail(job.id, Failure(code=ErrorCode.SOURCE_CHANGED, message=message))

    async def _record_preparations(
        self, connection: Connection, job: Job, wish: _Wish, tasks: Sequence[PrepareTask]
    ) -> None:
        await file_records.plan(connection, job.id, wish.found)
        await file_records.lose(connection, job.id, wish.lost)
        await job_records.store_preparing(
            connection,
            job,
            digest=wish.digest,
            bytes_total=sum(file.size or 0 for file in wish.found),
            lost=len(wish.lost),
        )
        await part_records.insert_preparations(connection, tasks)
        await self._dispatcher.send_ready(connection, job, sent=0)

    async def take_preparations(self, connection: Connection, job: Job) -> None:
        """Record what the preparations found out, so that the job can be laid out. The job must be locked."""
        outcomes: dict[int, list[PreparedRange]] = defaultdict(list)
        for done in await part_records.outcomes(connection, job.id):
            for each in done.ranges:
                outcomes[each.position].append(each)
        found = await file_records.found(connection, job.id)
        ready = prepared([file for file in found if file.position in outcomes], outcomes, compression=job.compression)
        await file_records.plan(connection, job.id, ready)
        await job_records.all_is_prepared(connection, job.id)

    # Building

    def _lay_out(self, wish: _Wish, key: str) -> Plan | None:
        """Return the plan, or None if the archive would be too large."""
        try:
            return make_plan(
                job_id=wish.job.id,
                generation=wish.job.generation,
                bucket=self._rules.bucket,
                key=key,
                found=wish.found,
                contents=wish.contents,
                limits=self._rules.limits,
                store=self._rules.store,
            )
        except ArchiveTooLargeError as error:
            log.warning("archive too large", reason=str(error))
            return None

    async def _build(self, wish: _Wish) -> None:
        job, key = wish.job, archive_key(datetime.now(UTC))
        plan = self._lay_out(wish, key)
        if plan is None:
            message = "The archive would have more parts, or larger ones, than the store allows; ask for fewer files."
            await self._ending.fail(job.id, Failure(code=ErrorCode.ARCHIVE_TOO_LARGE, message=message))
            return
        upload_id = None
        if len(plan.parts) > 1:
            upload_id = await self._store.create_upload(
                self._rules.bucket, key, content_type=_ZIP, crc32=plan.upload_crc32
            )
        plan = dataclasses.replace(plan, parts=tuple(with_upload(part, upload_id) for part in plan.parts))
        is_ours = False
        try:
            is_ours = await self._record_plan(wish, plan, key, upload_id)
        finally:
            if not is_ours and upload_id is not None:
                # Another replica planned it, or it is over: theirs counts.
                await self._store.abort_upload(self._rules.bucket, key, upload_id=upload_id)
        if not is_ours:
            return
        measures.planned(plan)
        log.info("job planned", parts=len(plan.parts), bytes=plan.size, lost=len(wish.lost), generation=job.generation)
        await self._teller.tell(job.id, planned=True)

    async def _record_plan(self, wish: _Wish, plan: Plan, key: str, upload_id: str | None) -> bool:
        job = wish.job
        async with self._pool.acquire() as connection, connection.transaction():
            now = await self._unplanned(connection, job)
            if now is None:
                return False
            await file_records.plan(connection, job.id, wish.found, plan.files)
            await file_records.lose(connection, job.id, wish.lost)
            await job_records.store_plan(
                connection,
                now,
                plan,
                bucket=self._rules.bucket,
                key=key,
                upload_id=upload_id,
                digest=wish.digest,
                lost=len(wish.lost),
            )
            await part_records.insert(connection, plan.parts)
            await self._dispatcher.send_ready(connection, now, sent=0)
        return True
