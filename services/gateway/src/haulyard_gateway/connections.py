"""The real things behind the ports, opened when the service starts and closed when it stops."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from nats.js import JetStreamContext
from redis.asyncio import Redis

from haulyard_chassis.broker import PUBLISH_TIMEOUT, Publisher, connect_broker, ensure_topology
from haulyard_chassis.database import Pool, connect_database, migrate
from haulyard_chassis.dead_letters import DeadLetters
from haulyard_chassis.health import Health
from haulyard_chassis.job_state import JobCache, JobState, connect_cache
from haulyard_chassis.logs import get_logger
from haulyard_chassis.origin import Origin, origin_session
from haulyard_chassis.sources_reading import Reader
from haulyard_chassis.store import ObjectStore, StoreError, StoreUnavailableError
from haulyard_chassis.tasks import cancel_and_wait
from haulyard_contracts import Topology
from haulyard_gateway.admin_records import Inspections
from haulyard_gateway.admission import RedisAdmission
from haulyard_gateway.archive_bytes import Archives, StreamLimits
from haulyard_gateway.archive_checksums import CHECKSUMS_AT_ONCE
from haulyard_gateway.archive_records import ArchiveRecords
from haulyard_gateway.catalogue import Catalogue
from haulyard_gateway.job_records import JobRecords
from haulyard_gateway.personal_data import PersonalDataRecords
from haulyard_gateway.ports import Ports
from haulyard_gateway.settings import GatewaySettings
from haulyard_gateway.tombstones import Tombstones
from haulyard_gateway.waiting import JobChanges
from haulyard_gateway.webhook_access import WebhookAccess

log = get_logger(__name__)

_NAME = "haulyard-gateway"
_STORE_RETRY = 5.0


@asynccontextmanager
async def connect(settings: GatewaySettings) -> AsyncIterator[Ports]:
    """Connect to everything: waits for NATS and PostgreSQL, and for nothing else."""
    topology = Topology(settings.namespace)
    broker = await connect_broker(settings, name=_NAME)
    try:
        await ensure_topology(broker, topology, replicas=settings.nats_replicas)
        pool = await connect_database(settings, name=_NAME)
        try:
            await migrate(pool)
            async with _cache(settings) as redis, _store(settings) as store, _archives(settings, pool) as archives:
                stream = broker.jetstream(timeout=PUBLISH_TIMEOUT)
                cache = JobCache(redis)
                yield Ports(
                    publisher=Publisher(broker),
                    state=JobState(cache, pool, stream, topology),
                    admission=RedisAdmission(redis, settings),
                    changes=JobChanges(broker, topology, most=settings.max_waiting),
                    records=JobRecords(pool),
                    tombstones=Tombstones(redis, cache),
                    catalogue=Catalogue(pool),
                    personal_data=PersonalDataRecords(pool),
                    dead_letters=DeadLetters(stream, Publisher(broker), topology),
                    inspections=Inspections(pool),
                    webhooks=WebhookAccess(pool),
                    store=store,
                    archives=archives,
                    health=_health(topology, stream, redis, pool, store, settings),
                )
        finally:
            pool.terminate()
    finally:
        await broker.close()


@asynccontextmanager
async def _cache(settings: GatewaySettings) -> AsyncIterator[Redis]:
    redis = connect_cache(settings.redis_url.get_secret_value())
    try:
        yield redis
    finally:
        await redis.aclose()


@asynccontextmanager
async def _store(settings: GatewaySettings) -> AsyncIterator[ObjectStore]:
    """The store, and in the background the bucket that takes uploads: a store that is away delays no start."""
    store = ObjectStore(settings)
    await store.open()
    preparing = asyncio.create_task(_prepare_bucket(store, settings), name="prepare files bucket")
    try:
        yield store
    finally:
        await cancel_and_wait(preparing)
        await store.close()


@asynccontextmanager
async def _archives(settings: GatewaySettings, pool: Pool) -> AsyncIterator[Archives]:
    """The bytes of archives, over connections of their own: streams take long, and must not be in others' way."""
    limits = StreamLimits(all=settings.archive_streams, each_user=settings.archive_streams_per_user)
    async with AsyncExitStack() as stack:
        store = ObjectStore(settings, connections=limits.all + CHECKSUMS_AT_ONCE)
        await store.open()
        stack.push_async_callback(store.close)
        session = origin_session(settings.allowed_networks)
        stack.push_async_callback(session.close)
        archives = Archives(ArchiveRecords(pool), store, Reader(store, Origin(session)), limits=limits)
        stack.push_async_callback(archives.close)
        yield archives


async def _prepare_bucket(store: ObjectStore, settings: GatewaySettings) -> None:
    bucket = settings.files_bucket
    while True:
        try:
            await store.ensure_bucket(bucket)
            if settings.cors_origins:
                await store.set_cors(bucket, origins=settings.cors_origins)
        except StoreUnavailableError as error:
            log.warning("store not there yet", error=str(error))
            await asyncio.sleep(_STORE_RETRY)
        except StoreError as error:
            # Keys that may read and write objects but not configure buckets are fine where an operator has done it.
            log.warning("files bucket cannot be prepared", bucket=bucket, error=str(error))
            return
        else:
            return


def _health(
    topology: Topology,
    stream: JetStreamContext,
    redis: Redis,
    pool: Pool,
    store: ObjectStore,
    settings: GatewaySettings,
) -> Health:
    async def broker_check() -> None:
        await stream.stream_info(topology.jobs.name)

    async def cache_check() -> None:
        await redis.ping()

    async def database_check() -> None:
        await pool.fetchval("SELECT 1")

    async def store_check() -> None:
        await store.head_bucket(settings.files_bucket)

    # A job is taken on by the broker or, while that is away, by the record: with one of them we serve.
    return Health(
        required={},
        either={"broker": broker_check, "database": database_check},
        reported={"cache": cache_check, "store": store_check},
    )
