"""A connection that was lost comes back: over servers that were found out, and after having been refused."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from nats.aio.client import Client

from haulyard_chassis.broker import connect_broker
from haulyard_chassis.consume import make_broker
from haulyard_chassis.settings import ServiceSettings
from haulyard_devstack.nats import NatsServer
from haulyard_devstack.nats_cluster import NatsCluster
from haulyard_devstack.server import Place
from support.nats_cluster import running_cluster

pytestmark = pytest.mark.fault

WITHIN = 60.0
"""Seconds in which a client has to be connected again."""

Connect = Callable[[ServiceSettings], Coroutine[Any, Any, Client]]


async def by_itself(settings: ServiceSettings) -> Client:
    return await connect_broker(settings, name="test")


async def under_faststream(settings: ServiceSettings) -> Client:
    return await make_broker(settings, name="test").connect()


both = pytest.mark.parametrize("connect", [by_itself, under_faststream])


async def wait_until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN):
        while not true():  # noqa: ASYNC110 - the client has no event for it
            await asyncio.sleep(0.05)


def is_elsewhere(client: Client, url: str) -> bool:
    """Whether the client is connected, and not to this server."""
    now = client.connected_url  # of a client that is connected, otherwise None
    return now is not None and now.port != urlsplit(url).port


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[NatsCluster]:
    async with running_cluster(tmp_path) as running:
        yield running


@both
async def test_a_client_that_was_told_of_one_server_goes_on_with_another(
    settings: ServiceSettings, cluster: NatsCluster, connect: Connect
) -> None:
    first = cluster.environment()["HAULYARD_NATS_URL"].split(",")[0]
    client = await connect(settings.model_copy(update={"nats_url": type(settings.nats_url)(first)}))
    try:
        await wait_until(lambda: len(client.discovered_servers) > 1)
        await cluster.kill_node(cluster.nodes[0])
        await wait_until(lambda: is_elsewhere(client, first))
        await client.flush()
    finally:
        await client.close()


# The client leaves the connection of each attempt that was refused to the collector of garbage.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <function StreamWriter.__del__")
@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
@both
async def test_a_client_that_was_refused_tries_again(
    settings: ServiceSettings, tmp_path: Path, connect: Connect
) -> None:
    server = NatsServer(Place(tmp_path / "right", tmp_path / "cache"))
    await server.start()
    url = server.environment()["HAULYARD_NATS_URL"]
    client = await connect(settings.model_copy(update={"nats_url": type(settings.nats_url)(url)}))
    try:
        await server.stop()
        other = with_another_password(server, tmp_path / "wrong")
        await other.start()
        log_file = other.place.log_file(other.name)
        try:
            assert other.address == server.address
            await wait_until(lambda: "authentication error" in log_file.read_text())
        finally:
            await other.stop()
        await server.start()
        await wait_until(lambda: client.is_connected)
        await client.flush()
    finally:
        await client.close()
        await server.stop()


def with_another_password(server: NatsServer, home: Path) -> NatsServer:
    """Return a server for the same port, to be started while the first is stopped."""
    place = Place(home, server.place.cache)
    kept = (server.data / "remembered.json").read_text()
    (place.data(server.name) / "remembered.json").write_text(kept.replace(server.kept.secret("password"), "wrong"))
    return NatsServer(place)
