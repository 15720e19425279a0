"""The gateway on the real things: what it leaves in each of them, and what it answers while one is away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import aiohttp
import asyncpg
import nats
import pytest
from redis.asyncio import Redis

from haulyard_chassis.identity import mint_token
from haulyard_chassis.job_state import JobCache
from haulyard_chassis.store import ObjectStore
from haulyard_chassis.uploads import upload_folder
from haulyard_contracts import ArchiveLocation, JobRequested, JobStatus, Topology, decode
from integration.gateway.conftest import cut

if TYPE_CHECKING:
    import httpx

    from haulyard_gateway.settings import GatewaySettings
    from integration.gateway.conftest import Serve, Wire

INITIATE = "/v1/download/initiate"


@pytest.fixture(scope="session")
async def store(settings: GatewaySettings) -> AsyncIterator[ObjectStore]:
    found = ObjectStore(settings)
    await found.open()
    await found.ensure_bucket(settings.files_bucket)
    await found.ensure_bucket(settings.archive_bucket)
    yield found
    await found.close()


@pytest.fixture(scope="session")
async def redis(infra_env: dict[str, str]) -> AsyncIterator[Redis]:
    client = Redis.from_url(infra_env["HAULYARD_REDIS_URL"])
    yield client
    await client.aclose()


async def until(client: httpx.AsyncClient, path: str, status: int) -> httpx.Response:
    """Ask until the answer has this status: connections come back when their client tries again."""
    async with asyncio.timeout(30):
        while (answer := await client.get(path)).status_code != status:  # noqa: ASYNC110 - nothing tells us
            await asyncio.sleep(0.1)
    return answer


async def initiate(gateway: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await gateway.post(INITIATE, json={"file_ids": [70000, 70001], **body})


async def cached_job(gateway: httpx.AsyncClient) -> str:
    """Make a job whose state is in the cache; after an outage that is not asked for a moment."""
    async with asyncio.timeout(30):
        while "warning" in (answer := await initiate(gateway)).headers:  # noqa: ASYNC110 - nothing tells us
            await asyncio.sleep(0.1)
    return str(answer.json()["job_id"])


async def test_a_job_is_in_the_broker_and_in_the_cache(
    gateway: httpx.AsyncClient, infra_env: dict[str, str], redis: Redis
) -> None:
    await cached_job(gateway)
    answer = await initiate(gateway, priority=8)
    assert answer.status_code == 202, answer.text
    assert "warning" not in answer.headers
    job_id = answer.json()["job_id"]
    topology = Topology(infra_env["HAULYARD_NAMESPACE"])
    broker = await nats.connect(infra_env["HAULYARD_NATS_URL"])
    message = await broker.jetstream().get_last_msg(topology.jobs.name, topology.job_requested(8, job_id))
    await broker.close()
    request = decode(message.data or b"", JobRequested)
    assert (request.job_id, request.user_id, request.file_ids) == (job_id, "alice", (70000, 70001))
    assert message.headers is not None
    assert message.headers["Nats-Msg-Id"] == job_id
    assert message.headers["traceparent"].startswith("00-")
    cached = await redis.hgetall(f"job:{job_id}")
    assert cached[b"status"] == b"queued"
    assert json.loads(cached[b"file_ids"]) == [70000, 70001]
    assert 0 < await redis.ttl(f"job:{job_id}") <= 7 * 86_400


async def test_the_status_of_a_new_job_is_read_back(gateway: httpx.AsyncClient) -> None:
    accepted = (await initiate(gateway)).json()
    body = (await gateway.get(f"/v1/jobs/{accepted['job_id']}/status")).json()
    assert (body["status"], body["created_at"]) == ("queued", accepted["created_at"])
    assert [file["file_id"] for file in body["files"]] == [70000, 70001]
    assert body["filename"] == f"download_{accepted['job_id']}.zip"


async def test_jobs_are_their_users_own(gateway: httpx.AsyncClient, settings: GatewaySettings) -> None:
    assert settings.jwt_secret is not None
    path = f"/v1/jobs/{(await initiate(gateway)).json()['job_id']}/status"
    assert (await gateway.get(path)).status_code == 200
    bob = {"Authorization": f"Bearer {mint_token(settings.jwt_secret.get_secret_value(), 'bob')}"}
    assert (await gateway.get(path, headers=bob)).status_code == 404


async def test_without_the_cache_jobs_are_accepted_and_seen(gateway: httpx.AsyncClient, wires: dict[str, Wire]) -> None:
    async with cut(wires["redis"]):
        answer = await initiate(gateway)
        assert answer.status_code == 202
        assert "warning" in answer.headers
        path = f"/v1/jobs/{answer.json()['job_id']}/status"
        answer = await gateway.get(path)
        assert (answer.status_code, answer.json()["status"]) == (200, "queued")
        assert "warning" in answer.headers
        assert (await gateway.get("/health/ready")).status_code == 200
    assert (await gateway.get(path)).json()["status"] == "queued"


async def test_a_gateway_comes_up_while_the_cache_is_away(settings: GatewaySettings, serving: Serve) -> None:
    nowhere = settings.model_copy(update={"redis_url": type(settings.redis_url)("redis://127.0.0.1:1/0")})
    async with serving(nowhere) as client:
        assert (await initiate(client)).status_code == 202
        checks = (await client.get("/health/ready")).json()["checks"]
        assert (checks["broker"], checks["database"], checks["store"]) == ("ok", "ok", "ok")
        assert checks["cache"] != "ok"


async def test_without_the_database_jobs_are_accepted_and_seen(
    gateway: httpx.AsyncClient, wires: dict[str, Wire]
) -> None:
    async with cut(wires["postgres"]):
        answer = await initiate(gateway)
        assert answer.status_code == 202
        assert (await gateway.get(f"/v1/jobs/{answer.json()['job_id']}/status")).status_code == 200
        assert (await gateway.get("/v1/files/70000")).status_code == 503
        unknown = "job_01KC8ZB0J0W8G3R5Q2T7V9X4ZZ"
        assert (await gateway.get(f"/v1/jobs/{unknown}/status")).status_code == 503
    await until(gateway, f"/v1/jobs/{unknown}/status", 404)


async def until_ok(gateway: httpx.AsyncClient, check: str) -> None:
    """Wait until the gateway reaches a server again."""
    async with asyncio.timeout(20):
        while (await gateway.get("/health/ready")).json()["checks"][check] != "ok":  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.1)


async def test_without_the_broker_jobs_wait_in_the_record(
    gateway: httpx.AsyncClient, wires: dict[str, Wire], infra_env: dict[str, str]
) -> None:
    known = await cached_job(gateway)
    async with cut(wires["nats"]):
        answer = await initiate(gateway, webhook_url="https://example.com/cb", compression="deflate")
        assert answer.status_code == 202
        assert "the broker is away" in answer.headers["warning"]
        parked = answer.json()["job_id"]
        database = await asyncpg.connect(infra_env["HAULYARD_POSTGRES_DSN"])
        job = await database.fetchrow(
            "SELECT user_id, status, total_files, webhook_url, compression FROM download_jobs WHERE id = $1", parked
        )
        files = await database.fetch(
            "SELECT file_id FROM download_job_files WHERE job_id = $1 ORDER BY position", parked
        )
        await database.close()
        assert job is not None
        assert tuple(job) == ("alice", "queued", 2, "https://example.com/cb", "deflate")
        assert [row["file_id"] for row in files] == [70000, 70001]
        assert (await gateway.get(f"/v1/jobs/{parked}/status")).json()["status"] == "queued"
        started = await gateway.post("/v1/download/start", json={"file_ids": [70000]})
        assert started.status_code == 202
        wish = await gateway.post(f"/v1/jobs/{known}/cancel")
        assert wish.status_code == 503
        assert int(wish.headers["retry-after"]) > 0
        ready = await gateway.get("/health/ready")
        assert (ready.status_code, ready.json()["checks"]["broker"]) == (200, "unavailable")
        assert (await gateway.get(f"/v1/jobs/{known}/status")).status_code == 200
        async with cut(wires["postgres"]):
            assert (await gateway.get("/health/ready")).status_code == 503
    await until_ok(gateway, "broker")
    assert (await initiate(gateway)).status_code == 202


async def test_a_file_is_uploaded_by_its_link_and_found(gateway: httpx.AsyncClient, store: ObjectStore) -> None:
    created = await gateway.post("/v1/files", json={"name": "fotos/año nuevo.jpg"})
    assert created.status_code == 201, created.text
    body = created.json()
    path = f"/v1/files/{body['file_id']}"
    assert created.headers["location"].endswith(path)
    assert (await gateway.get(path)).json()["status"] == "pending"
    async with (
        aiohttp.ClientSession() as session,
        session.put(
            body["upload"]["url"], data=b"hello world", headers={"Origin": "https://app.example.com"}
        ) as answer,
    ):
        assert answer.status == 200, await answer.text()
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
    found = (await gateway.get(path)).json()
    assert (found["status"], found["size_bytes"], found["name"]) == ("available", 11, "fotos/año nuevo.jpg")
    bucket, _, key = found["source"].removeprefix("s3://").partition("/")
    assert found["etag"] == (await store.head(bucket, key)).etag


async def test_an_object_that_is_there_is_registered(
    gateway: httpx.AsyncClient, store: ObjectStore, settings: GatewaySettings, infra_env: dict[str, str]
) -> None:
    key = "reports/año 2025 #1?.pdf"
    etag = await store.put(settings.files_bucket, key, b"12345", size=5, content_type="application/pdf")
    answer = await gateway.post("/v1/files", json={"source": f"s3://{settings.files_bucket}/{key}"})
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert (body["name"], body["size_bytes"], body["etag"]) == ("año 2025 #1?.pdf", 5, etag)
    database = await asyncpg.connect(infra_env["HAULYARD_POSTGRES_DSN"])
    row = await database.fetchrow("SELECT owner_id, bucket, key FROM files WHERE id = $1", body["file_id"])
    shared = await database.fetchval(
        "INSERT INTO files (bucket, key, name, size_bytes, etag) VALUES ('b', 'k', 'n', 1, 'e') RETURNING id"
    )
    foreign = await database.fetchval(
        "INSERT INTO files (owner_id, bucket, key, name) VALUES ('bob', 'b', 'k', 'n') RETURNING id"
    )
    await database.close()
    assert row is not None
    assert tuple(row) == ("alice", settings.files_bucket, key)
    assert (await gateway.get(f"/v1/files/{shared}")).json()["status"] == "available"
    assert (await gateway.get(f"/v1/files/{foreign}")).status_code == 404


async def test_what_may_not_be_registered(
    gateway: httpx.AsyncClient, store: ObjectStore, settings: GatewaySettings
) -> None:
    bucket = settings.files_bucket
    theirs = f"{upload_folder('bob')}x"
    await store.put(bucket, theirs, b"x", size=1, content_type="text/plain")
    for source in (
        f"{bucket}/{theirs}",
        f"{bucket}/nothing",
        f"{settings.archive_bucket}/x",
        f"{bucket}/a/../{theirs}",
    ):
        answer = await gateway.post("/v1/files", json={"source": f"s3://{source}"})
        assert answer.status_code == 400, source
        assert answer.json()["errors"][0]["pointer"] == "#/source"


async def test_a_finished_archive_is_downloaded_by_its_link(
    gateway: httpx.AsyncClient, store: ObjectStore, settings: GatewaySettings, redis: Redis
) -> None:
    job_id = (await initiate(gateway, filename="año.zip")).json()["job_id"]
    cache = JobCache(redis)
    queued = await cache.get(job_id)
    assert queued is not None
    archive = ArchiveLocation(bucket=settings.archive_bucket, key=f"{job_id}.zip")
    await store.put(archive.bucket, archive.key, b"PK\x05\x06", size=4, content_type="application/zip")
    now = datetime.now(UTC)
    fields = {name: getattr(queued, name) for name in queued.__struct_fields__}
    changes = {"status": JobStatus.COMPLETED, "sequence": 9, "archive": archive, "size_bytes": 4, "completed_at": now}
    assert (await gateway.get(f"/v1/jobs/{job_id}/download")).status_code == 409
    await cache.put(type(queued)(**fields | changes | {"expires_at": now + timedelta(days=7)}))
    answer = await gateway.get(f"/v1/jobs/{job_id}/download")
    assert answer.status_code == 200, answer.text
    async with aiohttp.ClientSession() as session, session.get(answer.json()["download_url"]) as download:
        assert (download.status, await download.read()) == (200, b"PK\x05\x06")
        assert "filename*=UTF-8''a%C3%B1o.zip" in download.headers["Content-Disposition"]
