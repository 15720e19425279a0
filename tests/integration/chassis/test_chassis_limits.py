"""Limits and keys that all replicas share: exact, however many ask at once."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec
import pytest
from redis.asyncio import Redis

from haulyard_chassis.idempotency import TTL, Conflict, Fresh, Idempotency, Replay, derived_job_id, fingerprint
from haulyard_chassis.job_state import JobCache, connect_cache, queued_document
from haulyard_chassis.limits import CacheGate, ConcurrencyLimiter, RateLimiter, active_jobs_key
from haulyard_chassis.settings import ServiceSettings
from haulyard_contracts import TERMINAL, JobDocument, JobRequested, JobStatus
from haulyard_devstack import Infra

PATIENT = 60.0
"""The machine may be busy; how long Redis takes is not what is tested here."""


@pytest.fixture
async def replicas(settings: ServiceSettings) -> AsyncIterator[list[Redis]]:
    """Clients as two processes have them."""
    clients = [connect_cache(settings.redis_url.get_secret_value()) for _ in range(2)]
    yield clients
    for client in clients:
        await client.aclose()


@pytest.fixture
def client(replicas: list[Redis]) -> Redis:
    return replicas[0]


@pytest.fixture
def user() -> str:
    """A user whom no other test knows."""
    return f"ü-{secrets.token_hex(6)}"


def gate() -> CacheGate:
    return CacheGate(patience=PATIENT)


async def test_of_200_requests_at_once_exactly_the_burst_is_admitted(replicas: list[Redis], user: str) -> None:
    limiters = [RateLimiter(client, per_minute=1, burst=20, gate=gate()) for client in replicas]
    decisions = await asyncio.gather(*(limiters[number % 2].take(user) for number in range(200)))
    admitted = [decision for decision in decisions if decision.allowed]
    assert len(admitted) == 20
    assert sorted(decision.remaining for decision in admitted) == list(range(20))
    refused = [decision for decision in decisions if not decision.allowed]
    assert all(0 < decision.retry_after <= 60 and decision.remaining == 0 for decision in refused)
    assert all(1_140 < decision.reset_seconds <= 1_200 for decision in refused)
    assert not any(decision.degraded for decision in decisions)


async def test_a_bucket_fills_up_again(client: Redis, user: str) -> None:
    """A thousand a second: by the time of the second request one is there again."""
    limiter = RateLimiter(client, per_minute=60_000, burst=1, gate=gate())
    async with asyncio.timeout(30):
        for _ in range(20):
            while not (await limiter.take(user)).allowed:
                pass


async def test_one_users_requests_are_not_anothers(client: Redis, user: str) -> None:
    limiter = RateLimiter(client, per_minute=1, burst=1, gate=gate())
    assert (await limiter.take(user)).allowed
    assert not (await limiter.take(user)).allowed
    assert (await limiter.take(f"{user}-2")).allowed


async def test_what_is_not_needed_any_more_goes_by_itself(client: Redis, user: str) -> None:
    await RateLimiter(client, per_minute=60, burst=5, gate=gate()).take(user)
    assert 0 < await client.pttl(f"rate:{user}") <= 1_000
    await ConcurrencyLimiter(client, most=5, gate=gate()).admit(user, "job_1", 90)
    assert 0 < await client.ttl(active_jobs_key(user)) <= 91


async def test_of_50_jobs_at_once_exactly_as_many_as_may_be_are_admitted(replicas: list[Redis], user: str) -> None:
    limiters = [ConcurrencyLimiter(client, most=5, gate=gate()) for client in replicas]
    decisions = await asyncio.gather(*(limiters[n % 2].admit(user, f"job_{n}", 60) for n in range(50)))
    admitted = [decision for decision in decisions if decision.allowed]
    assert len(admitted) == 5
    assert sorted(decision.remaining for decision in admitted) == [0, 1, 2, 3, 4]
    assert {decision.retry_after for decision in decisions if not decision.allowed} == {5.0}
    assert (await limiters[0].admit(f"{user}-2", "job_x", 60)).allowed


async def test_a_job_takes_one_place_however_often_it_is_asked_for(client: Redis, user: str) -> None:
    limiter = ConcurrencyLimiter(client, most=2, gate=gate())
    assert [(await limiter.admit(user, "job_1", 60)).remaining for _ in range(3)] == [1, 1, 1]
    assert (await limiter.admit(user, "job_2", 60)).allowed
    assert (await limiter.admit(user, "job_1", 60)).allowed, "it has its place"
    assert not (await limiter.admit(user, "job_3", 60)).allowed


async def test_a_place_that_is_given_back_or_whose_time_is_over_is_free(client: Redis, user: str) -> None:
    limiter = ConcurrencyLimiter(client, most=1, gate=gate())
    assert (await limiter.admit(user, "job_1", 60)).allowed
    await limiter.release(user, "job_1")
    assert (await limiter.admit(user, "job_2", 0)).allowed
    async with asyncio.timeout(30):
        while not (await limiter.admit(user, "job_3", 60)).allowed:
            pass
    refused = await limiter.admit(user, "job_4", 60)
    assert (refused.allowed, refused.remaining) == (False, 0)


def document(user: str, job_id: str) -> JobDocument:
    return queued_document(JobRequested(job_id=job_id, user_id=user, file_ids=(1,), created_at=datetime.now(UTC)))


@pytest.mark.parametrize("status", JobStatus)
async def test_the_end_of_a_job_frees_its_place(client: Redis, user: str, status: JobStatus) -> None:
    limiter, cache = ConcurrencyLimiter(client, most=1, gate=gate()), JobCache(client)
    job_id = f"job_{secrets.token_hex(6)}"
    await limiter.admit(user, job_id, 60)
    await cache.put(msgspec.structs.replace(document(user, job_id), status=status, sequence=2))
    assert (await limiter.admit(user, "job_2", 60)).allowed == (status in TERMINAL)


async def test_it_does_so_when_the_cache_knows_a_newer_state(client: Redis, user: str) -> None:
    """The orchestrator's last word may be repeated, by whoever reads it from the record."""
    limiter, cache = ConcurrencyLimiter(client, most=1, gate=gate()), JobCache(client)
    job_id = f"job_{secrets.token_hex(6)}"
    over = msgspec.structs.replace(document(user, job_id), status=JobStatus.FAILED, sequence=2)
    await cache.put(over)
    await limiter.admit(user, job_id, 60)
    await cache.put(over)
    assert (await limiter.admit(user, "job_2", 60)).allowed


async def test_of_50_equal_requests_one_is_new_and_all_know_its_job(replicas: list[Redis], user: str) -> None:
    both = [Idempotency(client, gate=gate()) for client in replicas]
    outcomes = await asyncio.gather(*(both[n % 2].begin(user, "key", "f" * 64, f"job_{n}") for n in range(50)))
    assert outcomes.count(Fresh()) == 1
    job = f"job_{outcomes.index(Fresh())}"
    assert outcomes.count(Replay(job)) == 49


async def test_of_50_different_requests_with_one_key_one_is_new_and_the_others_are_refused(
    client: Redis, user: str
) -> None:
    idempotency = Idempotency(client, gate=gate())
    prints = [fingerprint("initiate", {"file_ids": [number]}) for number in range(50)]
    outcomes = await asyncio.gather(*(idempotency.begin(user, "key", given, "job_1") for given in prints))
    assert (outcomes.count(Fresh()), outcomes.count(Conflict())) == (1, 49)


async def test_a_key_is_its_users_and_is_forgotten_after_a_day(client: Redis, user: str) -> None:
    idempotency = Idempotency(client, gate=gate())
    before = set(await client.keys("idem:*"))
    assert await idempotency.begin(user, "key", "f", "job_1") == Fresh()
    assert await idempotency.begin(f"{user}-2", "key", "f", "job_2") == Fresh()
    assert await idempotency.begin(user, "key-2", "f", "job_3") == Fresh()
    made = set(await client.keys("idem:*")) - before
    assert len(made) == 3
    for key in made:
        assert user.encode() not in key
        assert TTL - 60 < await client.ttl(key) <= TTL


async def test_a_key_of_which_nothing_came_is_new_again(client: Redis, user: str) -> None:
    idempotency = Idempotency(client, gate=gate())
    await idempotency.begin(user, "key", "f", "job_1")
    await idempotency.forget(user, "key", "f", "job_2")
    assert await idempotency.begin(user, "key", "f", "job_3") == Replay("job_1"), "that was another's"
    await idempotency.forget(user, "key", "f", "job_1")
    assert await idempotency.begin(user, "key", "f", "job_3") == Fresh()


async def test_replicas_with_and_without_redis_make_one_job(client: Redis, user: str) -> None:
    away = connect_cache("redis://127.0.0.1:1/0")
    ids = set()
    for one in (client, away):
        print_ = fingerprint("initiate", {"file_ids": [1]})
        job_id = derived_job_id(user, "key", print_, datetime(2026, 11, 24, tzinfo=UTC))
        assert isinstance(await Idempotency(one, gate=gate()).begin(user, "key", print_, job_id), Fresh)
        ids.add(job_id)
    assert len(ids) == 1
    await away.aclose()


@pytest.mark.fault
async def test_limits_go_on_while_redis_is_stopped_and_after_it_is_back(
    embedded: Infra, client: Redis, user: str
) -> None:
    limiter = RateLimiter(client, per_minute=1, burst=3, gate=CacheGate(away_for=0.0))
    assert not (await limiter.take(user)).degraded
    await embedded.stop("valkey")
    try:
        decisions = [await limiter.take(user) for _ in range(5)]
        assert all(decision.degraded for decision in decisions)
        assert [decision.allowed for decision in decisions] == [True, True, True, False, False]
    finally:
        await embedded.start("valkey")
    async with asyncio.timeout(30):
        while (await limiter.take(user)).degraded:
            pass


@pytest.mark.fault
async def test_redis_that_hangs_costs_no_request_its_answer_and_mixes_no_replies_up(
    embedded: Infra, client: Redis, user: str
) -> None:
    """Calls that were given up while it hung must not be answered to whoever asks next."""
    rates = RateLimiter(client, per_minute=1, burst=1_000, gate=CacheGate(away_for=0.0))
    idempotency = Idempotency(client, gate=CacheGate(away_for=0.0))
    await asyncio.gather(*(rates.take(user) for _ in range(20)))
    await embedded.pause("valkey")
    try:
        decisions = await asyncio.gather(*(rates.take(user) for _ in range(20)))
        assert all(decision.degraded and decision.allowed for decision in decisions)
        assert await idempotency.begin(user, "key", "f", "job_1") == Fresh(degraded=True)
    finally:
        await embedded.resume("valkey")
    async with asyncio.timeout(30):
        while (await rates.take(user)).degraded:
            pass
    patient = Idempotency(client, gate=gate())
    outcomes = await asyncio.gather(*(patient.begin(user, f"key-{n}", "f", f"job_{n}") for n in range(50)))
    assert outcomes == [Fresh()] * 50
    outcomes = await asyncio.gather(*(patient.begin(user, f"key-{n}", "f", "job_x") for n in range(50)))
    assert outcomes == [Replay(f"job_{n}") for n in range(50)]
