"""Limits and idempotency keys, counted in a real Valkey by requests that come at once."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import nats
import pytest
from redis.asyncio import Redis

from haulyard_chassis.identity import mint_token
from haulyard_chassis.job_state import JobCache
from haulyard_chassis.limits import CacheGate, active_jobs_key
from haulyard_contracts import JobStatus, Topology
from integration.gateway.conftest import cut

if TYPE_CHECKING:
    import httpx

    from haulyard_gateway.settings import GatewaySettings
    from integration.gateway.conftest import Serve, Wire

INITIATE = "/v1/download/initiate"
BODY = {"file_ids": [70000, 70001]}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for Redis on a busy machine: what is counted here is what it has counted."""
    monkeypatch.setattr("haulyard_gateway.admission.CacheGate", partial(CacheGate, patience=5.0))


@pytest.fixture
def user() -> str:
    """Somebody of whom nothing has been counted."""
    return f"user-{secrets.token_hex(6)}"


@pytest.fixture
def as_user(settings: GatewaySettings, user: str) -> dict[str, str]:
    assert settings.jwt_secret is not None
    return {"Authorization": f"Bearer {mint_token(settings.jwt_secret.get_secret_value(), user)}"}


def limited(settings: GatewaySettings, **limits: int) -> GatewaySettings:
    return settings.model_copy(update=limits)


async def post_at_once(
    client: httpx.AsyncClient, times: int, headers: dict[str, str], bodies: list[dict[str, Any]] | None = None
) -> list[httpx.Response]:
    chosen = bodies or [BODY]
    return await asyncio.gather(
        *(client.post(INITIATE, json=chosen[n % len(chosen)], headers=headers) for n in range(times))
    )


async def requests_in_broker(infra_env: dict[str, str], job_id: str) -> int:
    topology = Topology(infra_env["HAULYARD_NAMESPACE"])
    broker = await nats.connect(infra_env["HAULYARD_NATS_URL"])
    try:
        info = await broker.jetstream().stream_info(
            topology.jobs.name, subjects_filter=topology.any_job_requested(job_id)
        )
    finally:
        await broker.close()
    return sum((info.state.subjects or {}).values())


async def test_fifty_equal_requests_at_once_are_one_job(
    settings: GatewaySettings, serving: Serve, as_user: dict[str, str], infra_env: dict[str, str], user: str
) -> None:
    async with serving(limited(settings, max_jobs_per_user=5)) as client:
        answers = await post_at_once(client, 50, as_user | {"Idempotency-Key": "one"})
        assert {answer.status_code for answer in answers} == {202}
        [job_id] = {answer.json()["job_id"] for answer in answers}
        assert len({(answer.json()["created_at"], answer.json()["total_files"]) for answer in answers}) == 1
        assert await requests_in_broker(infra_env, job_id) == 1
        other = await client.post(INITIATE, json={"file_ids": [1]}, headers=as_user | {"Idempotency-Key": "one"})
        assert other.status_code == 422
    async with Redis.from_url(settings.redis_url.get_secret_value()) as redis:
        assert await redis.zrange(active_jobs_key(user), 0, -1) == [job_id.encode()]


async def test_of_two_requests_with_one_key_at_once_one_wins(
    gateway: httpx.AsyncClient, as_user: dict[str, str]
) -> None:
    bodies = [{"file_ids": [1]}, {"file_ids": [2]}]
    answers = await post_at_once(gateway, 20, as_user | {"Idempotency-Key": "race"}, bodies)
    assert Counter(answer.status_code for answer in answers) == {202: 10, 422: 10}
    assert len({answer.json()["job_id"] for answer in answers if answer.status_code == 202}) == 1


async def test_without_the_cache_equal_requests_are_still_one_job(
    gateway: httpx.AsyncClient, as_user: dict[str, str], wires: dict[str, Wire], infra_env: dict[str, str]
) -> None:
    async with cut(wires["redis"]):
        answers = await post_at_once(gateway, 10, as_user | {"Idempotency-Key": "any"})
        assert {answer.status_code for answer in answers} == {202}
        assert all("warning" in answer.headers for answer in answers)
        [job_id] = {answer.json()["job_id"] for answer in answers}
    assert await requests_in_broker(infra_env, job_id) == 1


async def test_as_many_jobs_run_at_once_as_may(
    settings: GatewaySettings, serving: Serve, as_user: dict[str, str]
) -> None:
    async with serving(limited(settings, max_jobs_per_user=5)) as client:
        answers = await post_at_once(client, 40, as_user)
        assert Counter(answer.status_code for answer in answers) == {202: 5, 429: 35}
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.json()["type"] == "/problems/too-many-jobs"
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers["ratelimit"] == '"jobs";r=0'
        # One is over: its place is free.
        job_id = next(answer.json()["job_id"] for answer in answers if answer.status_code == 202)
        async with Redis.from_url(settings.redis_url.get_secret_value()) as redis:
            cache = JobCache(redis)
            document = await cache.get(job_id)
            assert document is not None
            values = {name: getattr(document, name) for name in document.__struct_fields__}
            await cache.put(type(document)(**values | {"status": JobStatus.CANCELLED, "sequence": 2}))
        answers = await post_at_once(client, 10, as_user)
        assert Counter(answer.status_code for answer in answers) == {202: 1, 429: 9}


async def test_a_refused_request_leaves_no_key_and_no_job(
    settings: GatewaySettings, serving: Serve, as_user: dict[str, str], user: str
) -> None:
    async with serving(limited(settings, max_jobs_per_user=1)) as client:
        first = (await client.post(INITIATE, json=BODY, headers=as_user)).json()["job_id"]
        key = as_user | {"Idempotency-Key": "later"}
        assert (await client.post(INITIATE, json=BODY, headers=key)).status_code == 429
        async with Redis.from_url(settings.redis_url.get_secret_value()) as redis:
            assert await redis.zrange(active_jobs_key(user), 0, -1) == [first.encode()]
            await redis.delete(active_jobs_key(user))
        answer = await client.post(INITIATE, json=BODY, headers=key)
        assert answer.status_code == 202


async def test_of_a_job_that_nobody_took_nothing_is_left(
    settings: GatewaySettings, serving: Serve, as_user: dict[str, str], user: str, wires: dict[str, Wire]
) -> None:
    key = as_user | {"Idempotency-Key": "lost"}
    async with serving(limited(settings, max_jobs_per_user=1)) as client:
        async with cut(wires["nats"]), cut(wires["postgres"]):
            assert (await client.post(INITIATE, json=BODY, headers=key)).status_code == 503
        async with Redis.from_url(settings.redis_url.get_secret_value()) as redis:
            assert await redis.zcard(active_jobs_key(user)) == 0
        async with asyncio.timeout(30):
            while (answer := await client.post(INITIATE, json=BODY, headers=key)).status_code != 202:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        path = f"/v1/jobs/{answer.json()['job_id']}/status"
        assert (await client.get(path, headers=as_user)).status_code == 200


async def test_a_burst_is_served_and_what_is_beyond_it_refused(
    settings: GatewaySettings, serving: Serve, as_user: dict[str, str]
) -> None:
    async with serving(limited(settings, rate_limit_per_minute=6, rate_limit_burst=8)) as client:
        answers = [
            *await post_at_once(client, 4, as_user),
            *await asyncio.gather(*(client.get("/v1/files/1", headers=as_user) for _ in range(4))),
            *await asyncio.gather(*(client.get("/v1/files/1", headers=as_user) for _ in range(4))),
            *await post_at_once(client, 4, as_user, [{"nonsense": 1}]),
        ]
        assert Counter(answer.status_code for answer in answers) == {202: 4, 404: 4, 429: 8}
        for answer in answers:
            assert answer.headers["ratelimit-policy"].startswith('"requests";q=6;w=60')
        refused = answers[-1]
        assert refused.json()["type"] == "/problems/rate-limited"
        assert 1 <= int(refused.headers["retry-after"]) <= 10
        # Nobody else is any the worse for it.
        assert (await client.get("/v1/files/1")).status_code == 404


async def test_without_the_cache_this_process_counts(
    settings: GatewaySettings, serving: Serve, as_user: dict[str, str], wires: dict[str, Wire]
) -> None:
    async with (
        serving(limited(settings, rate_limit_per_minute=6, rate_limit_burst=3)) as client,
        cut(wires["redis"]),
    ):
        answers = [await client.get("/v1/files/1", headers=as_user) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [404, 404, 404, 429, 429]
    assert all("limits are those of this process" in answer.headers["warning"] for answer in answers)
