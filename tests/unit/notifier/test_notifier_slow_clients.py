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
from haulyard_notifier.live import desk, event_stream, websocket
from haulyard_notifier.live.access import Access
from haulyard_notifier.live.desk import LiveDesk, desk_of, open_desk
from haulyard_notifier.live.hub import Hub, Unsubscribe

SECRET = "s" * 32
AT = datetime(2026, 1, 1, tzinfo=UTC)


class Source:
    async def subscribe(self, job_id: str, deliver: Callable[[JobEvent], None]) -> Unsubscribe:
        assert (job_id, callable(deliver)) == ("job_1", True)

        async def unsubscribe() -> None:
            pass

        return unsubscribe

    async def newest(self, job_id: str) -> JobEvent | None:
        raise AssertionError(f"{job_id} has not been quiet")


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
    app = Litestar([event_stream.job_events], openapi_config=None)
    app.asgi_handler = websocket.JobSockets(app.asgi_handler, app)
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


class Client:
    """Both directions of a connection whose client takes nothing after it was accepted, unless it ``reads``."""

    def __init__(self, kind: str, *, reads: bool) -> None:
        self.leaves = asyncio.Event()
        self.told: list[Any] = []
        self._reads = reads
        self._is_socket = kind == "websocket"
        self._first: dict[str, object] = (
            {"type": "websocket.connect"} if self._is_socket else {"type": "http.request", "more_body": False}
        )
        self._begun = False

    async def receive(self) -> Any:
        if not self._begun:
            self._begun = True
            return self._first
        await self.leaves.wait()
        return {"type": "websocket.disconnect", "code": 1006} if self._is_socket else {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.told.append(message)
        if message["type"] == "websocket.close":
            self.leaves.set()  # as the server does
        elif message["type"] not in ("websocket.accept", "http.response.start") and not self._reads:
            await asyncio.Event().wait()

    async def served_by(self, app: Litestar, kind: str) -> None:
        async with asyncio.timeout(5):
            await app(scope(app, kind), cast("Receive", self.receive), cast("Send", self.send))


@pytest.mark.parametrize("kind", ["websocket", "http"])
async def test_a_client_that_does_not_read_is_dropped(
    app: Litestar, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(websocket, "SEND_TIMEOUT", 0.01)
    monkeypatch.setattr(event_stream, "SEND_TIMEOUT", 0.01)
    client = Client(kind, reads=False)
    await client.served_by(app, kind)
    if kind == "websocket":
        assert client.told[-1] == {
            "type": "websocket.close",
            "code": 1013,
            "reason": "too slow: come back with last_event_id",
        }


@pytest.mark.parametrize("kind", ["websocket", "http"])
async def test_a_connection_ends_when_its_client_leaves(app: Litestar, kind: str) -> None:
    client = Client(kind, reads=True)
    serving = asyncio.create_task(client.served_by(app, kind))
    client.leaves.set()
    await serving


async def test_a_bug_is_told_as_one(app: Litestar, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(job_id: str, *, at_least: int) -> JobDocument | None:
        raise ZeroDivisionError

    monkeypatch.setattr(desk_of(app).hub, "_read", broken)
    client = Client("websocket", reads=True)
    await client.served_by(app, "websocket")
    assert client.told[-1]["code"] == 1011


async def test_a_state_that_cannot_be_told_ends_the_connection(app: Litestar, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(state: object, *, download_url: str | None) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(desk, "message_of", broken)
    client = Client("websocket", reads=True)
    await client.served_by(app, "websocket")
    assert client.told[-1]["code"] == 1011
