"""Clients that take too much, or too little: connections are counted, and who does not read is dropped."""

import asyncio
import secrets
import socket
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

import httpx
import pytest
from litestar import Litestar
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from haulyard_chassis.job_state import connect_cache
from haulyard_chassis.tasks import cancel_and_wait
from haulyard_notifier.live import websocket
from haulyard_notifier.live.desk import desk_of
from haulyard_notifier.live.presence import Presence
from haulyard_notifier.settings import NotifierSettings
from support.live import EventStream, close_code, told, ws_url

if TYPE_CHECKING:
    from integration.notifier.conftest import Orchestrator

pytestmark = pytest.mark.timeout(60)

Ticket = Callable[[str], str]
Bearer = Callable[[str], dict[str, str]]
Running = Callable[[NotifierSettings], AbstractAsyncContextManager[str]]
Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


@pytest.mark.parametrize("cap", ["user_connections", "job_connections"])
async def test_there_are_only_so_many_connections(
    settings: NotifierSettings,
    orchestrator: "Orchestrator",
    ticket: Ticket,
    bearer: Bearer,
    running: Running,
    until: Until,
    cap: str,
) -> None:
    job = orchestrator.job_id
    await orchestrator.reach(1)
    async with (
        running(settings.model_copy(update={cap: 2})) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=10, trust_env=False) as http,
        connect(ws_url(address, job), additional_headers=bearer("alice"), proxy=None) as first,
    ):
        await told(first)
        path = f"/v1/jobs/{job}/events"
        async with http.stream("GET", path, params={"ticket": ticket(job)}) as second:
            stream = EventStream(second)
            await stream.next_message()
            async with connect(ws_url(address, job, ticket=ticket(job)), proxy=None) as third:
                assert await close_code(third) == 4429
            refused = await http.get(path, headers=bearer("alice"))
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
            assert refused.json()["type"] == "/problems/too-many-connections"

        async def there_is_a_place() -> bool:
            async with connect(ws_url(address, job, ticket=ticket(job)), proxy=None) as fourth:
                try:
                    await told(fourth)
                except ConnectionClosed:  # turned away until the stream's end was noticed
                    return False
                return True

        await until(there_is_a_place)


async def test_a_socket_that_is_not_read_is_dropped_and_told_to_resume(
    settings: NotifierSettings,
    orchestrator: "Orchestrator",
    ticket: Ticket,
    app: Litestar,
    notifier: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A real connection, full to the brim; what still fits in it is read in the end, and the reason behind it."""
    monkeypatch.setattr(websocket, "SEND_TIMEOUT", 0.2)
    host, _, port = notifier.partition(":")
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    narrow.connect((host, int(port)))
    narrow.setblocking(False)  # noqa: FBT003 - its only way
    job, hub = orchestrator.job_id, desk_of(app).hub
    await orchestrator.reach(1)
    url = ws_url(notifier, job, ticket=ticket(job))
    async with connect(url, sock=narrow, proxy=None, compression=None, max_queue=1, ping_interval=None) as client:
        sequence = 1
        while hub.watching:
            sequence += 1
            assert sequence < 20_000, "what waits for a client that does not read must be bounded"
            await orchestrator.reach(sequence)
        assert await close_code(client) == 1013
        assert client.close_reason == "too slow: come back with last_event_id"
    async with connect(ws_url(notifier, job, ticket=ticket(job), last_event_id=sequence - 1), proxy=None) as client:
        assert (await told(client))["sequence"] == sequence


async def test_presence_is_renewed_however_much_others_come_and_go(settings: NotifierSettings, until: Until) -> None:
    cache = connect_cache(settings.redis_url.get_secret_value())
    job = f"job_{secrets.token_hex(8)}"
    presence = Presence(cache, renew=0.1)
    running = asyncio.create_task(presence.run())
    presence.enter(job, "stays")

    async def renewed() -> bool:
        presence.enter(job, "comes and goes")
        presence.leave(job, "comes and goes")
        return await cache.smembers(f"ws:job:{job}") == {b"stays"}

    await until(renewed)
    await cache.delete(f"ws:job:{job}")
    await until(renewed)
    await cancel_and_wait(running)
    await cache.aclose()


async def test_connections_are_counted(
    settings: NotifierSettings, orchestrator: "Orchestrator", ticket: Ticket, notifier: str
) -> None:
    job = orchestrator.job_id
    await orchestrator.reach(1)
    async with (
        connect(ws_url(notifier, job, ticket=ticket(job)), proxy=None) as client,
        httpx.AsyncClient(base_url=f"http://{notifier}", timeout=10, trust_env=False) as http,
    ):
        await told(client)
        metrics = (await http.get("/metrics")).text
    assert 'haulyard_live_connections{kind="websocket"} 1.0' in metrics
    assert 'haulyard_live_messages_total{kind="websocket"}' in metrics
