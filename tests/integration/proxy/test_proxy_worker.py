"""The Cloudflare Worker in its real runtime, in front of an origin that misbehaves as it is told.

What it does in front of the real services is in ``tests/e2e/test_e2e_proxy_worker.py``.
"""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from aiohttp import WSMsgType, web
from websockets.asyncio.client import connect

from support.proxied import free_ports
from support.workerd import running_worker, runtime

HURRIED = {"api: 30_000,": "api: 1_000,"}
"""Its patience short."""
PATIENCE = 60.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Origin:
    """A server that answers by ``handler`` and remembers what it was asked."""

    url: str = ""
    handler: Handler | None = None
    asked: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Lets those go who wait for it."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        if request.headers.get("Upgrade") != "websocket":
            self.bodies.append(await request.read())
        assert self.handler is not None
        return await self.handler(request)


@asynccontextmanager
async def running_origin() -> AsyncIterator[Origin]:
    origin = Origin()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", origin.answer)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    (port,) = free_ports(1)
    await web.TCPSite(runner, "127.0.0.1", port).start()
    origin.url = f"http://127.0.0.1:{port}"
    try:
        yield origin
    finally:
        origin.over.set()
        await runner.cleanup()


@pytest.fixture(scope="module")
async def origins() -> AsyncIterator[tuple[Origin, Origin]]:
    """Of the API, and of live updates."""
    await runtime()
    async with running_origin() as api, running_origin() as live:
        yield api, live


@pytest.fixture(scope="module")
async def worker(origins: tuple[Origin, Origin], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    (port,) = free_ports(1)
    variables = {"ORIGIN": origins[0].url, "LIVE_ORIGIN": origins[1].url}
    async with running_worker(tmp_path_factory.mktemp("worker"), port, origins=variables) as url:
        yield url


@pytest.fixture
async def http(worker: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=worker, timeout=PATIENCE, trust_env=False) as client:
        yield client


@pytest.fixture
async def hurried(origins: tuple[Origin, Origin], tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Comes by a Worker that has little patience."""
    (port,) = free_ports(1)
    variables = {"ORIGIN": origins[0].url, "LIVE_ORIGIN": origins[1].url}
    async with (
        running_worker(tmp_path, port, origins=variables, changes=HURRIED) as url,
        httpx.AsyncClient(base_url=url, timeout=PATIENCE, trust_env=False) as client,
    ):
        yield client


@pytest.fixture
def api(origins: tuple[Origin, Origin]) -> Origin:
    origins[0].asked.clear()
    origins[0].bodies.clear()
    return origins[0]


@pytest.fixture
def live(origins: tuple[Origin, Origin]) -> Origin:
    origins[1].asked.clear()
    return origins[1]


async def fine(_: web.Request) -> web.Response:
    return web.json_response({"fine": True})


async def broken_off(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def test_headers_and_body_arrive_as_they_were_sent(http: httpx.AsyncClient, api: Origin) -> None:
    """The seed's spread of ``request.headers`` lost them all."""
    api.handler = fine
    sent = {"Authorization": "Bearer t", "Idempotency-Key": "k", "X-Request-ID": "mine-1", "traceparent": "00-1-2-01"}
    answer = await http.post("/v1/download/initiate?a=%20b", json={"file_ids": [1]}, headers=sent)
    assert answer.json() == {"fine": True}
    (asked,) = api.asked
    assert {name: asked.headers[name] for name in sent} == sent
    assert asked.headers["Content-Type"] == "application/json"
    assert asked.headers["X-Forwarded-By"] == "cloudflare"
    assert asked.path_qs == "/v1/download/initiate?a=%20b"
    assert api.bodies == [b'{"file_ids":[1]}']


async def test_what_a_client_claims_of_its_way_is_not_believed(
    http: httpx.AsyncClient, worker: str, api: Origin
) -> None:
    api.handler = fine
    claimed = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example", "Forwarded": "for=1.2.3.4"}
    await http.get("/v1/jobs", headers={**claimed, "CF-Connecting-IP": "203.0.113.7", "X-Request-ID": "no good"})
    (asked,) = api.asked
    assert asked.headers.getall("X-Forwarded-Proto") == ["http"]
    assert f"http://{asked.headers['X-Forwarded-Host']}" == worker
    assert asked.headers.getall("X-Forwarded-For") == ["203.0.113.7"]
    assert "Forwarded" not in asked.headers
    assert asked.headers["X-Request-ID"] != "no good"


async def test_answers_come_back_as_they_are(http: httpx.AsyncClient, api: Origin) -> None:
    packed = gzip.compress(b'{"a": 1}')

    async def answer(_: web.Request) -> web.Response:
        return web.Response(
            status=429,
            body=packed,
            headers={"Content-Encoding": "gzip", "ETag": 'W/"7"', "Retry-After": "5", "X-Frame-Options": "DENY"},
            content_type="application/problem+json",
        )

    api.handler = answer
    async with http.stream("GET", "/v1/jobs", headers={"Accept-Encoding": "gzip"}) as got:
        assert got.status_code == 429
        assert got.headers["content-encoding"] == "gzip"
        assert gzip.decompress(b"".join([chunk async for chunk in got.aiter_raw()])) == b'{"a": 1}'
    assert got.headers["etag"] == 'W/"7"'
    assert got.headers["retry-after"] == "5"
    assert got.headers.get_list("x-frame-options") == ["DENY"]
    assert got.headers["content-type"].startswith("application/problem+json")


async def test_a_link_to_the_store_is_for_the_client(http: httpx.AsyncClient, api: Origin) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": "https://store.example/archive"})

    api.handler = answer
    got = await http.get("/v1/jobs/job_1/archive")
    assert got.status_code == 307
    assert got.headers["location"] == "https://store.example/archive"


async def test_ranges_are_asked_for_as_the_client_does(http: httpx.AsyncClient, api: Origin) -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.headers["Range"] == "bytes=5-"
        assert request.headers["If-Range"] == '"e"'
        headers = {"Content-Range": "bytes 5-9/10", "ETag": '"e"', "Cache-Control": "private, no-cache, no-transform"}
        return web.Response(status=206, body=b"56789", headers=headers, content_type="application/zip")

    api.handler = answer
    got = await http.get("/v1/jobs/job_1/archive", headers={"Range": "bytes=5-", "If-Range": '"e"'})
    assert (got.status_code, got.content) == (206, b"56789")
    assert got.headers["content-range"] == "bytes 5-9/10"
    assert got.headers["etag"] == '"e"'
    assert got.headers["cache-control"] == "private, no-cache, no-transform"


async def test_the_api_is_never_cached(http: httpx.AsyncClient, api: Origin) -> None:
    api.handler = fine
    for _ in range(2):
        assert (await http.get("/v1/jobs")).headers["cache-control"] == "no-store"
    assert len(api.asked) == 2
    assert all("no-cache" in asked.headers["Cache-Control"] for asked in api.asked), "nor on the way"
    assert "cache-control" not in (await http.get("/assets/page-1234.js")).headers
    assert "Cache-Control" not in api.asked[-1].headers


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_changes_nothing_is_asked_again(http: httpx.AsyncClient, api: Origin, method: str) -> None:
    async def at_second(request: web.Request) -> web.StreamResponse:
        return await (fine if len(api.asked) > 1 else broken_off)(request)

    api.handler = at_second
    assert (await http.request(method, "/v1/jobs")).status_code == 200
    assert len(api.asked) == 2


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_what_changes_something_is_never_sent_twice(http: httpx.AsyncClient, api: Origin, method: str) -> None:
    api.handler = broken_off
    answer = await http.request(method, "/v1/download/initiate")
    assert answer.status_code == 502
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "2"
    assert answer.json()["instance"] == "/v1/download/initiate"
    assert len(api.asked) == 1


async def test_a_proxy_at_the_origin_that_found_nobody_is_asked_again_and_then_believed(
    http: httpx.AsyncClient, api: Origin
) -> None:
    async def bad_gateway(_: web.Request) -> web.Response:
        return web.Response(status=502, text="nobody")

    api.handler = bad_gateway
    answer = await http.get("/v1/jobs")
    assert (answer.status_code, answer.text) == (502, "nobody")
    assert len(api.asked) == 2


async def test_a_service_that_says_no_is_not_asked_again(http: httpx.AsyncClient, api: Origin) -> None:
    async def unavailable(_: web.Request) -> web.Response:
        return web.Response(status=503, headers={"Retry-After": "5"})

    api.handler = unavailable
    assert (await http.get("/v1/jobs")).status_code == 503
    assert len(api.asked) == 1


async def test_what_does_not_answer_in_time_is_a_problem(hurried: httpx.AsyncClient, api: Origin) -> None:
    async def late(_: web.Request) -> web.Response:
        await api.over.wait()
        return web.Response()

    api.handler = late
    answer = await hurried.get("/v1/jobs", headers={"X-Request-ID": "late-1"})
    assert answer.status_code == 504
    assert answer.json()["status"] == 504
    assert answer.headers["x-request-id"] == "late-1"
    assert len(api.asked) == 1, "a second one would be late, too"


async def test_events_flow_although_the_time_for_an_answer_is_over(
    hurried: httpx.AsyncClient, api: Origin, live: Origin
) -> None:
    going_on = asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await answer.prepare(request)
        await answer.write(b"data: 1\n\n")
        await going_on.wait()
        await answer.write(b"data: 2\n\n")
        return answer

    async def late(_: web.Request) -> web.Response:
        await api.over.wait()
        return web.Response()

    live.handler, api.handler = stream, late
    async with asyncio.timeout(PATIENCE), hurried.stream("GET", "/v1/jobs/job_1/events?ticket=t") as answer:
        chunks = answer.aiter_raw()
        assert await anext(chunks) == b"data: 1\n\n", "at once"
        assert (await hurried.get("/v1/jobs")).status_code == 504, "so the time is over"
        going_on.set()
        assert await anext(chunks) == b"data: 2\n\n"
    assert live.asked[0].path_qs == "/v1/jobs/job_1/events?ticket=t"


async def test_sockets_pass(worker: str, live: Origin) -> None:
    async def echo(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str(f"{message.data}!")
                await socket.close(code=4404, message=b"gone")
        return socket

    live.handler = echo
    async with asyncio.timeout(PATIENCE):
        async with connect(f"{worker.replace('http', 'ws', 1)}/ws/jobs/job_1?ticket=t", proxy=None) as client:
            await client.send("hello")
            assert await client.recv() == "hello!"
            await client.wait_closed()
    assert (client.close_code, client.close_reason) == (4404, "gone")
    assert live.asked[0].path_qs == "/ws/jobs/job_1?ticket=t"


@pytest.mark.parametrize("path", ["/metrics", "/health/ready", "/v1/../metrics", "/v1/%2e%2e/metrics", "/wsx"])
async def test_what_is_for_operators_is_not_there(http: httpx.AsyncClient, api: Origin, path: str) -> None:
    api.handler = fine
    answer = await http.get(path)
    assert answer.status_code == 404
    assert answer.json()["type"] == "/problems/not-found"
    assert not api.asked


async def test_an_origin_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    port, nobody = free_ports(2)
    async with (
        running_worker(tmp_path, port, origins={"ORIGIN": f"http://127.0.0.1:{nobody}"}) as url,
        httpx.AsyncClient(base_url=url, timeout=PATIENCE, trust_env=False) as http,
    ):
        answer = await http.get("/v1/jobs/job_1/events")  # of the one origin, as there is no other
        assert answer.status_code == 502
        assert answer.headers["content-type"] == "application/problem+json"
