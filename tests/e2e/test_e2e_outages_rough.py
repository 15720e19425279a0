"""The way to a server is slow, stands still, or breaks off, and the server knows nothing of it."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from urllib.parse import urlsplit, urlunsplit

import pytest

from haulyard_devstack import Stack
from support.client import ApiClient, members, sha256
from support.installation import make_installation
from support.outage import under_load
from support.rough_proxy import RoughProxy, rough_proxy
from support.services import running_services

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]

MIB = 1024 * 1024
RECOVERY = 90.0
ADDRESSES = {
    "nats": "HAULYARD_NATS_URL",
    "postgres": "HAULYARD_POSTGRES_DSN",
    "valkey": "HAULYARD_REDIS_URL",
    "s3": "HAULYARD_S3_ENDPOINT",
}

Ways = dict[str, RoughProxy]


@pytest.fixture(scope="module")
async def ways(addresses: dict[str, str]) -> AsyncIterator[Ways]:
    """A proxy before each server."""
    async with AsyncExitStack() as stack:
        found = {}
        for server, variable in ADDRESSES.items():
            target = urlsplit(addresses[variable])
            assert target.hostname is not None
            assert target.port is not None
            found[server] = await stack.enter_async_context(rough_proxy(target.hostname, target.port))
        yield found


@pytest.fixture(scope="module")
async def rough(
    addresses: dict[str, str], ways: Ways, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    """All services, which reach their servers on rough ways only."""
    installation = await make_installation(addresses)
    for server, proxy in ways.items():
        target = urlsplit(installation[ADDRESSES[server]])
        user = f"{target.netloc.rpartition('@')[0]}@" if "@" in target.netloc else ""
        installation[ADDRESSES[server]] = urlunsplit(target._replace(netloc=f"{user}{proxy.address}"))
    async with running_services(tmp_path_factory.mktemp("rough"), installation) as running:
        yield running


async def is_late(ways: Ways) -> None:
    """Everything is a fortieth of a second late, each way."""
    for proxy in ways.values():
        proxy.delay = 0.025
    await asyncio.sleep(3)
    for proxy in ways.values():
        proxy.delay = 0.0


async def stands_still(ways: Ways) -> None:
    """Nothing passes for five seconds, and no connection is closed."""
    for proxy in ways.values():
        proxy.stall()
    await asyncio.sleep(5)
    for proxy in ways.values():
        proxy.go_on()


async def breaks_off(ways: Ways) -> None:
    """All connections break, again and again."""
    broken = 0
    for _ in range(8):
        broken += sum(proxy.reset_all() for proxy in ways.values())
        await asyncio.sleep(0.4)
    assert broken > 0


@pytest.mark.parametrize("trouble", [is_late, stands_still, breaks_off])
async def test_jobs_get_through_on_a_rough_way(
    rough: Stack, ways: Ways, trouble: Callable[[Ways], Awaitable[None]]
) -> None:
    noise = random.Random(trouble.__name__)
    async with ApiClient(rough.api_url, rough.token(f"user-{secrets.token_hex(4)}")) as api:
        small = [await api.upload(f"{n}.bin", noise.randbytes(50_000)) for n in range(4)]
        data = noise.randbytes(40 * MIB)
        large = await api.upload("large.bin", data)
        async with under_load(api, small) as load:
            await load.more(4, within=RECOVERY)
            in_flight = await api.initiate(large, small[0])
            await trouble(ways)
            await load.more(8, within=RECOVERY)
        ends = [*load.ends, await load.wait(in_flight["job_id"])]
        assert [end["error"] for end in ends if end["status"] != "completed"] == []
        given_up = [file for end in ends for file in end["files"] if file.get("error")]
        assert given_up == [], "a job went on without a file"
        assert members(await api.download(in_flight["job_id"]))["large.bin"] == sha256(data)
