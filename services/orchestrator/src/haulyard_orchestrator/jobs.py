"""Drives jobs from request to archive. Every step is idempotent and is done again until it is durable.

A step changes the record under the job's row lock, and then tells of it; a crash between the two is repaired by the
redelivery of the message that caused the step, or by the reconciler. Tasks are published before the transaction that
releases them commits: sent in vain they are refused or done twice, but never forgotten.
"""

import random
from collections.abc import Sequence
from datetime import timedelta

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
            if await job_records.insert(connection, request, traceparent=traceparent):
                log.info("job accepted", files=len(request.file_ids), priority=request.priority)
        await self.drive(request.job_id)

    async def drive(self, job_id: str) -> None:
        """Do whatever a job needs next; harmless if it needs nothing.

        Raises:
            StoreError: the store does not answer.
        """
        async with self._pool.acquire() as connection:
            job = await job_records.get(connection, job_id)
            if job is None:
                return
            if job.status in TERMINAL:
                if job.told_sequence < job.sequence:
                    await self.tell(job_id)
                return
            planned = await part_records.exist(connection, job_id)
            queued = await part_records.with_status(connection, job_id, "queued")
        if not planned:
            await self._planner.plan(job_id)
            return
        await self._dispatcher.send(job, queued)
        await self._go_on(job_id)

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
            job = await self._lock_for(connection, result)
            part = await part_records.get(connection, result.job_id, result.number) if job else None
            if job is not None and part is not None:
                checksum = results.slice_crc32(part, result)
                if await part_records.mark_done(connection, result, slice_crc32=checksum):
                    await job_records.store_checksums(connection, job.id, results.whole_entries(part.task, result))
                    await job_records.part_is_done(connection, job.id, part.number, data_bytes=part.data_bytes)
        await self._go_on(result.job_id)

    async def part_failed(self, result: PartFailed) -> None:
        """Take in that a part could not be made, and do what the policy says."""
        begun_anew = None
        async with self._pool.acquire() as connection, connection.transaction():
            job = await self._lock_for(connection, result)
            part = await part_records.get(connection, result.job_id, result.number) if job else None
            if job is not None and part is not None and part.status != "done" and part.attempts == result.attempt:
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
                    case FailJob():
                        await job_records.fail(connection, job, result.failure, keep=self._rules.keep)
                        begun_anew = job
                    case DropFile() | ForgetChecksum() | PlanAnew():
                        if file is not None and isinstance(decision, DropFile):
                            dropped = LostFile(
                                position=file.position, file_id=file.file_id, failure=result.failure, name=file.name
                            )
                            await job_records.lose_files(connection, job.id, [dropped])
                        if file is not None and isinstance(decision, ForgetChecksum):
                            await catalogue.forget_checksum(connection, file.file_id)
                        await job_records.begin_anew(connection, job.id)
                        begun_anew = job
        if begun_anew is not None:
            await self._ending.clean_up(begun_anew)
        await self._go_on(result.job_id)

    async def _lock_for(self, connection: Connection, result: PartDone | PartFailed) -> Job | None:
        """Lock the job of a result; None if the result is void: the job is over, or was planned anew since."""
        job = await job_records.lock(connection, result.job_id)
        if job is None or job.status is not JobStatus.PROCESSING or result.generation != job.generation:
            log.info("result is void", part=result.number, generation=result.generation)
            return None
        return job

    async def _go_on(self, job_id: str) -> None:
        """Release what can be made now, finish what is complete, and tell of the state that came out of it."""
        mismatch: Job | None = None
        async with self._pool.acquire() as connection, connection.transaction():
            job = await job_records.lock(connection, job_id)
            if job is None:
                return
            planned = await part_records.exist(connection, job_id)
            waiting: list[PartRow] = []
            closed = False
            if job.status is JobStatus.PROCESSING and planned:
                waiting = await part_records.with_status(connection, job_id, "waiting")
                await self._release_headers(connection, job, [part for part in waiting if not part.is_closing])
                if await part_records.only_closing_is_left(connection, job_id):
                    closing = next((part for part in waiting if part.is_closing), None)
                    if closing is not None and not await self._release_closing(connection, job, closing):
                        await job_records.begin_anew(connection, job_id)
                        mismatch = job
                    closed = closing is None and await part_records.all_done(connection, job_id)
        if mismatch is not None:
            await self._ending.clean_up(mismatch)
        if mismatch is not None or (not planned and job.status not in TERMINAL):
            await self._planner.plan(job_id)
        elif closed:
            await self._ending.finish(job)
        elif job.told_sequence < job.sequence:
            await self._teller.tell(job_id)

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
                await self._dispatcher.send_task(job, task, part.attempts)

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
        await self._dispatcher.send_task(job, task, closing.attempts)
        return True
