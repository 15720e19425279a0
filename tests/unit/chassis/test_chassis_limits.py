"""Limits as arithmetic, and what becomes of them while Redis is away or slow."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from haulyard_chassis import limits
from haulyard_chassis.job_state import connect_cache
from haulyard_chassis.limits import (
    CacheAwayError,
    CacheGate,
    ConcurrencyLimiter,
    Decision,
    RateLimiter,
    limit_headers,
    take_from,
)


@dataclass
class Clock:
    """Time that a test moves on."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def away() -> AsyncIterator[Redis]:
    """A client of a server that is not there."""
    client = connect_cache("redis://127.0.0.1:1/0")
    yield client
    await client.aclose()


@pytest.fixture
async def silent() -> AsyncIterator[tuple[Redis, list[int]]]:
    """A client of a server that takes connections and says nothing, and how many it took."""
    taken: list[int] = []
    over = asyncio.Event()

    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.append(1)
        await over.wait()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    client = connect_cache(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")
    yield client, taken
    await client.aclose()
    over.set()
    server.close()


@given(
    burst=st.integers(1, 50),
    interval=st.integers(1, 10**8),
    pauses=st.lists(st.integers(0, 10**9), max_size=100),
)
def test_a_bucket_gives_what_is_in_it_and_no_more(burst: int, interval: int, pauses: list[int]) -> None:
    """In any stretch of time no more than the burst and what has been filled in meanwhile."""
    full_at, now = 0, 10**15
    taken: list[int] = []
    for pause in pauses:
        now += pause
        before = full_at
        allowed, full_at, wait = take_from(full_at, now=now, interval=interval, burst=burst)
        if allowed:
            taken.append(now)
            assert wait == 0
        else:
            assert full_at == before
            assert take_from(full_at, now=now + wait, interval=interval, burst=burst)[0], "it says when"
            assert not take_from(full_at, now=now + wait - 1, interval=interval, burst=burst)[0], "and not too late"
    for first, start in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + (taken[last] - start) // interval


async def test_without_redis_rates_are_limited_here(away: Redis) -> None:
    clock = Clock()
    limiter = RateLimiter(away, per_minute=60, burst=3, clock=clock)
    decisions = [await limiter.take("alice") for _ in range(5)]
    assert [decision.allowed for decision in decisions] == [True, True, True, False, False]
    assert [decision.remaining for decision in decisions] == [2, 1, 0, 0, 0]
    assert all(decision.degraded and decision.limit == 60 for decision in decisions)
    assert decisions[-1].retry_after == pytest.approx(1.0)
    assert (await limiter.take("bob")).allowed
    clock.now += 1
    assert (await limiter.take("alice")).allowed
    assert not (await limiter.take("alice")).allowed
    clock.now += 3_600
    assert (await limiter.take("alice")).remaining == 2


async def test_without_redis_few_users_are_remembered(away: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_MOST_KEYS", 10)
    limiter = RateLimiter(away, per_minute=1, burst=1)
    for number in range(100):
        assert (await limiter.take(f"user-{number}")).allowed
    assert len(limiter._here) == 10
    assert not (await limiter.take("user-99")).allowed


async def test_without_redis_jobs_are_not_limited(away: Redis) -> None:
    limiter = ConcurrencyLimiter(away, most=2)
    decisions = [await limiter.admit("alice", f"job_{number}", 60) for number in range(5)]
    assert all(decision.allowed and decision.degraded for decision in decisions)
    await limiter.release("alice", "job_1")


async def test_redis_that_is_silent_is_waited_for_once_and_not_by_everybody(silent: tuple[Redis, list[int]]) -> None:
    client, taken = silent
    clock = Clock()
    gate = CacheGate(clock=clock)
    limiter = RateLimiter(client, per_minute=1, burst=1, gate=gate)
    for number in range(200):
        assert (await limiter.take(f"user-{number}")).degraded
    assert len(taken) == 1
    clock.now += 1.1
    decisions = await asyncio.gather(*(limiter.take(f"late-{number}") for number in range(200)))
    assert all(decision.degraded for decision in decisions)
    assert len(taken) == 2


async def test_the_gate_opens_again_when_a_call_comes_through() -> None:
    clock = Clock()
    gate = CacheGate(clock=clock)
    made = 0

    async def fail() -> int:
        nonlocal made
        made += 1
        raise ConnectionRefusedError

    async def succeed() -> int:
        return 7

    for _ in range(3):
        with pytest.raises(CacheAwayError):
            await gate.call(fail)
    assert made == 1
    with pytest.raises(CacheAwayError):
        await gate.call(succeed)
    clock.now += 1.0
    assert await gate.call(succeed) == 7
    assert await asyncio.gather(*(gate.call(succeed) for _ in range(10))) == [7] * 10


def decision(**changes: object) -> Decision:
    values = {"allowed": True, "limit": 100, "remaining": 19, "reset_seconds": 0.6} | changes
    return Decision(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("requests", "jobs", "headers"),
    [
        (None, None, {}),
        (decision(), None, {"RateLimit-Policy": '"requests";q=100;w=60', "RateLimit": '"requests";r=19;t=1'}),
        (
            decision(),
            decision(limit=5, remaining=4, reset_seconds=0.0),
            {"RateLimit-Policy": '"requests";q=100;w=60, "jobs";q=5', "RateLimit": '"requests";r=19;t=1, "jobs";r=4'},
        ),
        (
            decision(allowed=False, remaining=0, reset_seconds=12.0, retry_after=0.4),
            None,
            {
                "RateLimit-Policy": '"requests";q=100;w=60',
                "RateLimit": '"requests";r=0;t=12',
                "Retry-After": "1",
            },
        ),
        (
            decision(),
            decision(allowed=False, limit=5, remaining=0, reset_seconds=5.0, retry_after=4.2),
            {
                "RateLimit-Policy": '"requests";q=100;w=60, "jobs";q=5',
                "RateLimit": '"requests";r=19;t=1, "jobs";r=0',
                "Retry-After": "5",
            },
        ),
    ],
)
def test_headers_tell_of_limits(requests: Decision | None, jobs: Decision | None, headers: dict[str, str]) -> None:
    assert limit_headers(requests=requests, jobs=jobs) == headers
