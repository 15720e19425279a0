"""Whatever is cut, and whenever: a client that comes back is told what it missed, and nothing twice."""

import asyncio
import json
import random
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from haulyard_contracts import JobStatus
from haulyard_notifier.live.sources import NatsEvents
from haulyard_notifier.settings import NotifierSettings
from support.live import EventStream, close_code, told, ws_url

if TYPE_CHECKING:
    from integration.notifier.conftest import Orchestrator, Program

pytestmark = pytest.mark.timeout(120)

Ticket = Callable[[str], str]
Running = Callable[[NotifierSettings], AbstractAsyncContextManager[str]]
StartProgram = Callable[..., Awaitable["Program"]]
Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


@dataclass
class Follower:
    """Follows a job to its end on whichever notifier, through any number of connections."""

    job_id: str
    ticket: str
    kind: str
    addresses: list[str]
    chance: random.Random
    """Where it connects, and when its connection is cut."""
    cuts: bool = True
    seen: list[int] = field(default_factory=list)
    connections: int = 0
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    last: dict[str, Any] = field(default_factory=dict)

    async def follow(self) -> None:
        while self.last.get("type") != "error":
            self.connections += 1
            messages = self._socket if self.kind == "websocket" else self._stream
            after = self.seen[-1] if self.seen else 0
            # Often before the snapshot has come, often between it and what follows.
            patience = self.chance.choice((0, 0, 1, 1, 2, 5)) if self.cuts else 1_000_000
            try:
                async with aclosing(messages(self.chance.choice(self.addresses), after)) as heard:
                    async for message in heard:
                        self.last = message
                        async with self.news:
                            self.seen.append(message["sequence"])
                            self.news.notify_all()
                        if patience == 0:
                            break
                        patience -= 1
            except (ConnectionClosed, httpx.TransportError, OSError):
                await asyncio.sleep(0.05)

    async def has_seen(self, sequence: int) -> None:
        async with self.news, asyncio.timeout(20):
            await self.news.wait_for(lambda: bool(self.seen) and self.seen[-1] >= sequence)

    async def _socket(self, address: str, after: int) -> AsyncGenerator[dict[str, Any], None]:
        url = ws_url(address, self.job_id, ticket=self.ticket, last_event_id=after)
        async with connect(url, proxy=None) as client:
            try:
                if self.cuts and self.chance.random() < 0.2:
                    client.transport.abort()
                async for text in client:
                    yield json.loads(text)
            finally:
                client.transport.abort()

    async def _stream(self, address: str, after: int) -> AsyncGenerator[dict[str, Any], None]:
        async with (
            httpx.AsyncClient(timeout=20, trust_env=False) as http,
            http.stream(
                "GET",
                f"http://{address}/v1/jobs/{self.job_id}/events",
                params={"ticket": self.ticket},
                headers={"Last-Event-ID": str(after)},
            ) as response,
        ):
            assert response.status_code in (200, 204)
            stream = EventStream(response)
            while (event := await stream.next()) is not None:
                if "data" in event:
                    yield json.loads(event["data"])


@pytest.mark.parametrize("seed", range(3))
async def test_connections_cut_at_random_lose_and_repeat_nothing(
    settings: NotifierSettings,
    orchestrator: "Orchestrator",
    ticket: Ticket,
    running: Running,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    """Three replicas, eight clients, and no help from what makes good for losses."""

    async def nothing(self: NatsEvents, job_id: str) -> None:
        return None

    monkeypatch.setattr(NatsEvents, "newest", nothing)
    job = orchestrator.job_id
    await orchestrator.reach(1)
    async with AsyncExitStack() as stack:
        addresses = [await stack.enter_async_context(running(settings)) for _ in range(3)]
        followers = [
            Follower(job, ticket(job), kind, addresses, random.Random(f"{seed} {number} {kind}"))
            for number in range(4)
            for kind in ("websocket", "sse")
        ]
        following = [asyncio.create_task(follower.follow()) for follower in followers]
        sequence = 1
        for _ in range(12):
            for _ in range(random.Random(f"{seed} {sequence}").randrange(1, 12)):
                sequence += 1
                await orchestrator.reach(sequence)
            # Nothing comes after this one for now: who has missed it would wait for ever.
            await asyncio.gather(*(follower.has_seen(sequence) for follower in followers))
        await orchestrator.reach(sequence + 1, JobStatus.FAILED)
        await asyncio.wait_for(asyncio.gather(*following), 30)
    for follower in followers:
        assert follower.seen == sorted(set(follower.seen)), "nothing twice, nothing older after something newer"
        assert follower.seen[-1] == sequence + 1
    assert sum(follower.connections for follower in followers) > 50, "it was cut, many times"


@pytest.mark.fault
async def test_when_a_notifier_is_killed_its_clients_lose_nothing(
    orchestrator: "Orchestrator", ticket: Ticket, program: StartProgram
) -> None:
    job = orchestrator.job_id
    await orchestrator.reach(1)
    victim, other = await program(), await program()
    followers = [
        Follower(job, ticket(job), kind, [victim.address], random.Random(kind), cuts=False)
        for kind in ("websocket", "sse")
        for _ in range(5)
    ]
    following = [asyncio.create_task(follower.follow()) for follower in followers]
    await asyncio.gather(*(follower.has_seen(1) for follower in followers))
    await orchestrator.reach(2)
    for follower in followers:
        follower.addresses = [other.address]  # where a load balancer would send them
    victim.process.kill()
    for sequence in range(3, 20):
        await orchestrator.reach(sequence)
    await orchestrator.reach(20, JobStatus.FAILED)
    await asyncio.wait_for(asyncio.gather(*following), 30)
    for follower in followers:
        assert follower.seen == sorted(set(follower.seen))
        assert follower.seen[-1] == 20
        assert follower.connections == 2


@pytest.mark.fault
async def test_on_sigterm_clients_go_elsewhere_and_the_notifier_ends(
    orchestrator: "Orchestrator", ticket: Ticket, program: StartProgram, until: Until
) -> None:
    job = orchestrator.job_id
    await orchestrator.reach(1)
    leaving = await program(HAULYARD_DRAIN="1")
    other = await program()
    async with AsyncExitStack() as stack:
        url = ws_url(leaving.address, job, ticket=ticket(job))
        clients = [await stack.enter_async_context(connect(url, proxy=None)) for _ in range(10)]
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=10, trust_env=False))
        response = await stack.enter_async_context(
            http.stream("GET", f"http://{leaving.address}/v1/jobs/{job}/events", params={"ticket": ticket(job)})
        )
        stream = EventStream(response)
        await stream.next_message()
        for client in clients:
            await told(client)
        leaving.process.send_signal(signal.SIGTERM)

        async def refuses() -> bool:
            return (await http.get(f"http://{leaving.address}/health/ready")).status_code == 503

        await until(refuses)
        assert await asyncio.gather(*(close_code(client) for client in clients)) == [1012] * 10
        assert "last_event_id" in (clients[0].close_reason or "")
        last = await stream.next()
        while (event := await stream.next()) is not None:
            last = event
        assert set(last or ()) == {"retry"}, "each is told after how long to come back"
    assert await leaving.ended() in (0, -signal.SIGTERM)
    assert ticket(job).split(".")[0].encode() not in leaving.output, "a ticket is never logged"
    resumed = ws_url(other.address, job, ticket=ticket(job), last_event_id=1)
    async with connect(resumed, proxy=None) as client:
        await orchestrator.reach(2, JobStatus.FAILED)
        assert (await told(client))["sequence"] == 2
