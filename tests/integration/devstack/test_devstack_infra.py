"""The four servers for real: they keep what they acknowledged through a kill -9, and leave nothing behind."""

import os
import shutil
import socket
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx
import nats
import pytest
import redis.asyncio as redis
from miniopy_async.credentials.credentials import Credentials
from miniopy_async.signer import presign_v4

from haulyard_devstack import Infra
from haulyard_devstack.identity import start_ticks

REPOSITORY = Path(__file__).parents[3]
SERVERS = ["nats", "postgres", "valkey", "s3"]


@pytest.fixture(scope="module")
async def infra() -> AsyncIterator[Infra]:
    # A very deep directory with a blank in it: Unix sockets or careless quoting would fail here. Not under the system's
    # temporary directory, which may be in memory and refuse direct I/O.
    home = REPOSITORY / ".haulyard" / f"test-{uuid.uuid4().hex}"
    root = home / "a rather deep directory" / "/".join(["of-many-levels"] * 8) / "dev"
    async with Infra(
        root, env={}, cache=Path(os.environ.get("HAULYARD_CACHE") or REPOSITORY / ".haulyard/cache")
    ) as infra:
        yield infra
    shutil.rmtree(home)


@pytest.fixture(autouse=True)
async def everything_runs(infra: Infra) -> None:
    for name in SERVERS:
        await infra.start(name)


class Client:
    """Puts a value into one of the servers and gets it back."""

    def __init__(self, infra: Infra, server: str) -> None:
        self._env = infra.environment()
        self._server = server

    async def put(self, key: str, value: str) -> None:
        match self._server:
            case "nats":
                connection = await nats.connect(self._env["HAULYARD_NATS_URL"])
                stream = connection.jetstream()
                await stream.add_stream(name=key, subjects=[f"{key}.>"])
                await stream.publish(f"{key}.one", value.encode())
                await connection.close()
            case "postgres":
                record = await asyncpg.connect(self._env["HAULYARD_POSTGRES_DSN"])
                await record.execute("CREATE TABLE IF NOT EXISTS kept (key text PRIMARY KEY, value text)")
                await record.execute("INSERT INTO kept VALUES ($1, $2)", key, value)
                await record.close()
            case "valkey":
                async with redis.from_url(self._env["HAULYARD_REDIS_URL"], decode_responses=True) as cache:
                    await cache.set(key, value)
                    await cache.waitaof(1, 0, 5000)
            case _:
                await self._call("PUT", key)
                await self._call("PUT", f"{key}/one", value.encode())

    async def get(self, key: str) -> str:
        match self._server:
            case "nats":
                connection = await nats.connect(self._env["HAULYARD_NATS_URL"])
                message = await connection.jetstream().get_last_msg(key, f"{key}.one")
                await connection.close()
                return (message.data or b"").decode()
            case "postgres":
                record = await asyncpg.connect(self._env["HAULYARD_POSTGRES_DSN"])
                value = await record.fetchval("SELECT value FROM kept WHERE key = $1", key)
                await record.close()
                return str(value)
            case "valkey":
                async with redis.from_url(self._env["HAULYARD_REDIS_URL"], decode_responses=True) as cache:
                    return str(await cache.get(key))
            case _:
                return (await self._call("GET", f"{key}/one")).decode()

    async def _call(self, method: str, path: str, body: bytes = b"") -> bytes:
        url = presign_v4(
            method,
            urlsplit(f"{self._env['HAULYARD_S3_ENDPOINT']}/{path}"),
            self._env["HAULYARD_S3_REGION"],
            Credentials(self._env["HAULYARD_S3_ACCESS_KEY"], self._env["HAULYARD_S3_SECRET_KEY"]),
            datetime.now(UTC),
            60,
        ).geturl()
        async with httpx.AsyncClient(timeout=60) as client:
            answer = await client.request(method, url, content=body)
        assert answer.status_code == 200, answer.text
        return answer.content


@pytest.mark.parametrize("server", SERVERS)
async def test_data_and_address_survive_a_kill(infra: Infra, server: str) -> None:
    client, key = Client(infra, server), f"kill-{uuid.uuid4().hex[:8]}"
    await client.put(key, "kept")
    before = infra.environment()
    pids = [pid for name in infra.server_processes(server) for pid in infra.processes[name].members()]
    assert pids
    await infra.kill(server)
    assert [pid for pid in pids if start_ticks(pid) is not None] == []
    await infra.start(server)
    assert infra.environment() == before
    assert await client.get(key) == "kept"


@pytest.mark.parametrize("server", SERVERS)
async def test_data_survives_a_stop(infra: Infra, server: str) -> None:
    client, key = Client(infra, server), f"stop-{uuid.uuid4().hex[:8]}"
    await client.put(key, "kept")
    await infra.stop(server)
    await infra.start(server)
    assert await Client(infra, server).get(key) == "kept"


@pytest.mark.parametrize("server", SERVERS)
async def test_a_server_whose_port_was_taken_moves_and_keeps_its_data(infra: Infra, server: str) -> None:
    client, key = Client(infra, server), f"move-{uuid.uuid4().hex[:8]}"
    await client.put(key, "kept")
    before = infra.environment()
    address = infra.addresses()[server].removeprefix("http://").split("/")[0]
    await infra.stop(server)
    host, port = address.split(":")
    with socket.create_server((host, int(port))):
        await infra.start(server)
    assert infra.environment() != before
    assert await Client(infra, server).get(key) == "kept"


async def test_the_stores_monitor_moves_to_another_port_too(infra: Infra) -> None:
    client, key = Client(infra, "s3"), f"mon-{uuid.uuid4().hex[:8]}"
    await client.put(key, "kept")
    monitor_port = int((infra.root / "s3" / "mon-port").read_text())
    await infra.stop("s3")
    with socket.create_server(("127.0.0.1", monitor_port)):
        await infra.start("s3")
    assert int((infra.root / "s3" / "mon-port").read_text()) != monitor_port
    assert await Client(infra, "s3").get(key) == "kept"


async def test_a_paused_server_is_silent_and_answers_again_when_resumed(infra: Infra) -> None:
    cache = redis.from_url(infra.environment()["HAULYARD_REDIS_URL"], socket_timeout=0.3, retry=None)
    await cache.set("one", "1")
    await infra.pause("valkey")
    with pytest.raises(redis.TimeoutError):
        await cache.get("one")
    await infra.resume("valkey")
    assert await cache.get("one") == b"1"
    await cache.aclose()


async def test_a_server_that_ends_by_itself_is_reported_and_nothing_of_it_is_left(tmp_path: Path) -> None:
    ended: list[tuple[str, int]] = []
    given = dict.fromkeys(("HAULYARD_NATS_URL", "HAULYARD_S3_ENDPOINT", "HAULYARD_REDIS_URL"), "given")
    async with Infra(tmp_path / "dev", env=given, on_exit=lambda *news: ended.append(news)) as infra:
        postgres = infra.processes["postgres"]
        pids = postgres.members()
        assert len(pids) > 1
        os.kill(pids[0], 9)
        await postgres.ended()
        assert ended == [("postgres", -9)]
        await infra.start("postgres")  # its backends may still be on their way out
    assert [pid for pid in pids if start_ticks(pid) is not None] == []


async def test_when_one_server_cannot_start_the_others_are_stopped_and_its_log_is_named(tmp_path: Path) -> None:
    given = {"HAULYARD_S3_ENDPOINT": "given", "HAULYARD_POSTGRES_DSN": "given"}
    store = tmp_path / "dev" / "valkey" / "store"
    store.mkdir(parents=True)
    (store / "appendonlydir").write_text("not a directory")
    infra = Infra(tmp_path / "dev", env=given)
    with pytest.raises(Exception, match=r"valkey did not start(.|\n)*valkey\.log"):
        await infra.__aenter__()
    assert not any(process.running for process in infra.processes.values())
