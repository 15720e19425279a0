"""The archiver's composition root: builds everything, connects nothing until it is started."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from litestar import Litestar

from haulyard_archiver.parts import PartError, PartMaker
from haulyard_archiver.settings import ArchiverSettings
from haulyard_chassis.app import make_app
from haulyard_chassis.broker import Publisher, ensure_topology
from haulyard_chassis.consume import Intake, current_delivery, make_broker, subscribe
from haulyard_chassis.health import Health
from haulyard_chassis.logs import get_logger
from haulyard_chassis.store import ObjectStore
from haulyard_contracts import ErrorCode, Failure, PartDone, PartFailed, PartTask, Topology, decode

log = get_logger(__name__)


class _Runtime:
    """What exists only while the service runs."""

    publisher: Publisher


def create_app(settings: ArchiverSettings) -> Litestar:
    """Return the application: health over HTTP, and the work over the broker while it runs."""
    topology = Topology(settings.namespace)
    store = ObjectStore(settings, connections=settings.archiver_slots * (settings.archiver_readers + 1))
    maker = PartMaker(store, readers=settings.archiver_readers)
    broker = make_broker(settings, name="haulyard-archiver")
    runtime = _Runtime()

    async def report(task: PartTask, result: PartDone | PartFailed, trace: dict[str, str]) -> None:
        outcome = "done" if isinstance(result, PartDone) else "failed"
        await runtime.publisher.publish(
            topology.result(task.job_id),
            result,
            message_id=f"{task.job_id}:{task.generation}:{task.number}:{task.attempt}:{outcome}",
            headers=trace,
        )

    async def given_up(payload: bytes, reason: str) -> None:
        """A task that no archiver could settle must not leave its job waiting for ever."""
        task = decode(payload, PartTask)
        await report(task, _failed(task, PartError(ErrorCode.INTERNAL, f"part {task.number}: {reason}")), {})

    intake = Intake(consumers=topology.task_lanes, slots=settings.archiver_slots, on_dead=given_up)

    @subscribe(broker, intake, PartTask, topology=topology, grace=settings.shutdown_grace)
    async def make_part(task: PartTask) -> None:
        structlog.contextvars.bind_contextvars(job_id=task.job_id, part=task.number)
        trace = current_delivery().trace
        started = time.monotonic()
        try:
            made = await maker.make(task)
        except PartError as error:
            log.warning("part failed", code=error.code, reason=str(error), attempt=task.attempt)
            await report(task, _failed(task, error), trace)
            return
        seconds = time.monotonic() - started
        log.info("part done", bytes=task.size, seconds=round(seconds, 3))
        done = PartDone(
            job_id=task.job_id,
            generation=task.generation,
            number=task.number,
            attempt=task.attempt,
            etag=made.etag,
            size=task.size,
            slices=made.slices,
            bytes_through=made.bytes_through,
            seconds=seconds,
        )
        await report(task, done, trace)

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        await store.open()
        try:
            client = await broker.connect()
            await ensure_topology(client, topology, replicas=settings.nats_replicas)
            runtime.publisher = Publisher(client)
            await broker.start()
            yield
        finally:
            await broker.stop()
            await store.close()

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
    )


def _failed(task: PartTask, error: PartError) -> PartFailed:
    return PartFailed(
        job_id=task.job_id,
        generation=task.generation,
        number=task.number,
        attempt=task.attempt,
        failure=Failure(code=error.code, message=str(error)),
        entry=error.entry,
    )
