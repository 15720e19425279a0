"""Three brokers are one: what one of them acknowledged survives it."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest
from nats.js import JetStreamContext
from nats.js.api import StreamConfig

from haulyard_devstack.nats_cluster import NatsCluster, render_node
from support.nats_cluster import running_cluster

pytestmark = pytest.mark.fault


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[NatsCluster]:
    async with running_cluster(tmp_path) as running:
        yield running


async def is_stored(stream: JetStreamContext, subject: str, payload: bytes) -> bool:
    """Publish the one message of these bytes; whether it was acknowledged."""
    try:
        await stream.publish(subject, payload, headers={"Nats-Msg-Id": payload.decode()}, timeout=1)
    except (nats.errors.Error, nats.js.errors.Error):
        return False
    return True


async def test_a_stream_outlives_the_server_that_leads_it(cluster: NatsCluster) -> None:
    environment = cluster.environment()
    assert environment["HAULYARD_NATS_REPLICAS"] == "3"
    client = await nats.connect(environment["HAULYARD_NATS_URL"].split(","), max_reconnect_attempts=-1)
    try:
        stream, name = client.jetstream(timeout=10), uuid.uuid4().hex
        await stream.add_stream(StreamConfig(name=name, subjects=[name], num_replicas=3))
        await stream.publish(name, b"before")
        info = await stream.stream_info(name)
        assert info.cluster is not None
        leader = info.cluster.leader
        assert leader in cluster.nodes
        await cluster.kill_node(leader)
        assert not cluster.processes[leader].running
        async with asyncio.timeout(60):
            while not await is_stored(stream, name, b"after"):  # noqa: ASYNC110 - the others elect another leader
                await asyncio.sleep(0.2)
        await cluster.start_node(leader)
        assert (await stream.get_msg(name, 1)).data == b"before"
        assert (await stream.get_msg(name, 2)).data == b"after"
    finally:
        await client.close()


def test_a_server_has_routes_to_the_others_only() -> None:
    config = render_node(
        node="nats-1",
        port=1,
        monitor_port=2,
        route_port=3,
        routes=[3, 4, 5],
        store_dir="/data/nats-1",
        password="secret",
    )
    assert 'routes: ["nats://haulyard:secret@127.0.0.1:4", "nats://haulyard:secret@127.0.0.1:5"]' in config
    assert 'listen: "127.0.0.1:3"' in config
