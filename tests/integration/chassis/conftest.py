"""Connections to the real servers, each test in a namespace of its own."""

import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from haulyard_chassis.broker import PUBLISH_TIMEOUT, Publisher, connect_broker, ensure_topology
from haulyard_chassis.settings import ServiceSettings
from haulyard_contracts import Topology
from haulyard_devstack import Infra


@pytest.fixture
def embedded(infra: Infra | None) -> Infra:
    """The embedded servers, which a test may stop and kill; with others it is skipped."""
    if infra is None or "nats" not in infra.names:
        pytest.skip("only the embedded broker may be stopped")
    return infra


@pytest.fixture
def settings(infra_env: dict[str, str]) -> ServiceSettings:
    """Settings of a service, with a namespace that no other test has."""
    values: dict[str, Any] = {name.removeprefix("HAULYARD_").lower(): value for name, value in infra_env.items()}
    known = {name: value for name, value in values.items() if name in ServiceSettings.model_fields}
    return ServiceSettings(**{**known, "namespace": f"c{secrets.token_hex(6)}"})


@pytest.fixture
def topology(settings: ServiceSettings) -> Topology:
    """The names of this test."""
    return Topology(settings.namespace)


@pytest.fixture
async def client(settings: ServiceSettings, topology: Topology) -> AsyncIterator[Client]:
    """A connection to the broker, on which all streams exist; they are removed afterwards."""
    connected = await connect_broker(settings, name="test")
    await ensure_topology(connected, topology, replicas=1)
    yield connected
    for stream in topology.streams:
        await connected.jetstream().delete_stream(stream.name)
    await connected.close()


@pytest.fixture
def stream(client: Client) -> JetStreamContext:
    """The JetStream API."""
    return client.jetstream(timeout=PUBLISH_TIMEOUT)


@pytest.fixture
def publisher(client: Client) -> Publisher:
    """Publishes as services do."""
    return Publisher(client)
