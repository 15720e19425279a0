"""The hands of the model's test: everything that can happen to jobs, on real servers, one thing after the other.

Archivers are played: they take tasks, make them or die, and their results come late, twice, out of order or never
before their task is done again. The streams' duplicate windows are nearly nothing, so that nothing can rely on them.
"""

import asyncio
import io
import random
import secrets
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
import nats.js.errors

from haulyard_contracts import (
    TERMINAL,
    Compression,
    ErrorCode,
    Failure,
    JobRequested,
    JobStatus,
    OnMissing,
    PartFailed,
    PartTask,
    Phase,
    PrepareTask,
    Result,
    Task,
    decode,
)
from haulyard_orchestrator.dispatch import Window
from haulyard_orchestrator.reconciler import Intervals, Reconciler
from haulyard_orchestrator.retry import RetryPolicy
from support.model import ATTEMPTS, Cause, JobModel, Seen, check_archive, check_change, digest
from support.world import MIB, World

USERS = ("ann", "bob")
WINDOW = Window(per_user=2, per_job=1)
_DUPLICATE_WINDOW = 0.1
"""Seconds; the least that NATS takes."""
_ROUNDS = 80
"""Rounds after which jobs that are not over count as stuck."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is like."""

    size: int
    owner: str | None = None
    is_text: bool = False
    is_believed: bool = False

    def content(self, version: int) -> bytes:
        """Return what the file holds; versions differ in size, too, every other time."""
        size = self.size + version % 2
        if self.is_text:
            return (b"%d: all work and no play\n" % version * (size // 20 + 1))[:size]
        return random.Random(f"{self.size}:{version}").randbytes(size)


KINDS = (
    Kind(60),
    Kind(300_000, is_believed=True),
    Kind(700_000, is_text=True),
    Kind(6 * MIB + 17),
    Kind(12 * MIB + 3, is_believed=True),
    Kind(50, owner="ann"),
    Kind(0),
)
VERSIONS = 3


@dataclass
class Source:
    """A file of the catalogue, and what its object holds now; None: it is gone."""

    kind: Kind
    file_id: int
    key: str
    version: int | None = 0


@dataclass
class Answer:
    """A result that an archiver has sent; it may come any number of times, and at any time."""

    result: Result
    is_delivered: bool = False


@dataclass
class Hands:
    """Does things, and checks after each of them that the model allows what is seen."""

    world: World
    sources: list[Source]
    contents: dict[tuple[int, int], bytes]
    """By place of the source and version."""
    jobs: list[JobModel] = field(default_factory=list)
    held: list[Task] = field(default_factory=list)
    """Tasks that an archiver has begun, and that are in their lanes still, or not any more."""
    answers: list[Answer] = field(default_factory=list)
    causes: dict[str, set[Cause]] = field(default_factory=dict)
    """What was done since it was looked last."""
    is_serial: bool = True
    """Whether one thing happens after the other."""

    @classmethod
    async def ready(cls, world: World) -> "Hands":
        """Prepare an installation that is used for nothing else."""
        for spec in world.topology.streams:
            info = await world.stream.stream_info(spec.name)
            info.config.duplicate_window = _DUPLICATE_WINDOW
            await world.stream.update_stream(info.config)
        world.jobs = world.make_jobs(window=WINDOW, retry=RetryPolicy(attempts=ATTEMPTS, first_delay=0.0))
        contents = {
            (place, version): kind.content(version) for place, kind in enumerate(KINDS) for version in range(VERSIONS)
        }
        sources = []
        for place, kind in enumerate(KINDS):
            file_id = await world.add_file(contents[place, 0], name=f"file {place}.bin", owner=kind.owner)
            sources.append(Source(kind, file_id, await world.key_of(file_id)))
        return cls(world, sources, contents)

    async def begin(self, *, is_serial: bool) -> None:
        """Start an example as if nothing had ever happened."""
        if self.jobs:  # the one before has failed
            await self._wipe()
        self.jobs, self.held, self.answers, self.causes, self.is_serial = [], [], [], {}, is_serial
        for place, source in enumerate(self.sources):
            if source.version != 0:
                await self.put_source(place, 0)
            await self._forget_facts(source)

    async def _wipe(self) -> None:
        """Delete all that jobs have left."""
        world = self.world
        await world.pool.execute("TRUNCATE download_jobs, download_job_files, download_job_parts, archives")
        for spec in world.topology.streams:
            await world.stream.purge_stream(spec.name)
        for upload in await world.store.pending_uploads(world.bucket):
            await world.store.abort_upload(world.bucket, upload.key, upload_id=upload.upload_id)
        keys = [each.key async for each in world.store.list_objects(world.bucket, prefix="")]
        await world.store.delete_all(world.bucket, keys)

    async def _forget_facts(self, source: Source) -> None:
        """Let the catalogue know of an object what a kind of file says, and no more."""
        await self.world.pool.execute(
            "UPDATE files SET size_bytes = NULL, etag = NULL, modified_at = NULL, crc32 = NULL, crc32_etag = NULL"
            " WHERE id = $1",
            source.file_id,
        )
        if source.kind.is_believed:
            info = await self.world.store.head(self.world.files_bucket, source.key)
            await self.world.pool.execute(
                "UPDATE files SET size_bytes = $2, etag = $3, modified_at = $4 WHERE id = $1",
                source.file_id,
                info.size,
                info.etag,
                info.modified,
            )

    # Sources

    async def put_source(self, place: int, version: int | None) -> None:
        """Replace a source, bring it back, or delete it."""
        source = self.sources[place]
        bucket = self.world.files_bucket
        if version == source.version:
            return
        if version is None:
            await self.world.store.delete(bucket, source.key)
        else:
            content = self.contents[place, version]
            await self.world.store.put(bucket, source.key, content, size=len(content), content_type="text/plain")
        source.version = version
        for job in self.jobs:
            if not job.is_over and source.file_id in job.request.file_ids:
                job.excused.add(source.file_id)
                self._see_version(job, place)

    def place_of(self, file_id: int) -> int:
        """Return the place of a file's source."""
        return next(place for place, source in enumerate(self.sources) if source.file_id == file_id)

    def _see_version(self, job: JobModel, place: int) -> None:
        source = self.sources[place]
        if source.version is None or source.kind.owner not in (None, job.request.user_id):
            job.excused.add(source.file_id)
        else:
            job.versions.setdefault(source.file_id, set()).add(digest(self.contents[place, source.version]))

    # Jobs

    def new_request(
        self, places: Sequence[int], *, user: str, priority: int, compression: Compression, on_missing: OnMissing
    ) -> JobRequested:
        """Return a request, and let the model expect its job."""
        request = JobRequested(
            job_id=f"job_{len(self.jobs)}_{secrets.token_hex(6)}",
            user_id=user,
            file_ids=tuple(self.sources[place].file_id for place in places),
            created_at=datetime.now(UTC),
            priority=priority,
            compression=compression,
            on_missing=on_missing,
        )
        self._expect(request)
        return request

    def same_again(self, request: JobRequested, *, user: str) -> JobRequested:
        """Return another request for the same files, perhaps by another user."""
        again = msgspec.structs.replace(
            request, job_id=f"job_{len(self.jobs)}_{secrets.token_hex(6)}", user_id=user, created_at=datetime.now(UTC)
        )
        self._expect(again)
        return again

    def _expect(self, request: JobRequested) -> None:
        job = JobModel(request)
        self.jobs.append(job)
        for place, source in enumerate(self.sources):
            if source.file_id in request.file_ids:
                self._see_version(job, place)

    async def accept(self, request: JobRequested) -> None:
        """A request is delivered, the first time or once more."""
        self._note(request.job_id, Cause.WORK)
        await self.world.jobs.accept(request, traceparent=None)

    async def accept_again(self, job: JobModel) -> None:
        """The request of a job is delivered once more."""
        await self.accept(job.request)

    async def cancel(self, job: JobModel) -> None:
        self._note(job.request.job_id, Cause.CANCEL)
        await self.world.jobs.cancel(job.request.job_id)

    async def delete(self, job: JobModel) -> None:
        self._note(job.request.job_id, Cause.DELETE)
        job.is_deleted = True
        await self.world.jobs.delete(job.request.job_id)

    async def drive(self, job: JobModel) -> None:
        self._note(job.request.job_id, Cause.WORK)
        await self.world.jobs.drive(job.request.job_id)

    async def tell(self, job: JobModel) -> None:
        self._note(job.request.job_id, Cause.TELL)
        await self.world.jobs.tell(job.request.job_id)

    async def refuse(self, job: JobModel) -> None:
        """The request of a job was delivered too often in vain."""
        self._give_up(job)
        failure = Failure(code=ErrorCode.INTERNAL, message="delivered 8 times in vain")
        await self.world.jobs.refuse(job.request, failure, traceparent=None)

    async def time_out(self, job: JobModel) -> None:
        """A job takes longer than a job may."""
        self._give_up(job)
        await self.world.pool.execute(
            "UPDATE download_jobs SET created_at = now() - interval '2 days' WHERE id = $1", job.request.job_id
        )
        await self.reconciler.fail_overdue()

    def _give_up(self, job: JobModel) -> None:
        self._note(job.request.job_id, Cause.GIVE_UP)
        if not job.is_over:
            job.may_fail = True

    async def expire(self, job: JobModel) -> None:
        """The time of a job is over; of one that is not over, it is not."""
        if job.seen is None or job.seen.status not in TERMINAL:
            return
        self._note(job.request.job_id, Cause.EXPIRE)
        await self.world.pool.execute(
            "UPDATE download_jobs SET expires_at = now() - interval '1 second' WHERE id = $1", job.request.job_id
        )
        await self.world.jobs.forgetting.expire(limit=100)

    async def drop_archives(self) -> None:
        """The time of all archives is over; those that a job has must stay."""
        await self.world.pool.execute("UPDATE archives SET expires_at = now() - interval '1 second'")
        await self.world.jobs.forgetting.drop_archives(limit=100)

    @property
    def reconciler(self) -> Reconciler:
        """One for which nothing is too young."""
        world = self.world
        intervals = Intervals(stale_check=0.0, stale_after=0.0, orphan_after=0.0)
        return Reconciler(jobs=world.jobs, pool=world.pool, store=world.store, bucket=world.bucket, intervals=intervals)

    async def reconcile(self) -> None:
        """Repair whatever there is to repair."""
        for job in self.jobs:
            self._note(job.request.job_id, Cause.WORK)
        await self.send_due()
        await self.reconciler.drive_stale()
        await self.reconciler.tell_untold()
        await self.reconciler.drop_orphan_uploads()

    async def send_due(self) -> None:
        """Send what is to be tried again, as if the time had come."""
        await self.world.pool.execute("UPDATE download_job_parts SET next_attempt_at = now() WHERE status = 'retrying'")
        await self.world.jobs.send_due(limit=100)

    # Archivers

    async def lanes(self) -> list[str]:
        """Return the subjects of all tasks that are in their lanes, in the order of their jobs."""
        spec = self.world.topology.tasks
        info = await self.world.stream.stream_info(spec.name, subjects_filter=spec.subjects[0])
        order = {job.request.job_id: place for place, job in enumerate(self.jobs)}

        def place(subject: str) -> tuple[int, str, int, int]:
            *_, kind, job_id, generation, number = subject.split(".")
            return order[job_id], kind, int(generation), int(number)

        return sorted(info.state.subjects or {}, key=place)

    async def pick_task(self, pick: int) -> Task | None:
        """Return one of the tasks that archivers have, or could take."""
        subjects = await self.lanes()
        count = len(subjects) + len(self.held)
        if not count:
            return None
        if pick % count >= len(subjects):
            return self.held[pick % count - len(subjects)]
        try:
            message = await self.world.stream.get_last_msg(self.world.topology.tasks.name, subjects[pick % count])
        except nats.js.errors.NotFoundError:  # taken meanwhile
            return None
        task: Task = decode(message.data or b"", Task)
        return task

    async def make(self, task: Task) -> Answer:
        """Do a task."""
        answer = Answer(await self.world.make(task))
        self._learn(answer.result)
        return answer

    async def failure(self, task: Task, code: ErrorCode, *, names_file: bool) -> Answer:
        """Return the report that a task failed, because of a file that it reads or not."""
        entry = _read_by(task) if names_file else None
        file_id = None
        if entry is not None:
            column = "position" if isinstance(task, PrepareTask) else "entry"
            file_id = await self.world.pool.fetchval(
                f"SELECT file_id FROM download_job_files WHERE job_id = $1 AND {column} = $2",
                task.job_id,
                entry,
            )
        for job in self.jobs:
            if job.request.job_id == task.job_id:
                job.report(code, file_id if entry is not None else None)
        return Answer(
            PartFailed(
                job_id=task.job_id,
                generation=task.generation,
                number=task.number,
                attempt=task.attempt,
                failure=Failure(code=code, message="said the test"),
                entry=entry,
                phase=Phase.PREPARE if isinstance(task, PrepareTask) else Phase.BUILD,
            )
        )

    def _learn(self, result: Result) -> None:
        """A task that really failed did so because of a source: the model knows of it already, or it is wrong."""
        if isinstance(result, PartFailed):
            assert result.failure.code in (
                ErrorCode.SOURCE_CHANGED,
                ErrorCode.FILE_NOT_FOUND,
                ErrorCode.UPLOAD_GONE,
            ), result

    async def deliver(self, answer: Answer) -> None:
        """A result comes."""
        if answer not in self.answers:
            self.answers.append(answer)
        answer.is_delivered = True
        self._note(answer.result.job_id, Cause.WORK)
        await self.world.report(answer.result)
        if isinstance(answer.result, PartFailed):
            await self._check_attempts(answer.result)

    async def _check_attempts(self, result: PartFailed) -> None:
        """A task that failed is not waited for any more in this attempt, and has not too many."""
        row = await self.world.pool.fetchrow(
            "SELECT part.status, part.attempts, part.generation FROM download_job_parts part"
            " JOIN download_jobs job ON job.id = part.job_id AND job.status = 'processing'"
            " WHERE part.job_id = $1 AND part.phase = $2 AND part.number = $3",
            result.job_id,
            result.phase,
            result.number,
        )
        if row is not None and row["status"] != "done" and row["generation"] == result.generation:
            assert result.attempt < row["attempts"] <= ATTEMPTS

    # What is seen

    def _note(self, job_id: str, cause: Cause) -> None:
        self.causes.setdefault(job_id, set()).add(cause)

    async def look(self) -> None:
        """Check that all that is seen now may follow on what was seen before."""
        seen = await self._seen()
        causes, self.causes = self.causes, {}
        for job in self.jobs:
            job_id = job.request.job_id
            if job.is_deleted:
                assert job_id not in seen, f"{job_id} is deleted, and there it is"
                continue
            why = set(causes.get(job_id, ()))
            if job.seen is not None and causes.get(job.seen.follows or "none"):
                why.add(Cause.WORK)  # what happens to the job that it waits for happens to it
            check_change(job, seen[job_id], why, window=WINDOW.per_user)
            was, job.seen = job.seen, seen[job_id]
            if job.seen.status is JobStatus.COMPLETED and (was is None or was.status is not JobStatus.COMPLETED):
                await self._check_archive(job)
        assert set(seen) == {job.request.job_id for job in self.jobs if not job.is_deleted}
        await self._check_builders()
        await self._check_store()
        if self.is_serial:
            await self._check_order(seen)

    async def _check_order(self, seen: dict[str, Seen]) -> None:
        """Nobody waits for a job that is over, and no archiver is given what is void.

        When things happen at once, either may be for a moment: the next step, or the reconciler, repairs it.
        """
        for job_id, job in seen.items():
            if job.follows is not None and job.status is JobStatus.PROCESSING:
                leader = seen.get(job.follows)
                assert leader is not None, f"{job_id} waits for {job.follows}, which is gone"
                assert (leader.status, leader.follows) == (JobStatus.PROCESSING, None), f"{job_id} waits for {leader}"
                assert leader.digest == job.digest
        for subject in await self.lanes():
            job_id, generation = subject.split(".")[-3:-1]
            assert job_id in seen, f"{subject} is a task of no job"
            if seen[job_id].status is JobStatus.PROCESSING:
                assert int(generation) == seen[job_id].generation, f"{subject} is a task of an older plan"
            else:  # one that was done, and is delivered again
                assert seen[job_id].status in (JobStatus.COMPLETED, JobStatus.EXPIRED), subject

    async def _seen(self) -> dict[str, Seen]:
        rows = await self.world.pool.fetch(
            "SELECT id, status, sequence, told_sequence, generation, follows, digest, bytes_done, bytes_total,"
            " total_files, completed_files, failed_files, (SELECT count(*) FROM download_job_parts part"
            "  WHERE part.job_id = job.id AND part.status IN ('queued', 'retrying') AND NOT is_closing"
            "  AND (slice_of IS NULL OR is_body)) AS sent FROM download_jobs job"
        )
        return {
            row["id"]: Seen(
                status=JobStatus(row["status"]), **{k: v for k, v in row.items() if k not in ("id", "status")}
            )
            for row in rows
        }

    async def _check_archive(self, job: JobModel) -> None:
        document = await self.world.document(job.request.job_id)
        data = await self.world.archive(job.request.job_id)
        assert document.size_bytes == len(data)
        with zipfile.ZipFile(io.BytesIO(data)) as opened:
            members = {name: digest(opened.read(name)) for name in opened.namelist()}  # and their checksums are right
        check_archive(job, document.files, members)

    async def _check_builders(self) -> None:
        digests = await self.world.pool.fetch(
            "SELECT digest FROM download_jobs WHERE status = 'processing' AND follows IS NULL AND digest IS NOT NULL"
            " GROUP BY digest HAVING count(*) > 1"
        )
        assert digests == [], "two jobs build one archive"

    async def _check_store(self) -> None:
        """Every completed job has its archive, and no upload is open but those of jobs that are built."""
        world = self.world
        keys = await world.pool.fetch(
            "SELECT DISTINCT archive.key, archive.size_bytes FROM download_jobs job"
            " LEFT JOIN archives archive ON archive.id = job.archive_id WHERE job.status = 'completed'"
        )
        for key, size in keys:
            assert key is not None, "an archive is gone that a completed job has"
            assert (await world.store.head(world.bucket, key)).size == size
        uploads = await world.pool.fetch(
            "SELECT archive_key, upload_id FROM download_jobs WHERE status = 'processing' AND upload_id IS NOT NULL"
            " AND EXISTS (SELECT FROM download_job_parts WHERE job_id = download_jobs.id AND phase = 'build')"
        )
        pending = {(each.key, each.upload_id) for each in await world.store.pending_uploads(world.bucket)}
        assert pending == {(key, upload_id) for key, upload_id in uploads}

    # The end

    async def settle(self) -> None:
        """Let everything that is under way arrive, and drive all jobs until they are over."""
        for _ in range(_ROUNDS):
            await self._work_off()
            await self.look()
            if all(job.is_over for job in self.jobs):
                return
            for job in self.jobs:
                await self.drive(job)
            await self.send_due()
            await asyncio.sleep(_DUPLICATE_WINDOW / 4)
        states = {job.request.job_id: job.seen for job in self.jobs if not job.is_over}
        raise AssertionError(f"after {_ROUNDS} rounds these jobs are not over: {states}")

    async def _work_off(self) -> None:
        for answer in self.answers:
            if not answer.is_delivered:
                await self.deliver(answer)
        for _ in range(_ROUNDS):
            held, self.held = self.held, []
            lanes = await self.lanes()
            for task in held:
                await self.deliver(await self.make(task))
            for subject in lanes:
                await self._work(subject)
            if not held and not lanes:
                return
        raise AssertionError("tasks come without end")

    async def _work(self, subject: str) -> None:
        for pick, other in enumerate(await self.lanes()):
            if other == subject and (task := await self.pick_task(pick)) is not None:
                answer = await self.make(task)
                await self.world.take(task)
                await self.deliver(answer)
                return

    async def check_end(self) -> None:
        """Check that nothing is left of jobs that are over, nor of archives once no job has them."""
        for answer in self.answers:
            await self.deliver(answer)  # once more: it must change nothing
        await self.look()
        for job in self.jobs:
            if not job.is_deleted:
                await self._check_telling(job)
        await self.reconciler.drop_orphan_staging()
        world = self.world
        left = {
            spec.name: (await world.stream.stream_info(spec.name)).state.messages for spec in world.topology.streams[:3]
        }
        assert set(left.values()) == {0}, left
        keys = {each.key async for each in world.store.list_objects(world.bucket, prefix="")}
        assert keys == {row["key"] for row in await world.pool.fetch("SELECT key FROM archives")}
        for job in self.jobs:
            await self.delete(job)
        await self.look()
        await self.drop_archives()
        assert [each.key async for each in world.store.list_objects(world.bucket, prefix="")] == []
        for table in ("download_jobs", "download_job_files", "download_job_parts", "archives"):
            assert await world.pool.fetchval(f"SELECT count(*) FROM {table}") == 0
        info = await world.stream.stream_info(world.topology.events.name)
        assert info.state.messages == 0

    async def _check_telling(self, job: JobModel) -> None:
        """Whoever listens, and whoever asks the cache, knows how the job ended."""
        job_id, seen = job.request.job_id, job.seen
        assert seen is not None
        events = await self.world.events(job_id)
        last = max(events, key=lambda event: event.sequence)
        assert (last.sequence, last.status) == (seen.sequence, seen.status), job_id
        assert last.type.value == seen.status.value
        cached = await self.world.cache.get(job_id)
        assert cached is not None
        assert (cached.sequence, cached.status) == (seen.sequence, seen.status), job_id


def _read_by(task: Task) -> int | None:
    """Return an entry of which a task reads data, or a file's position if it prepares; None: it reads none."""
    if isinstance(task, PrepareTask):
        return task.ranges[-1].position
    assert isinstance(task, PartTask)
    read = [entry.index for entry in task.entries if entry.source is not None and entry.size]
    return read[-1] if read else None
