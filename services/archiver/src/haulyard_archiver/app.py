"""The archiver's composition root: builds everything, connects nothing until it is started."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from litestar import Litestar
from msgspec import structs

from haulyard_archiver import measures
from haulyard_archiver.memory import Budget
from haulyard_archiver.parts import PartMaker
from haulyard_archiver.preparing import Preparer
from haulyard_archiver.reading import PartError, surely
from haulyard_archiver.settings import ArchiverSettings
from haulyard_chassis.app import make_app
from haulyard_chassis.broker import Publisher, ensure_topology
from haulyard_chassis.consume import Intake, current_delivery, make_broker, stop_broker, subscribe
from haulyard_chassis.health import Health
from haulyard_chassis.logs import get_logger
from haulyard_chassis.origin import Origin, origin_session
from haulyard_chassis.sources_reading import Reader
from haulyard_chassis.store import ObjectStore
from haulyard_chassis.tracing import current_span
from haulyard_contracts import (
    ErrorCode,
    Failure,
    PartDone,
    PartFailed,
    PartTask,
    Phase,
    PrepareDone,
    PrepareTask,
    Result,
    Task,
    Topology,
    decode,
)

log = get_logger(__name__)


class _Worker:
    """Does tasks, and tells of what comes of them. Exists only while the service runs."""

    def __init__(
        self, store: ObjectStore, origin: Origin, publisher: Publisher, *, budget: Budget, readers: int
    ) -> None:
        reader = Reader(store, origin)
        self._maker = PartMaker(store, reader, budget=budget, readers=readers)
        self._preparer = Preparer(store, reader, budget=budget)
        self._store = store
        self._publisher = publisher

    async def do(self, task: Task, topology: Topology, trace: dict[str, str]) -> None:
        """Do a task and publish its result."""
        started = time.monotonic()
        result: Result
        try:
            result = await surely(lambda: self._once(task), self._store, task.bucket)
        except PartError as error:
            current_span().fail(error)
            log.warning("task failed", code=error.code, reason=str(error), attempt=task.attempt)
            result = failed(task, error)
        else:
            seconds = time.monotonic() - started
            result = structs.replace(result, seconds=seconds)
            log.info("task done", seconds=round(seconds, 3))
        measures.done(task.kind, result)
        await self.report(result, topology, trace)

    async def _once(self, task: Task) -> PartDone | PrepareDone:
        return await (self._part(task) if isinstance(task, PartTask) else self._preparation(task))

    async def _part(self, task: PartTask) -> PartDone:
        made = await self._maker.make(task)
        return PartDone(
            job_id=task.job_id,
            generation=task.generation,
            number=task.number,
            attempt=task.attempt,
            etag=made.etag,
            size=task.size,
            slices=made.slices,
            bytes_through=made.bytes_through,
            bytes_copied=made.bytes_copied,
            checksum=made.checksum,
            whole=task.upload_id is None,
            key=task.key if task.upload_id is None else None,
        )

    async def _preparation(self, task: PrepareTask) -> PrepareDone:
        prepared = await self._preparer.prepare(task)
        return PrepareDone(
            job_id=task.job_id,
            generation=task.generation,
            number=task.number,
            attempt=task.attempt,
            ranges=prepared.ranges,
            bytes_through=prepared.bytes_through,
        )

    async def report(self, result: Result, topology: Topology, trace: dict[str, str]) -> None:
        """Publish a result; the same one twice is one."""
        phase = result.phase if isinstance(result, PartFailed) else Phase.BUILD
        if isinstance(result, PrepareDone):
            phase = Phase.PREPARE
        outcome = "failed" if isinstance(result, PartFailed) else "done"
        number = f"p{result.number}" if phase is Phase.PREPARE else str(result.number)
        await self._publisher.publish(
            topology.result(result.job_id),
            result,
            message_id=f"{result.job_id}:{result.generation}:{number}:{result.attempt}:{outcome}",
            headers=trace,
        )


class _Runtime:
    """What exists only while the service runs; handlers are registered before."""

    worker: _Worker


def create_app(settings: ArchiverSettings) -> Litestar:
    """Return the application: health over HTTP, and the work over the broker while it runs."""
    topology = Topology(settings.namespace)
    store = ObjectStore(settings, connections=settings.archiver_slots * (settings.archiver_readers + 2))
    broker = make_broker(settings, name="haulyard-archiver")
    runtime = _Runtime()

    async def given_up(payload: bytes, reason: str) -> None:
        """A task that no archiver could settle must not leave its job waiting for ever."""
        task: Task = decode(payload, Task)
        error = PartError(ErrorCode.INTERNAL, f"{task.kind} {task.number}: {reason}")
        await runtime.worker.report(failed(task, error), topology, {})

    intake = Intake(
        consumers=topology.task_lanes,
        slots=settings.archiver_slots,
        patience=settings.archiver_lane_patience,
        on_dead=given_up,
    )

    @subscribe(broker, intake, Task, topology=topology, grace=settings.shutdown_grace)
    async def do_task(task: Task) -> None:
        structlog.contextvars.bind_contextvars(job_id=task.job_id, kind=task.kind, part=task.number)
        traced = current_span()
        traced.set("haulyard.job_id", task.job_id)
        traced.set("haulyard.kind", str(task.kind))
        traced.set("haulyard.part", task.number)
        await runtime.worker.do(task, topology, current_delivery().trace)

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await store.open()
            stack.push_async_callback(store.close)
            session = origin_session(settings.allowed_networks)
            stack.push_async_callback(session.close)
            client = await broker.connect()
            stack.push_async_callback(stop_broker, broker, client)
            await ensure_topology(client, topology, replicas=settings.nats_replicas)
            runtime.worker = _Worker(
                store,
                Origin(session),
                Publisher(client),
                budget=Budget(settings.archiver_memory_bytes),
                readers=settings.archiver_readers,
            )
            await broker.start()
            yield

    async def broker_answers() -> None:
        await broker.config.connection_state.connection.flush(timeout=1)

    async def store_answers() -> None:
        await store.head_bucket(settings.archive_bucket)

    return make_app(
        title="Haulyard archiver",
        description="Fills the parts of archives. It has no API of its own.",
        routes=[],
        health=Health(required={"broker": broker_answers}, reported={"store": store_answers}),
        lifespan=lifespan,
        metrics_enabled=settings.metrics_enabled,
        behind_tls=settings.behind_tls,
    )


def failed(task: Task, error: PartError) -> PartFailed:
    """Return the result that tells why a task could not be done."""
    return PartFailed(
        job_id=task.job_id,
        generation=task.generation,
        number=task.number,
        attempt=task.attempt,
        failure=Failure(code=error.code, message=str(error)),
        entry=error.entry,
        phase=Phase.PREPARE if isinstance(task, PrepareTask) else Phase.BUILD,
    )
