"""An orchestrator without its loops: every step is called by the test, on real servers."""

import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from nats.aio.client import Client
from nats.js import JetStreamContext

from haulyard_archiver.app import failed
from haulyard_archiver.memory import Budget
from haulyard_archiver.parts import PartMaker
from haulyard_archiver.preparing import Preparer
from haulyard_archiver.reading import PartError
from haulyard_chassis.broker import Publisher, connect_broker, ensure_topology
from haulyard_chassis.database import Pool, connect_database, migrate
from haulyard_chassis.egress import LOOPBACK, check_url
from haulyard_chassis.job_state import JobCache, connect_cache, load_document
from haulyard_chassis.origin import Origin, origin_session
from haulyard_chassis.sources_reading import Reader
from haulyard_chassis.store import ObjectStore, PendingUpload
from haulyard_chassis.store_profile import probe
from haulyard_contracts import (
    JobDocument,
    JobEvent,
    JobRequested,
    PartDone,
    PartFailed,
    PartTask,
    PrepareDone,
    PrepareTask,
    Result,
    Task,
    Topology,
    decode,
)
from haulyard_orchestrator.dispatch import Window
from haulyard_orchestrator.jobs import Jobs
from haulyard_orchestrator.planner import Rules
from haulyard_orchestrator.preparing import Blocks
from haulyard_orchestrator.retry import RetryPolicy
from haulyard_orchestrator.settings import OrchestratorSettings
from haulyard_orchestrator.sources import Sources
from haulyard_zipline import Limits

MIB = 1024 * 1024
LIMITS = Limits(packed_part=10 * MIB, body_part=6 * MIB, single_put=1 * MIB)
"""Small, so that a few megabytes already make many parts; the store asks for 5 MiB."""


@dataclass
class World:
    """Everything a job touches."""

    jobs: Jobs
    rules: Rules
    make_jobs: Callable[..., Jobs]
    """Makes an orchestrator whose rules differ."""
    pool: Pool
    store: ObjectStore
    origin: Origin
    client: Client
    stream: JetStreamContext
    topology: Topology
    cache: JobCache
    bucket: str
    files_bucket: str
    contents: dict[int, bytes] = field(default_factory=dict)

    @contextmanager
    def other_rules(self, **changes: Any) -> Iterator[None]:
        """Let another orchestrator go on."""
        before, self.jobs = self.jobs, self.make_jobs(**changes)
        try:
            yield
        finally:
            self.jobs = before

    async def add_url(self, url: str, *, name: str, owner: str | None = "user") -> int:
        """Register a source that is not in the store."""
        file_id: int = await self.pool.fetchval(
            "INSERT INTO files (owner_id, url, name) VALUES ($1, $2, $3) RETURNING id", owner, url, name
        )
        return file_id

    async def add_file(
        self,
        data: bytes,
        *,
        name: str | None = None,
        owner: str | None = "user",
        crc32: int | None = None,
        is_believed: bool = False,
    ) -> int:
        """Put an object into the store and register it.

        Args:
            data: what it holds.
            name: in archives.
            owner: whose it is; None: everybody's.
            crc32: what the catalogue has, right or wrong.
            is_believed: let the catalogue know the object, so that planning does not look at it.
        """
        key = secrets.token_hex(8)
        etag = await self.store.put(self.files_bucket, key, data, size=len(data), content_type="text/plain")
        file_id: int = await self.pool.fetchval(
            "INSERT INTO files (owner_id, bucket, key, name, crc32, crc32_etag) VALUES ($1, $2, $3, $4, $5, $6)"
            " RETURNING id",
            owner,
            self.files_bucket,
            key,
            name or f"{key}.bin",
            crc32,
            (await self.store.head(self.files_bucket, key)).etag if crc32 is not None else None,
        )
        assert etag
        self.contents[file_id] = data
        if is_believed:
            info = await self.store.head(self.files_bucket, key)
            await self.pool.execute(
                "UPDATE files SET size_bytes = $2, etag = $3, modified_at = $4 WHERE id = $1",
                file_id,
                info.size,
                info.etag,
                info.modified,
            )
        return file_id

    async def replace_file(self, file_id: int, data: bytes) -> None:
        """Put another object where a file's was; the catalogue is not told."""
        key = await self.key_of(file_id)
        await self.store.put(self.files_bucket, key, data, size=len(data), content_type="text/plain")
        self.contents[file_id] = data

    async def key_of(self, file_id: int) -> str:
        return str(await self.pool.fetchval("SELECT key FROM files WHERE id = $1", file_id))

    async def request(self, *file_ids: int, user: str = "user", priority: int = 5, **wishes: Any) -> JobRequested:
        """Accept a job, as if its message had come."""
        request = JobRequested(
            job_id=f"job_{secrets.token_hex(8)}",
            user_id=user,
            file_ids=file_ids,
            created_at=datetime.now(UTC),
            priority=priority,
            **wishes,
        )
        await self.jobs.accept(request, traceparent=None)
        return request

    async def tasks(self, job_id: str) -> list[Task]:
        """Return the tasks of a job that are in the lanes now, without taking them out."""
        info = await self.stream.stream_info(self.topology.tasks.name, subjects_filter=self.topology.tasks_of(job_id))
        found = []
        for subject in info.state.subjects or {}:
            message = await self.stream.get_last_msg(self.topology.tasks.name, subject)
            found.append(decode(message.data or b"", Task))
        return sorted(found, key=lambda task: task.number)

    async def parts(self, job_id: str) -> list[PartTask]:
        """Return those that make parts."""
        return [task for task in await self.tasks(job_id) if isinstance(task, PartTask)]

    async def take(self, task: Task) -> None:
        """Take a task out of its lane, as its acknowledgement does."""
        subject = f"{self.topology.namespace}.tasks.*.{task.kind}.{task.job_id}.{task.generation}.{task.number}"
        await self.stream.purge_stream(self.topology.tasks.name, subject=subject)

    async def make(self, task: Task) -> Result:
        """Do a task as an archiver does, and return its result."""
        reader, budget = Reader(self.store, self.origin), Budget(64 * MIB)
        common: dict[str, Any] = {
            "job_id": task.job_id,
            "generation": task.generation,
            "number": task.number,
            "attempt": task.attempt,
        }
        try:
            if isinstance(task, PrepareTask):
                prepared = await Preparer(self.store, reader, budget=budget).prepare(task)
                return PrepareDone(**common, ranges=prepared.ranges, bytes_through=prepared.bytes_through)
            made = await PartMaker(self.store, reader, budget=budget, readers=4).make(task)
        except PartError as error:
            return failed(task, error)
        return PartDone(
            **common,
            etag=made.etag,
            size=task.size,
            slices=made.slices,
            bytes_through=made.bytes_through,
            bytes_copied=made.bytes_copied,
            checksum=made.checksum,
            whole=task.upload_id is None,
            key=task.key if task.upload_id is None else None,
        )

    async def report(self, result: Result) -> None:
        match result:
            case PartDone():
                await self.jobs.part_done(result)
            case PrepareDone():
                await self.jobs.preparation_done(result)
            case PartFailed():
                await self.jobs.part_failed(result)

    async def work(self, job_id: str) -> list[Result]:
        """Make and report what is in the lanes until nothing is left."""
        results: list[Result] = []
        while tasks := await self.tasks(job_id):
            for task in tasks:
                result = await self.make(task)
                results.append(result)
                await self.take(task)
                await self.report(result)
        return results

    async def document(self, job_id: str) -> JobDocument:
        async with self.pool.acquire() as connection:
            document = await load_document(connection, job_id)
        assert document is not None
        return document

    async def archive(self, job_id: str) -> bytes:
        location = (await self.document(job_id)).archive
        assert location is not None
        return await self.store.get(location.bucket, location.key)

    async def events(self, job_id: str) -> list[JobEvent]:
        """Return the events of a job in the order of the stream."""
        subscription = await self.stream.subscribe(
            self.topology.events_of(job_id), stream=self.topology.events.name, ordered_consumer=True
        )
        info = await self.stream.stream_info(self.topology.events.name, subjects_filter=self.topology.events_of(job_id))
        count = sum((info.state.subjects or {}).values())
        events = [decode((await subscription.next_msg(timeout=5)).data, JobEvent) for _ in range(count)]
        await subscription.unsubscribe()
        return events

    async def pending(self, job_id: str) -> list[PendingUpload]:
        """Return the multipart uploads of a job that are still open."""
        key = await self.pool.fetchval("SELECT archive_key FROM download_jobs WHERE id = $1", job_id)
        return await self.store.pending_uploads(self.bucket, prefix=key or "none")

    async def uploads(self, job_id: str) -> list[str]:
        """Return their keys."""
        return [upload.key for upload in await self.pending(job_id)]

    async def staged(self, job_id: str) -> list[str]:
        """Return the staging objects of a job."""
        return [each.key async for each in self.store.list_objects(self.bucket, prefix=f"staging/{job_id}/")]


@asynccontextmanager
async def open_world(settings: OrchestratorSettings) -> AsyncIterator[World]:
    """Connect to real servers, as an orchestrator does when it starts.

    Args:
        settings: of an installation in which no orchestrator runs.
    """
    topology = Topology(settings.namespace)
    async with AsyncExitStack() as stack:
        store = ObjectStore(settings)
        await store.open()
        stack.push_async_callback(store.close)
        for bucket in (settings.archive_bucket, settings.files_bucket):
            await store.ensure_bucket(bucket)
        pool = await connect_database(settings, name="test")
        stack.push_async_callback(pool.close)
        await migrate(pool)
        client = await connect_broker(settings, name="test")
        stack.push_async_callback(client.close)
        await ensure_topology(client, topology, replicas=1)
        redis = connect_cache(settings.redis_url.get_secret_value())
        stack.push_async_callback(redis.aclose)
        stream = client.jetstream(timeout=5)
        session = origin_session(LOOPBACK)
        stack.push_async_callback(session.close)
        origin = Origin(session)
        cache = JobCache(redis)
        rules = Rules(
            bucket=settings.archive_bucket,
            files_bucket=settings.files_bucket,
            limits=LIMITS,
            retry=RetryPolicy(attempts=3, first_delay=0.001),
            keep=timedelta(days=7),
            store=await probe(store, settings.archive_bucket),
            window=Window(),
            blocks=Blocks(deflate=12 * MIB, digest=6 * MIB),
        )

        def make_jobs(**changes: Any) -> Jobs:
            return Jobs(
                pool=pool,
                store=store,
                publisher=Publisher(client),
                stream=stream,
                cache=cache,
                topology=topology,
                sources=Sources(
                    pool, store, origin, check_url=lambda url: check_url(url, networks=LOOPBACK), lookups=8
                ),
                rules=replace(rules, **changes),
            )

        yield World(
            jobs=make_jobs(),
            rules=rules,
            make_jobs=make_jobs,
            pool=pool,
            store=store,
            origin=origin,
            client=client,
            stream=stream,
            topology=topology,
            cache=cache,
            bucket=settings.archive_bucket,
            files_bucket=settings.files_bucket,
        )
