"""Requests that wait for a change, on a real broker and over real sockets."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest
from redis.asyncio import Redis

from haulyard_chassis.broker import Publisher, connect_broker
from haulyard_chassis.idempotency import derived_job_id, fingerprint
from haulyard_chassis.identity import mint_token
from haulyard_chassis.job_state import JobCache, queued_document
from haulyard_contracts import (
    ArchiveLocation,
    EventType,
    JobDocument,
    JobEvent,
    JobRequested,
    JobStatus,
    Topology,
)
from haulyard_gateway.waiting import JobChanges
from integration.gateway.conftest import cut
from integration.gateway.test_gateway_openapi import listening

if TYPE_CHECKING:
    from nats.aio.client import Client

    from haulyard_gateway.settings import GatewaySettings
    from integration.gateway.conftest import Wire

INITIATE = "/v1/download/initiate"


@pytest.fixture(scope="session")
async def broker(settings: GatewaySettings, infra_env: dict[str, str]) -> AsyncIterator[Client]:
    """A connection of the orchestrator's, which no test cuts."""
    url = type(settings.nats_url)(infra_env["HAULYARD_NATS_URL"])
    client = await connect_broker(settings.model_copy(update={"nats_url": url}), name="orchestrator")
    yield client
    await client.close()


class Orchestrator:
    """Changes jobs, as the real one does: first the cache, then the event."""

    def __init__(self, settings: GatewaySettings, broker: Client, redis: Redis) -> None:
        self._topology = Topology(settings.namespace)
        self._publisher = Publisher(broker)
        self._cache = JobCache(redis)

    async def change(self, job_id: str, **changes: Any) -> JobDocument:
        # On a busy machine the gateway may have gone on without the cache; the request says it all.
        document = await self._cache.get(job_id) or queued_document(
            JobRequested(job_id=job_id, user_id="alice", file_ids=(70000,), created_at=datetime.now(UTC))
        )
        values = {name: getattr(document, name) for name in document.__struct_fields__}
        values |= {"sequence": document.sequence + 1, "updated_at": datetime.now(UTC)}
        changed = JobDocument(**values | changes)
        await self._cache.put(changed)
        event = JobEvent(
            job_id=job_id,
            sequence=changed.sequence,
            type=EventType.PROGRESS,
            status=changed.status,
            progress=changed.progress,
            timestamp=changed.updated_at,
        )
        await self._publisher.publish(self._topology.event(job_id, event.type), event, message_id=event.id)
        return changed


@pytest.fixture
async def orchestrator(settings: GatewaySettings, broker: Client) -> AsyncIterator[Orchestrator]:
    async with Redis.from_url(settings.redis_url.get_secret_value()) as redis:
        yield Orchestrator(settings, broker, redis)


async def until_waiting(changes: JobChanges, number: int) -> None:
    async with asyncio.timeout(10):
        while changes.waiting != number:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


@asynccontextmanager
async def served(settings: GatewaySettings) -> AsyncIterator[tuple[httpx.AsyncClient, JobChanges]]:
    """A gateway on a port, a client of ``alice``, and those who wait."""
    assert settings.jwt_secret is not None
    token = mint_token(settings.jwt_secret.get_secret_value(), "alice")
    made: list[JobChanges] = []
    keep = JobChanges.__init__

    def remembered(self: JobChanges, *args: Any, **options: Any) -> None:
        keep(self, *args, **options)
        made.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JobChanges, "__init__", remembered)
        async with (
            listening(settings) as url,
            httpx.AsyncClient(
                base_url=url, headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=30
            ) as client,
        ):
            yield client, made[0]


async def new_job(client: httpx.AsyncClient) -> str:
    answer = await client.post(INITIATE, json={"file_ids": [70000]})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


async def test_whoever_waits_hears_of_the_next_change(settings: GatewaySettings, orchestrator: Orchestrator) -> None:
    async with served(settings) as (client, changes):
        job_id = await new_job(client)
        path = f"/v1/jobs/{job_id}/status"
        etag = (await client.get(path)).headers["etag"]
        waiting = [
            asyncio.create_task(client.get(f"{path}?wait=25", headers={"If-None-Match": etag})) for _ in range(20)
        ]
        await until_waiting(changes, 20)
        changed = await orchestrator.change(job_id, status=JobStatus.PROCESSING)
        for answer in await asyncio.gather(*waiting):
            assert (answer.status_code, answer.json()["sequence"]) == (200, changed.sequence)
        assert changes.waiting == 0


async def test_no_change_is_missed_however_they_come(settings: GatewaySettings, orchestrator: Orchestrator) -> None:
    async with served(settings) as (client, _):
        job_id = await new_job(client)
        seen = [1]

        async def follow() -> None:
            while seen[-1] < 30:
                answer = await client.get(f"/v1/jobs/{job_id}/status?wait=25&since={seen[-1]}")
                seen.append(answer.json()["sequence"])

        following = asyncio.create_task(follow())
        for _ in range(29):
            await orchestrator.change(job_id, status=JobStatus.PROCESSING)
        async with asyncio.timeout(20):
            await following
        assert seen == sorted(set(seen))


async def test_a_client_that_goes_waits_no_longer(settings: GatewaySettings) -> None:
    async with served(settings) as (client, changes):
        job_id = await new_job(client)
        parts = urlsplit(str(client.base_url))
        _, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(
            f"GET /v1/jobs/{job_id}/status?wait=25 HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: {client.headers['authorization']}\r\n\r\n".encode()
        )
        await writer.drain()
        await until_waiting(changes, 1)
        writer.close()
        await until_waiting(changes, 0)


async def test_so_many_may_wait_and_no_more(settings: GatewaySettings, orchestrator: Orchestrator) -> None:
    async with served(settings.model_copy(update={"max_waiting": 2})) as (client, changes):
        job_id = await new_job(client)
        path = f"/v1/jobs/{job_id}/status?wait=25&since=1"
        waiting = [asyncio.create_task(client.get(path)) for _ in range(2)]
        await until_waiting(changes, 2)
        answer = await client.get(path)
        assert (answer.json()["sequence"], answer.headers["retry-after"]) == (1, "2")
        await orchestrator.change(job_id)
        assert {answer.json()["sequence"] for answer in await asyncio.gather(*waiting)} == {2}


async def test_nobody_waits_for_a_service_that_stops(settings: GatewaySettings, orchestrator: Orchestrator) -> None:
    async with served(settings) as (client, changes):
        job_id = await new_job(client)
        path = f"/v1/jobs/{job_id}/status?wait=25&since=1"
        waiting = [asyncio.create_task(client.get(path)) for _ in range(3)]
        await until_waiting(changes, 3)
        await changes.end_all()
        assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}
        assert (await client.get(path)).json()["sequence"] == 1
        assert changes.waiting == 0
        await orchestrator.change(job_id)
        assert (await client.get(f"/v1/jobs/{job_id}/status")).json()["sequence"] == 2


async def test_without_the_broker_nobody_waits(settings: GatewaySettings, wires: dict[str, Wire]) -> None:
    async with served(settings) as (client, changes):
        job_id = await new_job(client)
        async with cut(wires["nats"]):
            async with asyncio.timeout(20):
                while (await client.get("/health/ready")).json()["checks"]["broker"] == "ok":  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.05)
            answer = await client.get(f"/v1/jobs/{job_id}/status?wait=25&since=1")
            assert (answer.status_code, answer.json()["sequence"]) == (200, 1)
        assert changes.waiting == 0


async def test_start_answers_with_the_archive_when_it_is_there(
    settings: GatewaySettings, orchestrator: Orchestrator
) -> None:
    async with served(settings) as (client, changes):
        body, key = {"file_id": 70000}, secrets.token_hex(8)
        # With a key, the job's id can be told beforehand.
        job_id = derived_job_id("alice", key, fingerprint("start", body), datetime.now(UTC))
        headers = {"Idempotency-Key": key}
        started = asyncio.create_task(client.post("/v1/download/start", json=body, headers=headers))
        await until_waiting(changes, 1)
        await orchestrator.change(job_id, status=JobStatus.PROCESSING)
        archive = ArchiveLocation(bucket=settings.archive_bucket, key="x.zip")
        await orchestrator.change(job_id, status=JobStatus.COMPLETED, archive=archive, size_bytes=22)
        answer = await started
        assert answer.status_code == 200, answer.text
        assert answer.json()["job_id"] == job_id
        assert answer.headers["deprecation"].startswith("@")
