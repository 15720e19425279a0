"""Following a job while ways are blocked, cut and silent."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from haulyard import AcceptedJob, AsyncClient, ConnectionFailedError, JobStatus, NotFoundError, Update, Way
from haulyard.live import follow, poll
from haulyard.live.follow import Follower
from support.client_double import JOB, Double, cut, problem

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def refusing(status: int) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        return problem(status, "no")

    return handle


async def html(request: web.Request) -> web.StreamResponse:
    """What a proxy says that knows nothing of WebSockets and buffers streams."""
    return web.Response(text="<h1>Blocked</h1>", content_type="text/html")


async def cutting(request: web.Request) -> web.StreamResponse:
    cut(request)
    return web.Response()


async def noise(request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_str("moo")
    await socket.close()
    return socket


async def collected(client: AsyncClient, job: AcceptedJob | str, double: Double) -> list[Update]:
    """Follow the job, and let it go on with each state that is told."""
    told = []
    async with asyncio.timeout(20):
        async for update in client.watch(job, poll_interval=0.05):
            told.append(update)
            await double.go_to(min(double.shown + 1, len(double.states) - 1))
    return told


@pytest.mark.parametrize(
    ("blocked", "way"),
    [
        ({}, Way.WEBSOCKET),
        ({"socket": refusing(403)}, Way.EVENTS),
        ({"socket": refusing(404)}, Way.EVENTS),
        ({"socket": refusing(503)}, Way.EVENTS),
        ({"socket": html}, Way.EVENTS),
        ({"socket": cutting}, Way.EVENTS),
        ({"socket": noise}, Way.EVENTS),
        ({"socket": html, "events": html}, Way.POLLING),
        ({"socket": cutting, "events": cutting}, Way.POLLING),
        ({"socket": refusing(403), "events": refusing(502)}, Way.POLLING),
    ],
)
@pytest.mark.parametrize("holds", [True, False])
async def test_the_best_way_that_is_not_blocked_tells_each_state_once(
    client: AsyncClient,
    double: Double,
    monkeypatch: pytest.MonkeyPatch,
    blocked: dict[str, Handler],
    way: Way,
    holds: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setattr(poll, "_HELD_PAUSE", 0.05)
    double.holds = double.tells_sequence = holds
    double.live = blocked
    told = await collected(client, await client.initiate([1]), double)
    assert [update.status for update in told] == ["queued", "processing", "completed"]
    assert {update.via for update in told} == {way}


async def test_a_way_that_is_cut_again_and_again_misses_nothing_and_repeats_nothing(
    client: AsyncClient, double: Double
) -> None:
    double.states = [(n, "processing") for n in range(1, 9)] + [(9, "completed")]
    seen_by_server = []

    async def one_message_each(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        after = int(request.query.get("last_event_id", 0))
        seen_by_server.append(after)
        async for message in double.messages(after):
            await socket.send_json(message)
            break
        cut(request)
        return socket

    double.live = {"socket": one_message_each}
    told = await collected(client, await client.initiate([1]), double)
    assert [update.sequence for update in told] == list(range(1, 10))
    assert {update.via for update in told} == {Way.WEBSOCKET}
    assert seen_by_server == list(range(9))


async def test_an_event_stream_that_is_cut_midway_in_an_event_is_resumed(client: AsyncClient, double: Double) -> None:
    double.states = [(1, "processing"), (2, "processing"), (3, "completed")]

    async def half_an_event(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        after = int(request.headers.get("Last-Event-ID", 0))
        async for message in double.messages(after):
            await answer.write(f"id: {message['sequence']}\ndata: {json.dumps(message)}\n\n".encode())
            break
        await answer.write(b'id: 99\ndata: {"type": "status_upd')
        cut(request)
        return answer

    double.live = {"socket": html, "events": half_an_event}
    told = await collected(client, await client.initiate([1]), double)
    assert [update.sequence for update in told] == [1, 2, 3]


async def test_ways_can_change_midway_without_a_gap_or_a_repeat(
    client: AsyncClient, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poll, "_HELD_PAUSE", 0.0)
    monkeypatch.setattr("haulyard.live.ladder._CLIMB_AFTER", 0.1)
    double.states = [(n, "processing") for n in range(1, 8)] + [(8, "completed")]
    told = []
    async with asyncio.timeout(20):
        async for update in client.watch(await client.initiate([1]), poll_interval=0.01):
            told.append(update)
            if update.sequence == 2:
                double.live = {"socket": cutting, "events": cutting}
            elif update.sequence == 5:
                double.live = {"events": cutting}
            await double.go_to(min(double.shown + 1, 7))
    assert [update.sequence for update in told] == list(range(1, 9))


async def test_after_a_while_of_polling_the_better_ways_are_tried_again(
    client: AsyncClient, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("haulyard.live.ladder._CLIMB_AFTER", 0.05)
    double.holds = False  # or the first question would be held until there is news
    double.live = {"socket": cutting, "events": cutting}

    async def back_again(request: web.Request) -> web.StreamResponse:
        double.live = {}
        await double.go_to(1)
        return await double.socket(request)

    ways = []
    async with asyncio.timeout(20):
        async for update in client.watch(await client.initiate([1]), poll_interval=0.02):
            ways.append(update.via)
            if update.status == "queued":
                double.live["socket"] = back_again
            else:
                await double.go_to(2)
    assert ways == [Way.POLLING, Way.WEBSOCKET, Way.WEBSOCKET]


async def void(request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.close(code=4401)
    return socket


async def test_a_ticket_that_is_no_longer_good_is_replaced(client: AsyncClient, double: Double) -> None:
    async def only_fresh_ones(request: web.Request) -> web.StreamResponse:
        if request.query["ticket"] != "fresh":
            return await void(request)
        double.live = {}
        return await double.socket(request)

    double.live = {"socket": only_fresh_ones}
    told = await collected(client, await client.initiate([1]), double)
    assert [update.status for update in told] == ["queued", "processing", "completed"]
    assert {update.via for update in told} == {Way.WEBSOCKET}
    assert double.tokens_shown == {}


async def test_a_server_that_gives_no_tickets_is_shown_the_token(client: AsyncClient, double: Double) -> None:
    double.gives_links = False
    told = await collected(client, JOB, double)
    assert [update.via for update in told] == [Way.POLLING, Way.WEBSOCKET, Way.WEBSOCKET]
    assert double.tokens_shown == {"socket": ["Bearer token"]}
    double.shown = 0
    double.live = {"socket": void}
    told = await collected(client, JOB, double)
    assert [update.via for update in told] == [Way.POLLING, Way.EVENTS, Way.EVENTS]
    assert double.tokens_shown["events"] == ["Bearer token"]


async def test_a_job_that_is_known_by_its_id_only_is_looked_up_first(client: AsyncClient, double: Double) -> None:
    told = await collected(client, JOB, double)
    assert [update.via for update in told] == [Way.POLLING, Way.WEBSOCKET, Way.WEBSOCKET]
    assert [update.status for update in told] == ["queued", "processing", "completed"]
    double.next.append(refusing(404))
    with pytest.raises(NotFoundError):
        await collected(client, JOB, double)


async def test_a_job_that_is_over_is_told_even_to_who_knows_more(client: AsyncClient, double: Double) -> None:
    double.shown = 2
    job = await client.initiate([1])
    told = [update async for update in client.watch(job, after=99)]
    assert [update.status for update in told] == ["completed"]
    ended = await client.wait(job)
    assert ended.status is JobStatus.COMPLETED


async def test_polling_bears_an_outage_but_not_for_ever(client: AsyncClient, double: Double) -> None:
    double.live = {"socket": cutting, "events": cutting}
    job = await client.initiate([1])
    double.shown = 2
    double.next.extend([cutting] * 7)
    told = [update async for update in client.watch(job, poll_interval=0.01)]
    assert [update.status for update in told] == ["completed"]
    double.next.extend([cutting] * 1000)
    follower = Follower(client._http, job, ways=[Way.POLLING], patience=0.2)
    with pytest.raises(ConnectionFailedError):
        _ = [update async for update in follower.updates()]


def test_every_way_is_tried() -> None:
    assert list(follow.EVERY_WAY) == list(Way)
