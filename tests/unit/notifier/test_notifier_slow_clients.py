"""A client that does not read is dropped; one that leaves is let go."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from litestar import Litestar
from litestar.types import Receive, Send

from haulyard_chassis.identity import SecretVerifier, Tickets, mint_token
from haulyard_contracts import JobDocument, JobEvent, JobStatus, Progress
from haulyard_notifier.live import event_stream, websocket
from haulyard_notifier.live.access import Access
from haulyard_notifier.live.desk import LiveDesk, open_desk
from haulyard_notifier.live.hub import Hub, Unsubscribe

SECRET = "s" * 32
AT = datetime(2026, 1, 1, tzinfo=UTC)


class Source:
    async def subscribe(self, job_id: str, deliver: Callable[[JobEvent], None]) -> Unsubscribe:
        assert (job_id, callable(deliver)) == ("job_1", True)

        async def unsubscribe() -> None:
            pass

        return unsubscribe


async def read(job_id: str, *, at_least: int) -> JobDocument | None:
    return JobDocument(
        job_id=job_id,
        user_id="alice",
        status=JobStatus.PROCESSING,
        sequence=max(1, at_least),
        progress=Progress(current=0, total=1, percentage=0),
        files=(),
        created_at=AT,
        updated_at=AT,
    )


class NoPresence:
    def enter(self, job_id: str, connection_id: str) -> None:
        pass

    def leave(self, job_id: str, connection_id: str) -> None:
        pass


@pytest.fixture
async def app() -> AsyncIterator[Litestar]:
    app = Litestar([websocket.job_socket, event_stream.job_events], openapi_config=None)
    hub = Hub(Source(), read, interval=0.0)
    open_desk(
        app,
        LiveDesk(
            hub=hub,
            access=Access(SecretVerifier(SECRET), Tickets("t" * 32)),
            presence=cast("Any", NoPresence()),
            store=cast("Any", None),
            download_expires=900,
            heartbeat=60.0,
        ),
    )
    yield app
    assert hub.watched == 0, "whoever was dropped or has left watches no more"
    await hub.close()


def scope(app: Litestar, kind: str) -> Any:
    path = "/ws/jobs/job_1" if kind == "websocket" else "/v1/jobs/job_1/events"
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "http",
        "server": ("test", 80),
        "client": ("test", 1),
        "root_path": "",
        **({"method": "GET"} if kind == "http" else {}),
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {mint_token(SECRET, 'alice')}".encode())],
        "subprotocols": [],
        "state": {},
        "extensions": {},
    }


def client(*, reads: bool, leaves: asyncio.Event) -> tuple[Receive, Send]:
    """Return both directions of a connection that takes nothing after it was accepted, unless it ``reads``."""
    first = True

    async def receive() -> Any:
        nonlocal first
        if first:
            first = False
            return {"type": "websocket.connect"} if not reads else {"type": "http.request", "more_body": False}
        await leaves.wait()
        return {"type": "websocket.disconnect", "code": 1006} if not reads else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] not in ("websocket.accept", "http.response.start") and not reads:
            await asyncio.Event().wait()

    return cast("Receive", receive), cast("Send", send)


@pytest.mark.parametrize("kind", ["websocket", "http"])
async def test_a_client_that_does_not_read_is_dropped(
    app: Litestar, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(websocket, "SEND_TIMEOUT", 0.01)
    monkeypatch.setattr(event_stream, "SEND_TIMEOUT", 0.01)
    receive, send = client(reads=False, leaves=asyncio.Event())
    async with asyncio.timeout(5):
        await app(scope(app, kind), receive, send)


async def test_a_stream_ends_when_its_client_leaves(app: Litestar) -> None:
    leaves = asyncio.Event()
    receive, send = client(reads=True, leaves=leaves)
    serving = asyncio.create_task(app(scope(app, "http"), receive, send))
    leaves.set()
    async with asyncio.timeout(5):
        await serving
