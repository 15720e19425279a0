"""The composition root: builds the notifier and wires it together; connects only when the application starts."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from faststream.nats import NatsBroker
from litestar import Litestar
from nats.aio.client import Client
from redis.asyncio import Redis

from haulyard_chassis.app import make_app
from haulyard_chassis.broker import PUBLISH_TIMEOUT, connect_broker, ensure_topology
from haulyard_chassis.consume import Intake, make_broker, stop_broker, subscribe
from haulyard_chassis.database import Pool, open_pool
from haulyard_chassis.draining import on_termination
from haulyard_chassis.egress import egress_session
from haulyard_chassis.health import Health
from haulyard_chassis.job_state import JobCache, JobState, connect_cache
from haulyard_chassis.jwks import make_tickets, make_verifier
from haulyard_chassis.store import ObjectStore
from haulyard_chassis.webhook_records import valid_secrets
from haulyard_contracts import ArchiveLocation, JobEvent, Topology
from haulyard_notifier.background import in_background
from haulyard_notifier.live.access import Access
from haulyard_notifier.live.desk import LiveDesk, open_desk
from haulyard_notifier.live.event_stream import job_events
from haulyard_notifier.live.hub import Hub
from haulyard_notifier.live.presence import Presence
from haulyard_notifier.live.sources import NatsEvents
from haulyard_notifier.live.websocket import JobSockets
from haulyard_notifier.settings import NotifierSettings
from haulyard_notifier.webhooks.deliveries import Deliveries
from haulyard_notifier.webhooks.hosts import Hosts
from haulyard_notifier.webhooks.intake import WebhookIntake
from haulyard_notifier.webhooks.sender import SenderSettings, WebhookSender
from haulyard_notifier.webhooks.signature import signing_key

_NAME = "haulyard-notifier"

_DESCRIPTION = """
Follow a job while it happens: server-sent events here, or the same messages on the WebSocket `/ws/jobs/{job_id}`.
Both take `?ticket=…` (from the API's answer to a request) or an `Authorization: Bearer …` header.
"""


@dataclass
class _Connections:
    """What the health checks ask; None until the application has started."""

    nats: Client | None = None
    cache: Redis | None = None
    pool: Pool | None = None
    hub: Hub | None = None

    def health(self) -> Health:
        return Health(
            required={"nats": self._nats, "staying": self._staying},
            reported={"cache": self._cache, "database": self._database},
        )

    async def _staying(self) -> None:
        if self.hub is not None and self.hub.is_closed:
            raise ConnectionError("about to stop")

    async def _nats(self) -> None:
        if self.nats is None or not self.nats.is_connected:
            raise ConnectionError("not connected")
        await self.nats.flush(1)

    async def _cache(self) -> None:
        if self.cache is None:
            raise ConnectionError("not connected")
        await self.cache.ping()

    async def _database(self) -> None:
        if self.pool is None:
            raise ConnectionError("not connected")
        await self.pool.fetchval("SELECT 1")


def create_app(settings: NotifierSettings) -> Litestar:
    """Return the notifier's application; starting it connects it."""
    connections = _Connections()

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await _start(app, settings, connections, stack)
            yield

    app = make_app(
        title="Haulyard notifier",
        description=_DESCRIPTION,
        routes=[job_events],
        health=connections.health(),
        lifespan=lifespan,
        cors_origins=settings.cors_origins,
        metrics_enabled=settings.metrics_enabled,
        behind_tls=settings.behind_tls,
    )
    app.asgi_handler = JobSockets(app.asgi_handler, app)
    return app


async def _start(app: Litestar, settings: NotifierSettings, connections: _Connections, stack: AsyncExitStack) -> None:
    """Connect everything; ``stack`` takes it down again in the opposite order."""
    hub: Hub | None = None

    async def reconnected() -> None:
        if hub is not None:
            hub.refresh_all()

    topology = Topology(settings.namespace)
    store = ObjectStore(settings)  # never opened: signing a link asks nobody
    connections.cache = cache = connect_cache(settings.redis_url.get_secret_value())
    stack.push_async_callback(cache.aclose)
    connections.pool = pool = await open_pool(settings, name=_NAME, lazily=True)
    stack.callback(pool.terminate)
    connections.nats = client = await connect_broker(settings, name=_NAME, on_reconnect=reconnected)
    stack.push_async_callback(client.close)
    await ensure_topology(client, topology, replicas=settings.nats_replicas)

    state = JobState(JobCache(cache), pool, client.jetstream(timeout=PUBLISH_TIMEOUT), topology)
    connections.hub = hub = Hub(
        NatsEvents(client, topology),
        state.read,
        interval=1 / settings.max_updates_per_second,
        most_of_user=settings.user_connections,
        most_of_job=settings.job_connections,
    )
    stack.push_async_callback(hub.close)
    presence = Presence(cache)
    stack.push_async_callback(presence.farewell)
    await stack.enter_async_context(in_background(presence.run(), name="presence"))
    verifier = make_verifier(settings)
    stack.push_async_callback(verifier.close)
    open_desk(
        app,
        LiveDesk(
            hub=hub,
            access=Access(verifier, make_tickets(settings)),
            presence=presence,
            store=store,
            download_expires=settings.download_expires,
            heartbeat=settings.heartbeat,
        ),
    )
    await _start_webhooks(settings, topology, pool, store, stack)
    stack.enter_context(on_termination(partial(hub.end_all, within=settings.drain)))


async def _start_webhooks(
    settings: NotifierSettings, topology: Topology, pool: Pool, store: ObjectStore, stack: AsyncExitStack
) -> None:
    def link(archive: ArchiveLocation, filename: str) -> str:
        return store.presign_get(archive.bucket, archive.key, expires=settings.download_expires, filename=filename)

    session = await stack.enter_async_context(
        egress_session(networks=settings.allowed_networks, timeout=settings.webhook_timeout)
    )
    deliveries = Deliveries(pool)
    sender = WebhookSender(
        deliveries,
        Hosts(pool),
        partial(valid_secrets, pool),
        session,
        link,
        SenderSettings(
            slots=settings.webhook_slots,
            timeout=settings.webhook_timeout,
            networks=settings.allowed_networks,
            key=signing_key(settings.webhook_secret.get_secret_value()) if settings.webhook_secret else None,
        ),
    )
    sender.start()
    stack.push_async_callback(sender.stop, settings.shutdown_grace)
    intake = WebhookIntake(deliveries, sender.wake)
    broker: NatsBroker = make_broker(settings, name=f"{_NAME}-webhooks")
    subscribe(
        broker,
        Intake(consumers=(topology.webhooks_consumer,), slots=settings.webhook_slots),
        JobEvent,
        topology=topology,
        grace=settings.shutdown_grace,
    )(intake.handle)
    client = await broker.connect()
    stack.push_async_callback(stop_broker, broker, client)
    stack.callback(intake.stop)
    await broker.start()
