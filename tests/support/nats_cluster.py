"""A broker of three servers for a test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from haulyard_devstack.nats_cluster import NatsCluster
from haulyard_devstack.server import Place


@asynccontextmanager
async def running_cluster(root: Path) -> AsyncIterator[NatsCluster]:
    """Run it with its data under ``root``."""
    cluster = NatsCluster(Place(root, root / "cache"))
    await cluster.start()
    try:
        yield cluster
    finally:
        await cluster.stop()
