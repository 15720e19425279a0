"""Drives jobs from request to archive. Every step is idempotent and is done again until it is durable.

A step changes the record under the job's row lock, and then tells of it; a crash between the two is repaired by the
redelivery of the message that caused the step, or by the reconciler. Tasks are published before the transaction that
releases them commits: sent in vain they are refused or done twice, but never forgotten.
"""

import random
from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import Enum, auto

from nats.js import JetStreamContext

from haulyard_chassis.broker import Publisher
from haulyard_chassis.database import Connection, Pool
from haulyard_chassis.dead_letters import DeadLetters
from haulyard_chassis.job_state import JobCache
from haulyard_chassis.logs import get_logger
from haulyard_chassis.store import ObjectStore
from haulyard_chassis.tracing import span
from haulyard_contracts import (
    TERMINAL,
    DataPiece,
    Failure,
    JobRequested,
    JobStatus,
    PartDone,
    PartFailed,
    Phase,
    PrepareDone,
    Topology,
)
from haulyard_orchestrator import catalogue, file_records, job_records, measures, part_records, results, whole_records
from haulyard_orchestrator.dispatch import Dispatcher
from haulyard_orchestrator.ending import Ending
from haulyard_orchestrator.file_records import JobFile
from haulyard_orchestrator.forgetting import Forgetting
from haulyard_orchestrator.job_records import Job
from haulyard_orchestrator.part_records import PartRow
from haulyard_orchestrator.planner import Planner, Rules
from haulyard_orchestrator.planning import LostFile
from haulyard_orchestrator.retry import DropFile, FailJob, ForgetChecksum, LookAgain, PlanAnew, RetryPart
from haulyard_orchestrator.sources import Sources
from haulyard_orchestrator.telling import Teller

log = get_logger(__name__)


class _Following(Enum):
    """What is to be done after a change of a job, outside of its transaction."""

    NOTHING = auto()
    TELL = auto()
    OVER = auto()
    """The job has got its archive."""
    FINISH = auto()
    """All parts are in the store."""
    PLAN = auto()
    START_OVER = auto()
    """All that was made so far is void."""
    CLEAN_UP = auto()
    """The job is over, and may have left something behind."""


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
        self._dispatcher = Dispatcher(
            pool=pool, publisher=publisher, stream=stream, topology=topology, window=rules.window
        )
        self._ending = Ending(
            pool=pool,
            store=store,
            bucket=rules.bucket,
            dispatcher=self._dispatcher,
            teller=self._teller,
            keep=rules.keep,
            go_on=self.drive,
        )
        self._planner = Planner(
            pool=pool,
            store=store,
            sources=sources,
            dispatcher=self._dispatcher,
            teller=self._teller,
            ending=self._ending,
            rules=rules,
        )
        self.forgetting = Forgetting(
            pool=pool,
            store=store,
            files_bucket=rules.files_bucket,
            cache=cache,
            dispatcher=self._dispatcher,
            teller=self._teller,
            ending=self._ending,
            dead_letters=DeadLetters(stream, publisher, topology),
        )

    # Requests

    async def accept(self, request: JobRequested, *, traceparent: str | None) -> None:
        """Record a new job and plan it; one that is recorded already is driven on from where it is.

        Raises:
            StoreError: the store does not answer.
        """
        if await self._planner.accept(request, traceparent=traceparent):
            log.info("job accepted", files=len(request.file_ids), priority=request.priority)
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
            queued = await part_records.queued(connection, job_id)
            if job.status not in TERMINAL:
                await self._dispatcher.send(job, [row.task for row in queued])
            following = await self._advance(connection, job)
        await self._follow(job, following)

    async def refuse(self, request: JobRequested, failure: Failure, *, traceparent: str | None) -> None:
        """Fail a job whose request could not be handled at all."""
        async with self._pool.acquire() as connection:
            await job_records.insert(connection, request, traceparent=traceparent)
        await self._ending.fail(request.job_id, failure)

    async def is_recorded(self, job_id: str) -> bool:
        """Whether a job is recorded, or never will be because nobody asks for it; False: its request waits."""
        async with self._pool.acquire() as connection:
            if await job_records.get(connection, job_id) is not None:
                return True
        return not await self._dispatcher.is_requested(job_id)

    async def cancel(self, job_id: str) -> None:
        """Stop a job on its user's wish."""
        await self._ending.cancel(job_id)

    async def delete(self, job_id: str) -> None:
        """Forget a job on its user's wish."""
        await self.forgetting.delete_job(job_id)

    async def fail(self, job_id: str, failure: Failure) -> None:
        """Give a job up that is not over."""
        await self._ending.fail(job_id, failure)

    async def tell(self, job_id: str) -> None:
        """Tell of a job's state once more."""
        await self._teller.tell(job_id)

    @property
    def can_send(self) -> bool:
        """Whether the broker is there to take tasks."""
        return self._dispatcher.can_send

    async def send_due(self, *, limit: int) -> int:
        """Send the tasks whose next attempt is due; return how many."""
        return await self._dispatcher.send_due(limit=limit)

    # Results

    async def part_done(self, result: PartDone) -> None:
        """Take in that a part is in the store: count it, and release what waited for it."""
        if result.whole and await self._whole_done(result):
            return
        followers: list[str] = []
        async with self._pool.acquire() as connection, connection.transaction():
            job = await job_records.lock(connection, result.job_id)
            is_valid = job is not None and self._is_valid(job, result)
            if job is not None:
                if is_valid:
                    followers = await self._count_part(connection, job, result)
                following = await self._advance(connection, job)
        if not is_valid:
            await self._ending.drop_void(result)
        if job is not None:
            await self._follow(job, following)
        for follower in followers:
            await self._teller.tell(follower)

    async def _whole_done(self, result: PartDone) -> bool:
        """Complete a job whose archive is one part; return False if it is over, or there is something to repair."""
        with span("complete job", attributes={"haulyard.job_id": result.job_id}):
            return await self._complete_whole(result)

    async def _complete_whole(self, result: PartDone) -> bool:
        checksums = {found.entry: found.crc32 for found in result.slices}
        done = await whole_records.complete(self._pool, result, checksums, keep=self._rules.keep)
        if done is None:
            return False
        measures.done(result)
        log.info("job completed", bytes=done.size)
        if done.staged:
            await self._ending.drop_staged(result.job_id)
        await self._teller.tell(result.job_id)
        for follower in done.followers:
            await self.drive(follower)
        return True

    async def _count_part(self, connection: Connection, job: Job, result: PartDone) -> list[str]:
        """Record that a part is in the store; return the jobs to which that matters, too."""
        part = await part_records.get(connection, job.id, result.number)
        if part is None:
            return []
        checksum = results.slice_crc32(part, result)
        if not await part_records.mark_done(connection, result, slice_crc32=checksum):
            return []
        measures.done(result)
        await file_records.store_checksums(connection, job.id, results.whole_entries(part.task, result))
        await job_records.part_is_done(
            connection,
            job.id,
            part.number,
            data_bytes=part.data_bytes,
            copied=result.bytes_copied,
            through=result.bytes_through,
        )
        followers = await job_records.mirror(connection, job.id)
        if followers:
            await file_records.mirror(connection, job.id)
        return followers

    async def preparation_done(self, result: PrepareDone) -> None:
        """Take in that something is prepared; the last one lets the archive be laid out."""
        async with self._pool.acquire() as connection, connection.transaction():
            job = await job_records.lock(connection, result.job_id)
            if job is not None:
                if self._is_valid(job, result):
                    row = await part_records.get_task(connection, job.id, Phase.PREPARE, result.number)
                    if row is not None and await part_records.mark_prepared(connection, result):
                        measures.done(result)
                        await job_records.preparation_is_done(
                            connection, job.id, data_bytes=row.data_bytes, through=result.bytes_through
                        )
                following = await self._advance(connection, job)
        if job is None or job.status in TERMINAL:
            # It was staged after all that had been staged for the job was deleted.
            await self._ending.drop_staged(result.job_id)
        if job is not None:
            await self._follow(job, following)

    async def part_failed(self, result: PartFailed) -> None:
        """Take in that a part could not be made or prepared, and do what the policy says."""
        async with self._pool.acquire() as connection, connection.transaction():
            job = await job_records.lock(connection, result.job_id)
            if job is None:
                return
            row = None
            if self._is_valid(job, result):
                row = await part_records.get_task(connection, job.id, result.phase, result.number)
            if row is not None and row.status != "done" and row.attempts == result.attempt:
                following = await self._decide(connection, job, result)
            else:
                following = await self._advance(connection, job)
        await self._follow(job, following)

    def _is_valid(self, job: Job, result: PartDone | PrepareDone | PartFailed) -> bool:
        """Whether a result counts: it does not if the job is over, or was planned anew since."""
        if job.status is JobStatus.PROCESSING and result.generation == job.generation:
            return True
        log.info("result is void", part=result.number, generation=result.generation)
        return False

    async def _decide(self, connection: Connection, job: Job, result: PartFailed) -> _Following:
        """Do what the policy says about a task that failed; return what follows."""
        file = await self._file_of(connection, job, result)
        decision = self._rules.retry.decide(
            result.failure,
            attempt=result.attempt,
            generation=job.generation,
            names_file=file is not None,
            jitter=random.random(),  # noqa: S311 - spreads retries, keeps no secret
            is_believed=file is not None and not file.confirmed,
        )
        log.warning(
            "part failed",
            part=result.number,
            phase=result.phase,
            code=result.failure.code,
            decision=type(decision).__name__,
        )
        match decision:
            case RetryPart(delay):
                await part_records.mark_retrying(
                    connection,
                    job.id,
                    result.phase,
                    result.number,
                    attempt=result.attempt,
                    delay=timedelta(seconds=delay),
                    failure=result.failure,
                )
                return _Following.NOTHING
            case FailJob():
                await file_records.fail_all(connection, job.id, result.failure)
                await job_records.fail(connection, job, result.failure, keep=self._rules.keep)
                return _Following.CLEAN_UP
            case DropFile() | ForgetChecksum() | LookAgain() | PlanAnew():
                if file is not None:
                    await self._correct(connection, job, file, result.failure, decision)
                await job_records.begin_anew(connection, job.id)
                return _Following.START_OVER

    async def _file_of(self, connection: Connection, job: Job, result: PartFailed) -> JobFile | None:
        """Return the file whose source was the reason of a failure, if one was."""
        if result.entry is None:
            return None
        files = await file_records.of_job(connection, job.id)
        if result.phase is Phase.PREPARE:
            return next((each for each in files if each.position == result.entry), None)
        return next((each for each in files if each.entry == result.entry), None)

    async def _correct(
        self,
        connection: Connection,
        job: Job,
        file: JobFile,
        failure: Failure,
        decision: DropFile | ForgetChecksum | LookAgain | PlanAnew,
    ) -> None:
        """Correct what was believed of a file, so that the next plan is a better one."""
        match decision:
            case DropFile():
                lost = LostFile(position=file.position, file_id=file.file_id, failure=failure, name=file.name)
                await file_records.lose(connection, job.id, [lost])
            case ForgetChecksum():
                await catalogue.forget_checksum(connection, file.file_id)
            case LookAgain():
                await catalogue.forget(connection, file.file_id)
            case PlanAnew():
                return

    # What follows from a change

    async def _advance(self, connection: Connection, job: Job) -> _Following:
        """Release what can be made now; return what follows once the transaction is over. The job must be locked."""
        if job.status in TERMINAL:
            # Whoever ended it did not get as far as to tell of it, nor perhaps to clean up.
            return _Following.CLEAN_UP if job.told_sequence < job.sequence else _Following.NOTHING
        if job.follows is not None:
            return await self._advance_follower(connection, job, job.follows)
        counts = await part_records.count(connection, job.id)
        if counts.ready:
            await self._dispatcher.send_ready(connection, job, sent=counts.sent)
        if counts.preparing:
            return _Following.TELL
        if not counts.is_laid_out:
            if counts.prepared:
                await self._planner.take_preparations(connection, job)
            return _Following.PLAN
        if counts.waiting and not await self._release(connection, job):
            await job_records.begin_anew(connection, job.id)
            return _Following.START_OVER
        if counts.open:
            return _Following.TELL
        if await self._wrong_checksums(connection, job):
            await job_records.begin_anew(connection, job.id)
            return _Following.START_OVER
        await job_records.all_is_built(connection, job.id)
        return _Following.FINISH

    async def _advance_follower(self, connection: Connection, job: Job, leader_id: str) -> _Following:
        """Give a job the archive that another one has built, or let it build its own if that one did not."""
        leader = await job_records.get(connection, leader_id)
        if leader is not None and leader.digest == job.digest:
            if leader.status is JobStatus.PROCESSING:
                return _Following.TELL
            archive_id = leader.archive_id
            if archive_id is not None and await job_records.complete(connection, job, archive_id, digest=job.digest):
                await file_records.complete_all(connection, job.id)
                return _Following.OVER
        await job_records.release(connection, job.id)
        return _Following.PLAN

    async def _follow(self, job: Job, following: _Following) -> None:
        """Do what follows from a change that is committed."""
        match following:
            case _Following.NOTHING:
                return
            case _Following.TELL:
                await self._teller.tell(job.id)
            case _Following.OVER:
                await self._ending.over(job)
            case _Following.FINISH:
                await self._ending.finish(job)
            case _Following.PLAN:
                await self._planner.plan(job.id)
            case _Following.START_OVER:
                await self._ending.clean_up(job)
                await self._planner.plan(job.id)
                await self._ending.drive_followers(job.id)
            case _Following.CLEAN_UP:
                await self._ending.clean_up(job)
                await self._ending.over(job)

    async def _release(self, connection: Connection, job: Job) -> bool:
        """Send the parts that waited for what is known by now.

        Returns:
            False if a checksum of the catalogue turned out wrong, so that the plan is void.
        """
        waiting = await part_records.waiting(connection, job.id)
        await self._release_headers(connection, job, [part for part in waiting if not part.is_closing])
        closing = next((part for part in waiting if part.is_closing), None)
        return closing is None or await self._release_closing(connection, job, closing)

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
        """Send the part with the directory if all checksums that it needs are known.

        Returns:
            False if a checksum of the catalogue turned out wrong, so that the plan is void.
        """
        files = {file.entry: file for file in await file_records.of_job(connection, job.id) if file.entry is not None}
        joined = results.joined(await part_records.slices(connection, job.id, list(files)), _sizes(files))
        own = {piece.entry for piece in closing.task.pieces if isinstance(piece, DataPiece)}
        checksums = joined | {entry: file.crc32 for entry, file in files.items() if file.crc32 is not None}
        if any(file.size_bytes and entry not in checksums and entry not in own for entry, file in files.items()):
            return True
        if await self._wrong_checksums(connection, job):
            return False
        await file_records.store_checksums(connection, job.id, joined)
        task = results.with_checksums(closing.task, checksums)
        await part_records.release(connection, task)
        await self._dispatcher.send_task(job, task)
        return True

    async def _wrong_checksums(self, connection: Connection, job: Job) -> bool:
        """Forget the checksums of the catalogue that the data of large entries does not have; whether there are any."""
        files = {
            file.entry: file
            for file in await file_records.of_job(connection, job.id)
            if file.entry is not None and file.crc32 is not None and not file.is_packed
        }
        joined = results.joined(await part_records.slices(connection, job.id, list(files)), _sizes(files))
        wrong = [files[entry] for entry, checksum in joined.items() if files[entry].crc32 != checksum]
        for file in wrong:
            log.warning("catalogue has a wrong checksum", file_id=file.file_id)
            await catalogue.forget_checksum(connection, file.file_id)
        return bool(wrong)


def _sizes(files: Mapping[int, JobFile]) -> dict[int, int]:
    return {entry: file.size_bytes or 0 for entry, file in files.items()}
