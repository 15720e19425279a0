"""Drives jobs from request to archive. Every step is idempotent and is done again until it is durable.

A step changes the record under the job's row lock, and then tells of it; a crash between the two is repaired by the
redelivery of the message that caused the step, or by the reconciler. Tasks are published before the transaction that
releases them commits: sent in vain they are refused or done twice, but never forgotten.
"""

import random
from collections.abc import Sequence
from datetime import timedelta
from enum import Enum, auto

from nats.js import JetStreamContext

from haulyard_chassis.broker import Publisher
from haulyard_chassis.database import Connection, Pool
from haulyard_chassis.job_state import JobCache
from haulyard_chassis.logs import get_logger
from haulyard_chassis.store import ObjectStore
from haulyard_contracts import (
    TERMINAL,
    Failure,
    JobRequested,
    JobStatus,
    PartDone,
    PartFailed,
    Topology,
)
from haulyard_orchestrator import catalogue, job_records, part_records, results
from haulyard_orchestrator.dispatch import Dispatcher
from haulyard_orchestrator.ending import Ending
from haulyard_orchestrator.job_records import Job
from haulyard_orchestrator.part_records import PartRow
from haulyard_orchestrator.planner import Planner, Rules
from haulyard_orchestrator.planning import LostFile
from haulyard_orchestrator.retry import DropFile, FailJob, ForgetChecksum, PlanAnew, RetryPart
from haulyard_orchestrator.sources import Sources
from haulyard_orchestrator.telling import Teller

log = get_logger(__name__)


class _Following(Enum):
    """What is to be done after a change of a job, outside of its transaction."""

    NOTHING = auto()
    TELL = auto()
    FINISH = auto()
    """All parts are in the store."""
    PLAN = auto()
    START_OVER = auto()
    """All that was made so far is void."""
    CLEAN_UP = auto()
    """The job has failed."""


class Jobs:
    """The jobs of one installation."""

    def __init__(
        self,
        *,
        pool: Pool,
        store: ObjectStore,
        publisher: Publisher,
        stream: JetStreamContext,
        cache: JobCache,
        topology: Topology,
        sources: Sources,
        rules: Rules,
    ) -> None:
        self._pool = pool
        self._rules = rules
        self._teller = Teller(pool=pool, cache=cache, publisher=publisher, topology=topology)
        self._dispatcher = Dispatcher(pool=pool, publisher=publisher, stream=stream, topology=topology)
        self._ending = Ending(pool=pool, store=store, dispatcher=self._dispatcher, teller=self._teller, keep=rules.keep)
        self._planner = Planner(
            pool=pool,
            store=store,
            sources=sources,
            dispatcher=self._dispatcher,
            teller=self._teller,
            ending=self._ending,
            rules=rules,
        )

    # Requests

    async def accept(self, request: JobRequested, *, traceparent: str | None) -> None:
        """Record a new job and plan it; one that is recorded already is driven on from where it is."""
        async with self._pool.acquire() as connection, connection.transaction():
            is_new = await job_records.insert(connection, request, traceparent=traceparent)
        if is_new:
            log.info("job accepted", files=len(request.file_ids), priority=request.priority)
            await self._planner.plan(request.job_id)
        else:
            await self.drive(request.job_id)

    async def drive(self, job_id: str) -> None:
        """Do whatever a job needs next; harmless if it needs nothing.

        Raises:
            StoreError: the store does not answer.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            job = await job_records.lock(connection, job_id)
            if job is None:
                return
            queued = await part_records.with_status(connection, job_id, "queued")
            await self._dispatcher.send(job, [part.task for part in queued])
            following = await self._advance(connection, job)
        await self._follow(job, following)

    async def refuse(self, request: JobRequested, failure: Failure, *, traceparent: str | None) -> None:
        """Fail a job whose request could not be handled at all."""
        async with self._pool.acquire() as connection, connection.transaction():
            await job_records.insert(connection, request, traceparent=traceparent)
        await self._ending.fail(request.job_id, failure)

    async def cancel(self, job_id: str) -> None:
        """Stop a job on its user's wish."""
        await self._ending.cancel(job_id)

    async def tell(self, job_id: str) -> None:
        """Tell of a job's state once more."""
        await self._teller.tell(job_id)

    async def send_due(self, *, limit: int) -> int:
        """Send the parts whose next attempt is due; return how many."""
        return await self._dispatcher.send_due(limit=limit)

    # Results

    async def part_done(self, result: PartDone) -> None:
        """Take in that a part is in the store: count it, and release what waited for it."""
        async with self._pool.acquire() as connection, connection.transaction():
            job = await job_records.lock(connection, result.job_id)
            if job is None:
                return
            part = await self._part_of(connection, job, result)
            if part is not None:
                checksum = results.slice_crc32(part, result)
                if await part_records.mark_done(connection, result, slice_crc32=checksum):
                    await job_records.store_checksums(connection, job.id, results.whole_entries(part.task, result))
                    await job_records.part_is_done(connection, job.id, part.number, data_bytes=part.data_bytes)
            following = await self._advance(connection, job)
        await self._follow(job, following)

    async def part_failed(self, result: PartFailed) -> None:
        """Take in that a part could not be made, and do what the policy says."""
        async with self._pool.acquire() as connection, connection.transaction():
            job = await job_records.lock(connection, result.job_id)
            if job is None:
                return
            part = await self._part_of(connection, job, result)
            if part is not None and part.status != "done" and part.attempts == result.attempt:
                following = await self._decide(connection, job, part, result)
            else:
                following = await self._advance(connection, job)
        await self._follow(job, following)

    async def _part_of(self, connection: Connection, job: Job, result: PartDone | PartFailed) -> PartRow | None:
        """Return the part of a result; None if it is void: the job is over, or was planned anew since."""
        if job.status is not JobStatus.PROCESSING or result.generation != job.generation:
            log.info("result is void", part=result.number, generation=result.generation)
            return None
        return await part_records.get(connection, job.id, result.number)

    async def _decide(self, connection: Connection, job: Job, part: PartRow, result: PartFailed) -> _Following:
        """Do what the policy says about a part that failed; return what follows."""
        file = None
        if result.entry is not None:
            files = await job_records.files(connection, job.id)
            file = next((each for each in files if each.entry == result.entry), None)
        decision = self._rules.retry.decide(
            result.failure,
            attempt=result.attempt,
            generation=job.generation,
            names_file=file is not None,
            jitter=random.random(),  # noqa: S311 - spreads retries, keeps no secret
        )
        log.warning("part failed", part=part.number, code=result.failure.code, decision=type(decision).__name__)
        match decision:
            case RetryPart(delay):
                await part_records.mark_retrying(
                    connection,
                    job.id,
                    part.number,
                    attempt=result.attempt,
                    delay=timedelta(seconds=delay),
                    failure=result.failure,
                )
                return _Following.NOTHING
            case FailJob():
                await job_records.fail(connection, job, result.failure, keep=self._rules.keep)
                return _Following.CLEAN_UP
            case DropFile() | ForgetChecksum() | PlanAnew():
                if file is not None and isinstance(decision, DropFile):
                    dropped = LostFile(
                        position=file.position, file_id=file.file_id, failure=result.failure, name=file.name
                    )
                    await job_records.lose_files(connection, job.id, [dropped])
                if file is not None and isinstance(decision, ForgetChecksum):
                    await catalogue.forget_checksum(connection, file.file_id)
                await job_records.begin_anew(connection, job.id)
                return _Following.START_OVER

    # What follows from a change

    async def _advance(self, connection: Connection, job: Job) -> _Following:
        """Release what can be made now; return what follows once the transaction is over. The job must be locked."""
        if job.status in TERMINAL:
            return _Following.TELL if job.told_sequence < job.sequence else _Following.NOTHING
        if not await part_records.exist(connection, job.id):
            return _Following.PLAN
        waiting = await part_records.with_status(connection, job.id, "waiting")
        await self._release_headers(connection, job, [part for part in waiting if not part.is_closing])
        if not await part_records.only_closing_is_left(connection, job.id):
            return _Following.TELL
        closing = next((part for part in waiting if part.is_closing), None)
        if closing is None:
            return _Following.FINISH if await part_records.all_done(connection, job.id) else _Following.TELL
        if await self._release_closing(connection, job, closing):
            return _Following.TELL
        await job_records.begin_anew(connection, job.id)
        return _Following.START_OVER

    async def _follow(self, job: Job, following: _Following) -> None:
        """Do what follows from a change that is committed."""
        match following:
            case _Following.NOTHING:
                return
            case _Following.TELL:
                await self._teller.tell(job.id)
            case _Following.FINISH:
                await self._ending.finish(job)
            case _Following.PLAN:
                await self._planner.plan(job.id)
            case _Following.START_OVER:
                await self._ending.clean_up(job)
                await self._planner.plan(job.id)
            case _Following.CLEAN_UP:
                await self._ending.clean_up(job)
                await self._teller.tell(job.id)

    async def _release_headers(self, connection: Connection, job: Job, waiting: Sequence[PartRow]) -> None:
        """Send the parts with headers of large entries whose remaining data is in the store by now."""
        entries = [part.slice_of for part in waiting if part.slice_of is not None]
        if not entries:
            return
        slices = await part_records.slices(connection, job.id, entries)
        for part in waiting:
            behind = results.tail([each for each in slices if each.slice_of == part.slice_of])
            if part.slice_of is not None and behind is not None:
                task = results.with_tail(part.task, part.slice_of, behind)
                await part_records.release(connection, task)
                await self._dispatcher.send_task(job, task)

    async def _release_closing(self, connection: Connection, job: Job, closing: PartRow) -> bool:
        """Send the part with the directory; return False if a checksum of the catalogue turned out wrong."""
        files = {file.entry: file for file in await job_records.files(connection, job.id) if file.entry is not None}
        slices = await part_records.slices(connection, job.id, list(files))
        large = results.joined(slices)
        wrong = [
            files[entry]
            for entry, checksum in large.items()
            if entry in files and files[entry].crc32 not in (None, checksum)
        ]
        if wrong:
            log.warning("catalogue has wrong checksums", files=[file.file_id for file in wrong])
            for file in wrong:
                await catalogue.forget_checksum(connection, file.file_id)
            return False
        await job_records.store_checksums(connection, job.id, large)
        checksums = {entry: file.crc32 for entry, file in files.items() if file.crc32 is not None} | large
        task = results.with_checksums(closing.task, checksums)
        await part_records.release(connection, task)
        await self._dispatcher.send_task(job, task)
        return True
