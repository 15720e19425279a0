"""An API and a store that misbehave as told: what the real ones do once in a blue moon, and a client must bear.

Only faults are tested with it; that the client and the real services understand each other is for the end-to-end tests.
"""

import asyncio
import hashlib
import io
import json
import re
import zipfile
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

JOB = "job_01M8839Z4QZG3CF200REK9H3YS"
_ROUTES = {
    "/v1/download/initiate": "initiate",
    f"/v1/jobs/{JOB}/status": "status",
    f"/v1/jobs/{JOB}/download": "download",
    f"/v1/jobs/{JOB}/live": "links",
    f"/v1/jobs/{JOB}/events": "events",
    f"/ws/jobs/{JOB}": "socket",
    "/live/events": "events",
    "/live/socket": "socket",
    "/store/archive.zip": "object",
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def a_zip(*sizes: int) -> bytes:
    """Return a ZIP with members of these sizes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, size in enumerate(sizes):
            archive.writestr(f"{number}.bin", hashlib.shake_128(bytes([number])).digest(size))
    return buffer.getvalue()


def problem(status: int, slug: str, *, headers: dict[str, str] | None = None) -> web.Response:
    body = {"type": f"/problems/{slug}", "title": slug, "status": status, "detail": f"It is {slug}."}
    return web.Response(status=status, text=json.dumps(body), content_type="application/problem+json", headers=headers)


def cut(request: web.Request) -> None:
    """Break the connection, as a proxy that restarts does it."""
    assert request.transport is not None
    request.transport.abort()


@dataclass
class Double:
    """What the servers do, and what they were asked."""

    url: str = ""
    archive: bytes = field(default_factory=lambda: a_zip(70_000, 5, 0))
    etag: str = '"one"'
    states: list[tuple[int, str]] = field(default_factory=lambda: [(1, "queued"), (2, "processing"), (3, "completed")])
    """Each state's sequence and status; the last one is how it ends."""
    shown: int = 0
    """The state in which the job is now, by its place in `states`."""
    next: deque[Handler] = field(default_factory=deque)
    """Handlers for the next requests, whatever they ask; then it is as it should be."""
    live: dict[str, Handler] = field(default_factory=dict)
    """Handlers for ``socket`` and ``events`` instead of the right ones."""
    holds: bool = True
    """Whether status requests are held and have an ETag."""
    tells_sequence: bool = True
    gives_links: bool = True
    moves_by_poll: bool = False
    """Whether the job is one state further on after each status request."""
    link_seconds: float = 900.0
    store: list[Handler] = field(default_factory=list)
    """Handlers for the next requests to the store; then it is as it should be."""
    good_links: set[int] = field(default_factory=set)
    links_given: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    keys: list[str] = field(default_factory=list)
    """Each ``Idempotency-Key``."""
    tokens_shown: dict[str, list[str]] = field(default_factory=dict)
    """What ways to follow a job were shown, beside the ticket of the address."""
    ranges: list[str] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def go_to(self, place: int) -> None:
        """Let the job come into a state."""
        async with self.changed:
            self.shown = place
            self.changed.notify_all()

    # What it is when it is as it should be

    def message(self, place: int) -> dict[str, Any]:
        sequence, status = self.states[place]
        common = {"job_id": JOB, "timestamp": "2026-11-25T12:00:00Z", "sequence": sequence}
        if status == "completed":
            return {"type": "completed", "download_url": "http://x", "filename": "a.zip", "size_bytes": 1, **common}
        if status == "failed":
            return {"type": "error", "error": {"code": "PROCESSING_FAILED", "message": "no"}, **common}
        return {"type": "status_update", "status": status, "progress": self.progress(place), **common}

    def progress(self, place: int) -> dict[str, int]:
        return {
            "current": place,
            "total": len(self.states),
            "percentage": 0,
            "bytes_current": place,
            "bytes_total": len(self.states),
        }

    async def messages(self, after: int) -> AsyncIterator[dict[str, Any]]:
        """Yield what is news, until the end."""
        place = -1
        while True:
            async with self.changed:
                await self.changed.wait_for(lambda: self.shown > place)  # noqa: B023 - it is awaited here
                place = self.shown
            if self.states[place][0] > after:
                yield self.message(place)
            if place == len(self.states) - 1:
                return

    async def initiate(self, request: web.Request) -> web.StreamResponse:
        base = self.url.removeprefix("http")
        body = {
            "job_id": JOB,
            "status": "queued",
            "created_at": "2026-11-25T12:00:00Z",
            "total_files": len((await request.json())["file_ids"]),
            "websocket_url": f"ws{base}/live/socket?ticket=t",
            "events_url": f"{self.url}/live/events?ticket=t",
        }
        return web.json_response(body, status=202)

    async def status(self, request: web.Request) -> web.StreamResponse:
        sequence, status = self.states[self.shown]
        if request.headers.get("If-None-Match") == f'W/"{sequence}"' and request.query.get("wait"):
            async with self.changed:
                await self.changed.wait_for(lambda: self.states[self.shown][0] > sequence)
                sequence, status = self.states[self.shown]
        body: dict[str, Any] = {"job_id": JOB, "status": status, "progress": self.progress(self.shown)}
        if self.tells_sequence:
            body["sequence"] = sequence
        if self.moves_by_poll:
            self.shown = min(self.shown + 1, len(self.states) - 1)
        return web.json_response(body, headers={"ETag": f'W/"{sequence}"'} if self.holds else {})

    async def links(self, request: web.Request) -> web.StreamResponse:
        if not self.gives_links:
            return problem(404, "not-found")
        base = self.url.removeprefix("http")
        return web.json_response(
            {
                "job_id": JOB,
                "websocket_url": f"ws{base}/live/socket?ticket=fresh",
                "events_url": f"{self.url}/live/events?ticket=fresh",
            }
        )

    async def socket(self, request: web.Request) -> web.StreamResponse:
        if "socket" in self.live:
            return await self.live["socket"](request)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in self.messages(int(request.query.get("last_event_id", 0))):
            await socket.send_json(message)
        await socket.close()
        return socket

    async def events(self, request: web.Request) -> web.StreamResponse:
        if "events" in self.live:
            return await self.live["events"](request)
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(b"retry: 2000\n\n: heartbeat\n\n")
        async for message in self.messages(int(request.headers.get("Last-Event-ID", 0))):
            await answer.write(
                f"id: {message['sequence']}\nevent: {message['type']}\ndata: {json.dumps(message)}\n\n".encode()
            )
        return answer

    async def download(self, request: web.Request) -> web.StreamResponse:
        self.links_given += 1
        self.good_links.add(self.links_given)
        expires = datetime.now(UTC) + timedelta(seconds=self.link_seconds)
        body = {
            "job_id": JOB,
            "download_url": f"{self.url}/store/archive.zip?X-Signature=a%2Bb&n={self.links_given}",
            "expires_at": expires.isoformat(),
            "size_bytes": len(self.archive),
            "filename": "archive.zip",
        }
        return web.json_response(body)

    async def object(self, request: web.Request) -> web.StreamResponse:
        assert "Authorization" not in request.headers
        assert "X-Signature=a%2Bb" in request.rel_url.raw_query_string
        self.ranges.append(request.headers.get("Range", ""))
        if self.store:
            return await self.store.pop(0)(request)
        if int(request.query["n"]) not in self.good_links:
            return web.Response(status=403, text="<Error><Code>AccessDenied</Code></Error>")
        return await self.part(request)

    async def part(self, request: web.Request, *, cut_after: int | None = None) -> web.StreamResponse:
        """Answer a range, or the beginning of it."""
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
        headers = {"ETag": self.etag}
        if match is None or request.headers.get("If-Range", self.etag) != self.etag:
            return web.Response(body=self.archive, headers=headers)
        start, end = int(match[1]), min(int(match[2]), len(self.archive) - 1)
        data = self.archive[start : end + 1]
        headers["Content-Range"] = f"bytes {start}-{end}/{len(self.archive)}"
        answer = web.StreamResponse(status=206, headers={**headers, "Content-Length": str(len(data))})
        await answer.prepare(request)
        await answer.write(data[:cut_after])
        if cut_after is not None and cut_after < len(data):
            cut(request)
        return answer

    def cutting(self, after: int) -> Handler:
        """Return a handler that breaks the connection after some bytes."""

        async def handle(request: web.Request) -> web.StreamResponse:
            return await self.part(request, cut_after=after)

        return handle

    async def handle(self, request: web.Request) -> web.StreamResponse:
        name = _ROUTES[request.match_info.route.resource.canonical]  # type: ignore[union-attr] # there is one
        self.asked[name] += 1
        if "Idempotency-Key" in request.headers:
            self.keys.append(request.headers["Idempotency-Key"])
        if self.next and name not in ("socket", "events"):
            return await self.next.popleft()(request)
        if name in ("socket", "events") and "Authorization" in request.headers:
            self.tokens_shown.setdefault(name, []).append(request.headers["Authorization"])
        right: Handler = getattr(self, name)
        return await right(request)


@asynccontextmanager
async def running_double() -> AsyncIterator[Double]:
    """Run the servers on a free port."""
    double = Double()
    application = web.Application()
    for path in _ROUTES:
        application.router.add_route("*", path, double.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    double.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield double
    finally:
        await runner.cleanup()
