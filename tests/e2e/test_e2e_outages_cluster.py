"""A broker of three servers loses the one that leads, in the middle of jobs."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator

import nats
import pytest

from haulyard_contracts import Topology
from haulyard_devstack import Stack
from haulyard_devstack.nats_cluster import NatsCluster
from support.client import ApiClient, members, sha256
from support.installation import make_installation
from support.nats_cluster import running_cluster
from support.outage import under_load
from support.services import running_services

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]

MIB = 1024 * 1024
RECOVERY = 90.0
"""Seconds in which jobs have to go on once another server leads."""


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NatsCluster]:
    async with running_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="module")
async def clustered(
    addresses: dict[str, str], cluster: NatsCluster, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    installation = await make_installation({**addresses, **cluster.environment()})
    async with running_services(tmp_path_factory.mktemp("clustered"), installation) as running:
        yield running


async def leader_of(stack: Stack, cluster: NatsCluster) -> str:
    """Return the server that leads the stream of tasks."""
    client = await nats.connect(cluster.environment()["HAULYARD_NATS_URL"].split(","))
    try:
        namespace = stack.processes["gateway"].command.env["HAULYARD_NAMESPACE"]
        info = await client.jetstream(timeout=10).stream_info(Topology(namespace).tasks.name)
    finally:
        await client.close()
    assert info.config.num_replicas == 3
    assert info.cluster is not None
    assert info.cluster.leader is not None
    return info.cluster.leader


async def test_jobs_go_on_when_the_leading_server_dies(clustered: Stack, cluster: NatsCluster) -> None:
    noise = random.Random("cluster")
    async with ApiClient(clustered.api_url, clustered.token(f"user-{secrets.token_hex(4)}")) as api:
        small = [await api.upload(f"{n}.bin", noise.randbytes(50_000)) for n in range(4)]
        data = noise.randbytes(40 * MIB)
        large = await api.upload("large.bin", data)
        async with under_load(api, small) as load:
            await load.more(4, within=RECOVERY)
            in_flight = await api.initiate(large, small[0])
            await api.wait_for_bytes(in_flight["job_id"], 1)
            leader = await leader_of(clustered, cluster)
            await cluster.kill_node(leader)
            await load.more(8, within=RECOVERY)
            async with asyncio.timeout(RECOVERY):
                await cluster.start_node(leader)
            await load.more(4, within=RECOVERY)
        assert {end["status"] for end in load.ends} == {"completed"}
        assert (await load.wait(in_flight["job_id"]))["status"] == "completed"
        assert members(await api.download(in_flight["job_id"]))["large.bin"] == sha256(data)
