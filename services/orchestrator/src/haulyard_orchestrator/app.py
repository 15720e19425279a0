"""The orchestrator's composition root: builds everything, connects nothing until it is started."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta

from litestar import Litestar

from haulyard_chassis.app import make_app
from haulyard_chassis.broker import PUBLISH_TIMEOUT, Publisher, ensure_topology
from haulyard_chassis.consume import make_broker, stop_broker
from haulyard_chassis.database import close_pool, connect_database, migrate
from haulyard_chassis.health import Health
from haulyard_chassis.job_state import JobCache, connect_cache
from haulyard_chassis.logs import get_logger
from haulyard_chassis.origin import Origin, check_source_url, origin_session
from haulyard_chassis.store import ObjectStore, StoreError, StoreUnavailableError
from haulyard_chassis.store_profile import StoreProfile, probe
from haulyard_contracts import Topology
from haulyard_orchestrator.dispatch import Window
from haulyard_orchestrator.handlers import Runtime, register_handlers
from haulyard_orchestrator.jobs import Jobs
from haulyard_orchestrator.lookout import Lookout
from haulyard_orchestrator.planner import Rules
from haulyard_orchestrator.preparing import Blocks
from haulyard_orchestrator.reconciler import Intervals, Reconciler
from haulyard_orchestrator.retry import RetryPolicy
from haulyard_orchestrator.settings import OrchestratorSettings
from haulyard_orchestrator.sources import Sources

log = get_logger(__name__)

_ABORT_UPLOAD_DAYS = 1
_DAY = 86_400.0
_RETRY = 1.0


def create_app(settings: OrchestratorSettings) -> Litestar:
    """Return the application: health over HTTP, and the work over the broker while it runs."""
    topology = Topology(settings.namespace)
    store = ObjectStore(settings, connections=settings.planning_slots * settings.source_lookups)
    cache = connect_cache(settings.redis_url.get_secret_value())
    broker = make_broker(settings, name="haulyard-orchestrator")
    policy = RetryPolicy(attempts=settings.job_attempts, first_delay=settings.retry_seconds)
    runtime = Runtime()
    register_handlers(broker, runtime, settings=settings, topology=topology, policy=policy)

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await store.open()
            stack.push_async_callback(store.close)
            stack.push_async_callback(cache.aclose)
            pool = await connect_database(settings, name="haulyard-orchestrator")
            stack.push_async_callback(close_pool, pool)
            await migrate(pool)
            session = origin_session(settings.allowed_networks)
            stack.push_async_callback(session.close)
            client = await broker.connect()
            stack.push_async_callback(stop_broker, broker, client)
            await ensure_topology(client, topology, replicas=settings.nats_replicas)
            await _prepare_buckets(store, settings)
            profile = await _probe(store, settings.archive_bucket)
            runtime.jobs = Jobs(
                pool=pool,
                store=store,
                publisher=Publisher(client),
                stream=client.jetstream(timeout=PUBLISH_TIMEOUT),
                cache=JobCache(cache),
                topology=topology,
                sources=Sources(
                    pool,
                    store,
                    Origin(session),
                    check_url=lambda url: check_source_url(url, settings.source_hosts, settings.allowed_networks),
                    lookups=settings.source_lookups,
                ),
                rules=Rules(
                    bucket=settings.archive_bucket,
                    files_bucket=settings.files_bucket,
                    limits=replace(settings.limits, equal_parts=profile.equal_parts),
                    retry=policy,
                    keep=timedelta(days=settings.archive_days),
                    store=profile,
                    window=Window(per_user=settings.tasks_per_user, per_job=settings.tasks_per_job),
                    blocks=Blocks(deflate=settings.deflate_block_bytes),
                    reuse=settings.reuse_archives,
                ),
            )
            reconciler = Reconciler(
                jobs=runtime.jobs,
                pool=pool,
                store=store,
                bucket=settings.archive_bucket,
                intervals=Intervals(
                    stale_after=settings.stale_seconds,
                    upload_check=settings.orphan_upload_seconds / 6,
                    orphan_after=settings.orphan_upload_seconds,
                    job_timeout=settings.job_timeout_seconds,
                    record_keep=settings.record_days * _DAY,
                ),
            )
            health.required = {
                "broker": lambda: client.flush(timeout=1),
                "database": lambda: pool.execute("SELECT 1"),
            }
            lookout = Lookout(client.jetstream(timeout=PUBLISH_TIMEOUT), cache, topology)
            await broker.start()
            lookout.start()
            stack.push_async_callback(lookout.stop)
            reconciler.start()
            stack.push_async_callback(reconciler.stop)
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
        metrics_enabled=settings.metrics_enabled,
        behind_tls=settings.behind_tls,
    )


async def _prepare_buckets(store: ObjectStore, settings: OrchestratorSettings) -> None:
    """Create the buckets, and the rules for archives; a store that refuses a rule still takes archives.

    The rules of the files bucket are the gateway's: two that set them would each undo the other's. The store deletes an
    archive a day after we should have: it is the second net.
    """
    while True:
        try:
            for bucket in (settings.archive_bucket, settings.files_bucket):
                await store.ensure_bucket(bucket)
            break
        except StoreUnavailableError as error:
            log.warning("store not there yet", error=str(error))
            await asyncio.sleep(_RETRY)
    try:
        await store.set_cors(settings.archive_bucket, origins=settings.store_cors_origins)
        await store.set_lifecycle(
            settings.archive_bucket, expire_days=settings.archive_days + 1, abort_upload_days=_ABORT_UPLOAD_DAYS
        )
    except StoreError as error:
        log.warning("store does not take bucket rules", error=str(error))


async def _probe(store: ObjectStore, bucket: str) -> StoreProfile:
    """Find out what the store can do, waiting until it answers."""
    while True:
        try:
            profile = await probe(store, bucket)
        except StoreUnavailableError as error:
            log.warning("store not there yet", error=str(error))
            await asyncio.sleep(_RETRY)
        else:
            log.info("store probed", **profile.describe())
            return profile
