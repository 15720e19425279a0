"""The numbers by which archivers are scaled: what waits in each queue, and for how long."""

import math
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from nats.aio.client import Client

from haulyard_chassis.broker import PUBLISH_TIMEOUT, connect_broker, ensure_consumer, ensure_topology
from haulyard_chassis.job_state import connect_cache
from haulyard_chassis.metrics import REGISTRY
from haulyard_contracts import TaskKind, Topology
from haulyard_orchestrator.lookout import Lookout
from haulyard_orchestrator.settings import OrchestratorSettings

LANE = "archiver-lane-9"


def sample(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"haulyard_{name}", labels)


def queue(name: str) -> tuple[float | None, float | None]:
    return sample("queue_messages", queue=name, state="waiting"), sample("queue_messages", queue=name, state="taken")


@pytest.fixture
def topology() -> Topology:
    return Topology(f"l{secrets.token_hex(6)}")


@pytest.fixture
async def client(settings: OrchestratorSettings, topology: Topology) -> AsyncIterator[Client]:
    connected = await connect_broker(settings, name="test")
    await ensure_topology(connected, topology, replicas=1)
    yield connected
    if connected.is_closed:
        connected = await connect_broker(settings, name="test")
    for stream in topology.streams:
        await connected.jetstream().delete_stream(stream.name)
    await connected.close()


@pytest.fixture
async def lookout(settings: OrchestratorSettings, topology: Topology, client: Client) -> AsyncIterator[Lookout]:
    cache = connect_cache(settings.redis_url.get_secret_value())
    yield Lookout(client.jetstream(timeout=PUBLISH_TIMEOUT), cache, topology)
    await cache.aclose()


async def send(client: Client, topology: Topology, number: int) -> datetime:
    await client.jetstream().publish(topology.task(9, TaskKind.PUT, "job_1", 0, number), b"task")
    return datetime.now(UTC)


async def test_what_waits_is_seen_before_anybody_has_come_to_take_it(
    client: Client, topology: Topology, lookout: Lookout
) -> None:
    await lookout.look()
    assert queue(LANE) == (0, 0)
    assert sample("queue_oldest_seconds", queue=LANE) == 0
    first = await send(client, topology, 1)
    await send(client, topology, 2)
    await client.jetstream().publish(topology.dead(topology.tasks.name), b"letter")
    await lookout.look()
    assert queue(LANE) == (2, 0)
    assert queue("archiver-lane-1") == (0, 0)
    age = sample("queue_oldest_seconds", queue=LANE)
    assert age is not None
    assert 0 < age < (datetime.now(UTC) - first).total_seconds() + 60
    assert sample("dead_letters") == 1
    assert (sample("cache_memory_bytes") or 0) > 100_000


async def test_what_is_worked_on_waits_no_longer(client: Client, topology: Topology, lookout: Lookout) -> None:
    (spec,) = (each for each in topology.task_lanes if each.durable == LANE)
    await ensure_consumer(client.jetstream(), spec)
    for number in range(3):
        await send(client, topology, number)
    puller = await client.jetstream().pull_subscribe_bind(spec.durable, spec.stream)
    taken = await puller.fetch(2, timeout=30)
    await taken[0].ack_sync(timeout=30)
    await lookout.look()
    assert queue(LANE) == (1, 1)
    taken += await puller.fetch(1, timeout=30)
    await lookout.look()
    assert queue(LANE) == (0, 2)
    assert sample("queue_oldest_seconds", queue=LANE) == 0


async def test_nothing_is_told_while_nobody_answers(client: Client, lookout: Lookout) -> None:
    await lookout.look()
    await client.close()
    await lookout.look()
    assert queue(LANE) == (None, None)
    assert math.isnan(sample("dead_letters") or 0)


async def test_it_looks_until_it_is_stopped(client: Client, topology: Topology, lookout: Lookout) -> None:
    await lookout.stop()
    lookout.start()
    await lookout.stop()
