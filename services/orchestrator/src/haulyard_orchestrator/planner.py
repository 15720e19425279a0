"""Plans jobs: looks their files up, lays the archive out, starts the upload, records the plan and sends the tasks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from haulyard_chassis.database import Pool
from haulyard_chassis.logs import get_logger
from haulyard_chassis.store import ObjectStore
from haulyard_contracts import TERMINAL, ErrorCode, Failure
from haulyard_orchestrator import job_records, part_records
from haulyard_orchestrator.dispatch import Dispatcher
from haulyard_orchestrator.ending import Ending
from haulyard_orchestrator.job_records import Job
from haulyard_orchestrator.planning import FoundFile, LostFile, Plan, PlannedPart, make_plan, with_upload
from haulyard_orchestrator.retry import RetryPolicy
from haulyard_orchestrator.sources import Sources
from haulyard_orchestrator.telling import Teller
from haulyard_zipline import ArchiveTooLargeError, Limits

log = get_logger(__name__)

_ZIP = "application/zip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What an installation decides about its jobs."""

    bucket: str
    """Takes the archives."""
    limits: Limits
    retry: RetryPolicy
    keep: timedelta
    """How long an archive, and the record of its job, is kept."""


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

    async def plan(self, job_id: str) -> None:
        """Plan a job that is not planned; harmless for one that is, or is over.

        Raises:
            StoreError: the store does not answer.
        """
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
            await self._ending.lose_all(job, lost)
            return
        key = f"{job.id}/{job.generation}/{job.id}.zip"
        try:
            plan = self._make_plan(job, found, lost, key)
        except ArchiveTooLargeError as error:
            await self._ending.fail(job_id, Failure(code=ErrorCode.ARCHIVE_TOO_LARGE, message=str(error)))
            return
        upload_id = None
        if len(plan.parts) > 1:
            upload_id = await self._store.create_upload(self._rules.bucket, key, content_type=_ZIP)
        parts = [with_upload(part, upload_id) for part in plan.parts]
        if not await self._record_plan(job, plan, parts, lost, key, upload_id):
            # Another replica planned it, or it is over: theirs counts.
            if upload_id is not None:
                await self._store.abort_upload(self._rules.bucket, key, upload_id=upload_id)
            return
        log.info("job planned", parts=len(plan.parts), bytes=plan.size, lost=len(lost), generation=job.generation)
        await self._dispatcher.send(job, [part.task for part in parts if not part.waits])
        await self._teller.tell(job_id, planned=True)

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
        self,
        job: Job,
        plan: Plan,
        parts: Sequence[PlannedPart],
        lost: Sequence[LostFile],
        key: str,
        upload_id: str | None,
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
            await part_records.insert(connection, parts)
        return True
