"""Drives jobs from request to archive. Every step is idempotent and is done again until it is durable.

A step changes the record under the job's row lock, and then tells of it; a crash between the two is repaired by the
redelivery of the message that caused the step, or by the reconciler. Tasks are published before the transaction that
releases them commits: sent in vain they are refused or done twice, but never forgotten.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from msgspec.structs import replace
from nats.js import JetStreamContext

from haulyard_chassis.broker import TRACEPARENT, AlreadyPendingError, Publisher
from haulyard_chassis.database import Connection, Pool
from haulyard_chassis.job_state import CACHE_UNAVAILABLE, JobCache, load_document
from haulyard_chassis.logs import get_logger
from haulyard_chassis.store import ObjectNotFoundError, ObjectStore, StoreError, UploadGoneError
from haulyard_contracts import (
    TERMINAL,
    ErrorCode,
    EventType,
    Failure,
    FileStatus,
    JobDocument,
    JobEvent,
    JobRequested,
    JobStatus,
    PartDone,
    PartFailed,
    PartTask,
    Topology,
    cloud_event_headers,
)
from haulyard_orchestrator import catalogue, job_records, part_records, results
from haulyard_orchestrator.job_records import Job
from haulyard_orchestrator.part_records import PartRow
from haulyard_orchestrator.planning import FoundFile, LostFile, Plan, make_plan, with_upload
from haulyard_orchestrator.retry import DropFile, FailJob, ForgetChecksum, PlanAnew, RetryPart, RetryPolicy
from haulyard_orchestrator.sources import Sources
from haulyard_zipline import ArchiveTooLargeError, Limits

log = get_logger(__name__)

_ZIP = "application/zip"
_SEND_AT_ONCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What an installation decides about its jobs."""

    bucket: str
    """Takes the archives."""
    limits: Limits
    retry: RetryPolicy
    keep: timedelta
    """How long an archive, and the record of its job, is kept."""


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
        self._store = store
        self._publisher = publisher
        self._stream = stream
        self._cache = cache
        self._topology = topology
        self._sources = sources
        self._rules = rules

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
            await self._plan(job_id)
            return
        await self._send(job, queued)
        await self._go_on(job_id)

    async def refuse(self, request: JobRequested, failure: Failure, *, traceparent: str | None) -> None:
        """Fail a job whose request could not be handled at all."""
        async with self._pool.acquire() as connection, connection.transaction():
            await job_records.insert(connection, request, traceparent=traceparent)
        await self._fail(request.job_id, failure)

    async def cancel(self, job_id: str) -> None:
        """Stop a job on its user's wish; nothing of it is left in the store. One that is over stays as it is."""
        async with self._pool.acquire() as connection, connection.transaction():
            job = await job_records.lock(connection, job_id)
            if job is None or job.status in TERMINAL:
                return
            await job_records.cancel(connection, job, keep=self._rules.keep)
        await self._clean_up(job)
        await self.tell(job_id)

    # Planning

    async def _plan(self, job_id: str) -> None:
        async with self._pool.acquire() as connection:
            job = await job_records.get(connection, job_id)
            files = await job_records.files(connection, job_id)
        if job is None or job.status in TERMINAL:
            return
        lost = [
            LostFile(position=file.position, file_id=file.file_id, failure=file.failure, name=file.name)
            for file in files
            if file.failure is not None
        ]
        found, newly_lost = await self._sources.resolve(
            [file for file in files if file.failure is None], user_id=job.user_id
        )
        lost += newly_lost
        if not found:
            await self._lose_all(job, lost)
            return
        key = f"{job.id}/{job.generation}/{job.id}.zip"
        try:
            plan = self._make_plan(job, found, lost, key)
        except ArchiveTooLargeError as error:
            await self._fail(job_id, Failure(code=ErrorCode.ARCHIVE_TOO_LARGE, message=str(error)))
            return
        upload_id = None
        if len(plan.parts) > 1:
            upload_id = await self._store.create_upload(self._rules.bucket, key, content_type=_ZIP)
        if not await self._record_plan(job, plan, lost, key, upload_id):
            # Another replica planned it, or it is over: theirs counts.
            if upload_id is not None:
                await self._store.abort_upload(self._rules.bucket, key, upload_id=upload_id)
            return
        log.info("job planned", parts=len(plan.parts), bytes=plan.size, lost=len(lost), generation=job.generation)
        async with self._pool.acquire() as connection:
            queued = await part_records.with_status(connection, job_id, "queued")
        await self._send(job, queued)
        await self.tell(job_id, planned=True)

    def _make_plan(self, job: Job, found: Sequence[FoundFile], lost: Sequence[LostFile], key: str) -> Plan:
        return make_plan(
            job_id=job.id,
            generation=job.generation,
            bucket=self._rules.bucket,
            key=key,
            found=found,
            lost=lost,
            created_at=int(job.created_at.timestamp()),
            limits=self._rules.limits,
        )

    async def _record_plan(
        self, job: Job, plan: Plan, lost: Sequence[LostFile], key: str, upload_id: str | None
    ) -> bool:
        async with self._pool.acquire() as connection, connection.transaction():
            now = await job_records.lock(connection, job.id)
            if now is None or now.status in TERMINAL or now.generation != job.generation:
                return False
            if await part_records.exist(connection, job.id):
                return False
            await job_records.store_plan(
                connection, now, plan, lost, bucket=self._rules.bucket, key=key, upload_id=upload_id
            )
            await part_records.insert(connection, [with_upload(part, upload_id) for part in plan.parts])
        return True

    async def _lose_all(self, job: Job, lost: Sequence[LostFile]) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            now = await job_records.lock(connection, job.id)
            if now is None or now.status in TERMINAL or now.generation != job.generation:
                return
            await job_records.lose_files(connection, job.id, lost)
            first = min(lost, key=lambda file: file.position).failure.message
            message = first if len(lost) == 1 else f"None of the {len(lost)} files could be archived; first: {first}"
            failure = Failure(code=ErrorCode.PROCESSING_FAILED, message=message)
            await job_records.fail(connection, now, failure, keep=self._rules.keep)
        await self.tell(job.id)

    # Tasks

    async def _send(self, job: Job, parts: Sequence[PartRow]) -> None:
        for start in range(0, len(parts), _SEND_AT_ONCE):
            await asyncio.gather(
                *(self._send_task(job, part.task, part.attempts) for part in parts[start : start + _SEND_AT_ONCE])
            )

    async def _send_task(self, job: Job, task: PartTask, attempt: int) -> bool:
        """Publish a task; return False if it is in its lane already."""
        task = replace(task, attempt=attempt)
        subject = self._topology.task(job.priority, task.kind, task.job_id, task.generation, task.number)
        message_id = f"{task.job_id}:{task.generation}:{task.number}:{attempt}"
        headers = {TRACEPARENT: job.traceparent} if job.traceparent else {}
        try:
            await self._publisher.publish(subject, task, message_id=message_id, headers=headers)
        except AlreadyPendingError:
            return False
        return True

    async def send_due(self, *, limit: int) -> int:
        """Send the parts whose next attempt is due; return how many."""
        async with self._pool.acquire() as connection, connection.transaction():
            due = await part_records.due(connection, limit=limit)
            for job_id, number in due:
                job = await job_records.get(connection, job_id)
                part = await part_records.get(connection, job_id, number)
                if job is None or part is None:
                    continue
                if job.status in TERMINAL or await self._send_task(job, part.task, part.attempts):
                    await part_records.mark_queued(connection, job_id, number)
                else:
                    # The last attempt's message is not acknowledged yet.
                    await part_records.put_off(connection, job_id, number, timedelta(seconds=1))
        return len(due)

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
            await self._clean_up(begun_anew)
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
            await self._clean_up(mismatch)
        if mismatch is not None or (not planned and job.status not in TERMINAL):
            await self._plan(job_id)
        elif closed:
            await self._finish(job)
        elif job.told_sequence < job.sequence:
            await self.tell(job_id)

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
                await self._send_task(job, task, part.attempts)

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
        await self._send_task(job, task, closing.attempts)
        return True

    # The end

    async def _finish(self, job: Job) -> None:
        """Make the object out of its parts, verify it, and complete the job; done again if it breaks off."""
        if job.bucket is None or job.key is None:
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
            await self._fail(job.id, Failure(code=ErrorCode.INTERNAL, message=message))
            return
        async with self._pool.acquire() as connection, connection.transaction():
            now = await job_records.lock(connection, job.id)
            if now is not None and now.status is JobStatus.PROCESSING and now.generation == job.generation:
                await job_records.complete(connection, now, keep=self._rules.keep)
                await catalogue.remember(connection, job.id)
                log.info("job completed", bytes=job.size_bytes)
        await self.tell(job.id)

    async def _fail(self, job_id: str, failure: Failure) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            job = await job_records.lock(connection, job_id)
            if job is not None and job.status not in TERMINAL:
                await job_records.fail(connection, job, failure, keep=self._rules.keep)
                log.warning("job failed", code=failure.code, reason=failure.message)
        if job is not None:
            await self._clean_up(job)
            await self.tell(job_id)

    async def _clean_up(self, job: Job) -> None:
        """Take back what a plan left behind: tasks in their lanes, and parts in the store."""
        await self._stream.purge_stream(self._topology.tasks.name, subject=self._topology.tasks_of(job.id))
        if job.upload_id is not None and job.bucket is not None and job.key is not None:
            try:
                await self._store.abort_upload(job.bucket, job.key, upload_id=job.upload_id)
            except StoreError as error:
                # The reconciler drops it later; the job's end does not wait for it.
                log.warning("upload not aborted", error=str(error))

    # Telling

    async def tell(self, job_id: str, *, planned: bool = False) -> None:
        """Write the job's state to the cache and publish the event that it is in this state.

        Raises:
            BrokerUnavailableError: the event is not in the stream; call again.
        """
        async with (
            self._pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            document = await load_document(connection, job_id)
            job = await job_records.get(connection, job_id)
        if document is None or job is None:
            return
        # The cache first: whoever missed the event reads a state that is at least as new.
        try:
            await self._cache.put(document)
        except CACHE_UNAVAILABLE as error:
            log.warning("cache unavailable", error=repr(error))
        event = event_of(document, planned=planned)
        headers = cloud_event_headers(event, source=f"/haulyard/{self._topology.namespace}")
        if job.traceparent:
            headers[TRACEPARENT] = job.traceparent
        await self._publisher.publish(
            self._topology.event(job_id, event.type), event, message_id=event.id, headers=headers
        )
        if document.status in TERMINAL:
            async with self._pool.acquire() as connection:
                await job_records.mark_told(connection, job_id, document.sequence)


_EVENT_TYPES = {
    JobStatus.QUEUED: EventType.PROCESSING,
    JobStatus.PROCESSING: EventType.PROGRESS,
    JobStatus.COMPLETED: EventType.COMPLETED,
    JobStatus.FAILED: EventType.FAILED,
    JobStatus.CANCELLED: EventType.CANCELLED,
    JobStatus.EXPIRED: EventType.EXPIRED,
}


def event_of(document: JobDocument, *, planned: bool) -> JobEvent:
    """Return the event that tells of a state.

    Args:
        document: the state.
        planned: the job is in this state because it was planned just now.
    """
    completed = document.status is JobStatus.COMPLETED
    return JobEvent(
        job_id=document.job_id,
        sequence=document.sequence,
        type=EventType.PROCESSING if planned and document.status not in TERMINAL else _EVENT_TYPES[document.status],
        status=document.status,
        progress=document.progress,
        timestamp=document.updated_at,
        error=document.error,
        filename=document.filename if completed else None,
        size_bytes=document.size_bytes if completed else None,
        failed_files=tuple(file.file_id for file in document.files if file.status is FileStatus.FAILED),
    )
