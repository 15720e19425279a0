"""The orchestrator's composition root: builds everything, connects nothing until it is started."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import structlog
from litestar import Litestar

from haulyard_chassis.app import make_app
from haulyard_chassis.broker import PUBLISH_TIMEOUT, TRACEPARENT, Publisher, ensure_topology
from haulyard_chassis.consume import Intake, RetryLater, current_delivery, make_broker, subscribe
from haulyard_chassis.database import connect_database, migrate
from haulyard_chassis.health import Health
from haulyard_chassis.job_state import JobCache, connect_cache
from haulyard_chassis.logs import get_logger
from haulyard_chassis.store import ObjectStore, StoreError, StoreUnavailableError
from haulyard_contracts import (
    ErrorCode,
    Failure,
    JobControl,
    JobRequested,
    PartDone,
    PartFailed,
    Topology,
    decode,
)
from haulyard_orchestrator.jobs import Jobs, Rules
from haulyard_orchestrator.patience import patiently
from haulyard_orchestrator.reconciler import Intervals, Reconciler
from haulyard_orchestrator.retry import RetryPolicy
from haulyard_orchestrator.settings import OrchestratorSettings
from haulyard_orchestrator.sources import Sources

log = get_logger(__name__)

_CONTROL_SLOTS = 16
_ABORT_UPLOAD_DAYS = 1


class _Runtime:
    """What exists only while the service runs."""

    jobs: Jobs


def create_app(settings: OrchestratorSettings) -> Litestar:
    """Return the application: health over HTTP, and the work over the broker while it runs."""
    topology = Topology(settings.namespace)
    store = ObjectStore(settings, connections=settings.planning_slots * settings.source_lookups)
    cache = connect_cache(settings.redis_url.get_secret_value())
    broker = make_broker(settings, name="haulyard-orchestrator")
    policy = RetryPolicy(attempts=settings.job_attempts, first_delay=settings.retry_seconds)
    runtime = _Runtime()

    async def request_given_up(payload: bytes, reason: str) -> None:
        request = decode(payload, JobRequested)
        message = f"The job could not be planned: {reason}"
        await runtime.jobs.refuse(request, Failure(code=ErrorCode.INTERNAL, message=message), traceparent=None)

    requests = Intake(consumers=(topology.requests_consumer,), slots=settings.planning_slots, on_dead=request_given_up)
    controls = Intake(consumers=(topology.control_consumer,), slots=_CONTROL_SLOTS)
    results = Intake(consumers=(topology.results_consumer,), slots=settings.result_slots)
    grace = settings.shutdown_grace

    @subscribe(broker, requests, JobRequested, topology=topology, grace=grace)
    async def plan_job(request: JobRequested) -> None:
        structlog.contextvars.bind_contextvars(job_id=request.job_id)
        delivery = current_delivery()
        traceparent = delivery.headers.get(TRACEPARENT)
        try:
            await patiently(lambda: runtime.jobs.accept(request, traceparent=traceparent))
        except StoreUnavailableError as error:
            if delivery.number < policy.attempts:
                raise RetryLater(str(error), delay=policy.first_delay * 2.0 ** (delivery.number - 1)) from error
            failure = Failure(code=ErrorCode.STORE_UNAVAILABLE, message=f"The store does not answer: {error}")
            await patiently(lambda: runtime.jobs.refuse(request, failure, traceparent=traceparent))

    @subscribe(broker, controls, JobControl, topology=topology, grace=grace)
    async def control_job(control: JobControl) -> None:
        structlog.contextvars.bind_contextvars(job_id=control.job_id)
        await patiently(lambda: runtime.jobs.cancel(control.job_id))

    @subscribe(broker, results, PartDone | PartFailed, topology=topology, grace=grace)
    async def take_result(result: PartDone | PartFailed) -> None:
        structlog.contextvars.bind_contextvars(job_id=result.job_id)
        if isinstance(result, PartDone):
            await patiently(lambda: runtime.jobs.part_done(result))
        else:
            await patiently(lambda: runtime.jobs.part_failed(result))

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await store.open()
            stack.push_async_callback(store.close)
            stack.push_async_callback(cache.aclose)
            pool = await connect_database(settings, name="haulyard-orchestrator")
            stack.push_async_callback(pool.close)
            await migrate(pool)
            client = await broker.connect()
            stack.push_async_callback(broker.stop)
            await ensure_topology(client, topology, replicas=settings.nats_replicas)
            await patiently_prepare(store, settings)
            runtime.jobs = Jobs(
                pool=pool,
                store=store,
                publisher=Publisher(client),
                stream=client.jetstream(timeout=PUBLISH_TIMEOUT),
                cache=JobCache(cache),
                topology=topology,
                sources=Sources(pool, store, lookups=settings.source_lookups),
                rules=Rules(
                    bucket=settings.archive_bucket,
                    limits=settings.limits,
                    retry=policy,
                    keep=timedelta(days=settings.archive_days),
                ),
            )
            reconciler = Reconciler(
                jobs=runtime.jobs,
                pool=pool,
                store=store,
                bucket=settings.archive_bucket,
                intervals=Intervals(stale_after=settings.stale_seconds, orphan_after=settings.orphan_upload_seconds),
            )
            health.required = {
                "broker": lambda: client.flush(timeout=1),
                "database": lambda: pool.execute("SELECT 1"),
            }
            await broker.start()
            reconciler.start()
            stack.push_async_callback(reconciler.stop)
            log.info("ready")
            yield

    health = Health(
        required={}, reported={"cache": cache.ping, "store": lambda: store.head_bucket(settings.archive_bucket)}
    )
    return make_app(
        title="Haulyard orchestrator",
        description="Owns the jobs. It has no API of its own.",
        routes=[],
        health=health,
        lifespan=lifespan,
    )


async def patiently_prepare(store: ObjectStore, settings: OrchestratorSettings) -> None:
    """Create the buckets and their rules; a store that refuses a rule still takes archives."""

    async def buckets() -> None:
        for bucket in (settings.archive_bucket, settings.files_bucket):
            await store.ensure_bucket(bucket)

    await buckets()
    origins = [origin.strip() for origin in settings.cors_origins.split(",") if origin.strip()]
    try:
        for bucket in (settings.archive_bucket, settings.files_bucket):
            await store.set_cors(bucket, origins=origins)
        await store.set_lifecycle(
            settings.archive_bucket, expire_days=settings.archive_days, abort_upload_days=_ABORT_UPLOAD_DAYS
        )
    except StoreError as error:
        log.warning("store does not take bucket rules", error=str(error))
