"""Live updates over real connections: WebSocket and server-sent events."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from litestar import Litestar
from websockets.asyncio.client import connect

from haulyard_chassis.job_state import connect_cache
from haulyard_contracts import JobStatus
from haulyard_notifier.live.desk import desk_of
from haulyard_notifier.settings import NotifierSettings
from support.live import EventStream, close_code, told, ws_url

if TYPE_CHECKING:
    from integration.notifier.conftest import Gate, Orchestrator

pytestmark = pytest.mark.timeout(60)

Ticket = Callable[[str], str]
Bearer = Callable[[str], dict[str, str]]
Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]
Running = Callable[[NotifierSettings], AbstractAsyncContextManager[str]]


@pytest.fixture
async def http(notifier: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://{notifier}", timeout=10, trust_env=False) as client:
        yield client


async def test_a_socket_gets_the_snapshot_then_each_change_then_closes(
    notifier: str, orchestrator: "Orchestrator", ticket: Ticket
) -> None:
    job = orchestrator.job_id
    await orchestrator.reach(2)
    async with connect(ws_url(notifier, job, ticket=ticket(job)), proxy=None) as client:
        snapshot = await told(client)
        assert (snapshot["type"], snapshot["status"], snapshot["sequence"]) == ("status_update", "processing", 2)
        for sequence in (3, 4):
            await orchestrator.reach(sequence)
            assert (await told(client))["sequence"] == sequence
        await orchestrator.reach(5, JobStatus.COMPLETED)
        done = await told(client)
        assert await close_code(client) == 1000
    link = urlsplit(done.pop("download_url"))
    query = parse_qs(link.query)
    assert link.path == f"/archives/{job}.zip"
    assert query["X-Amz-Expires"] == ["900"]
    assert "tr%C3%A4ume.zip" in query["response-content-disposition"][0]
    done.pop("timestamp")
    assert done == {
        "type": "completed",
        "job_id": job,
        "sequence": 5,
        "filename": "träume.zip",
        "size_bytes": 1234,
        "failed_files": [70001],
    }


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (JobStatus.FAILED, "error"),
        (JobStatus.COMPLETED, "completed"),
        (JobStatus.CANCELLED, "status_update"),
        (JobStatus.EXPIRED, "status_update"),
    ],
)
async def test_a_job_that_is_over_is_told_once(
    notifier: str, orchestrator: "Orchestrator", bearer: Bearer, status: JobStatus, kind: str
) -> None:
    await orchestrator.reach(7, status)
    url = ws_url(notifier, orchestrator.job_id)
    async with connect(url, additional_headers=bearer("alice"), proxy=None) as client:
        message = await told(client)
        assert message["type"] == kind
        if kind == "error":
            assert message["error"] == {"code": "PROCESSING_FAILED", "message": "no file"}
        assert await close_code(client) == 1000


async def test_a_resumed_socket_is_told_only_what_is_newer(
    notifier: str, orchestrator: "Orchestrator", ticket: Ticket
) -> None:
    job = orchestrator.job_id
    await orchestrator.reach(4)
    async with connect(ws_url(notifier, job, ticket=ticket(job), last_event_id=4), proxy=None) as client:
        await orchestrator.reach(5, JobStatus.FAILED)
        assert (await told(client))["sequence"] == 5
    async with connect(ws_url(notifier, job, ticket=ticket(job), last_event_id=5), proxy=None) as client:
        assert await close_code(client) == 1000


async def test_strangers_are_told_why_they_are_turned_away(
    notifier: str, orchestrator: "Orchestrator", ticket: Ticket, bearer: Bearer, narrow_bearer: dict[str, str]
) -> None:
    job = orchestrator.job_id
    await orchestrator.reach(1)
    for query, headers, code in (
        ({}, narrow_bearer, 4403),
        ({}, {}, 4401),
        ({"ticket": "x"}, {}, 4401),
        ({"ticket": ticket("job_other")}, {}, 4401),
        ({}, bearer("mallory"), 4404),
    ):
        async with connect(ws_url(notifier, job, **query), additional_headers=headers, proxy=None) as client:
            assert await close_code(client) == code
            assert client.close_reason
    for nothing in ("job_nothing", "*", "%3E"):
        async with connect(ws_url(notifier, nothing), additional_headers=bearer("alice"), proxy=None) as client:
            assert await close_code(client) == 4404


async def test_a_job_that_is_only_requested_can_be_watched(
    notifier: str, orchestrator: "Orchestrator", settings: NotifierSettings, ticket: Ticket
) -> None:
    """The cache has lost it, and nobody has planned it yet: its request is still in the broker."""
    await orchestrator.request()
    job = orchestrator.job_id
    async with connect(ws_url(notifier, job, ticket=ticket(job)), proxy=None) as client:
        assert (await told(client))["status"] == "queued"
        await orchestrator.reach(2)
        assert (await told(client))["status"] == "processing"


async def test_a_completed_event_that_overtakes_the_cache_is_answered_from_the_record(
    notifier: str, orchestrator: "Orchestrator", ticket: Ticket
) -> None:
    job = orchestrator.job_id
    await orchestrator.reach(2)
    async with connect(ws_url(notifier, job, ticket=ticket(job)), proxy=None) as client:
        await told(client)
        await orchestrator.insert_job(JobStatus.COMPLETED, webhook_url=None, sequence=6)
        await orchestrator.publish(orchestrator.event(orchestrator.document(6, JobStatus.COMPLETED)))
        done = await told(client)
        assert (done["type"], done["sequence"]) == ("completed", 6)
        assert f"{job}.zip" in done["download_url"]


async def test_progress_is_limited_and_the_end_is_not(
    settings: NotifierSettings, orchestrator: "Orchestrator", ticket: Ticket, running: Running
) -> None:
    job = orchestrator.job_id
    await orchestrator.reach(1)
    slow = settings.model_copy(update={"max_updates_per_second": 0.01})
    async with running(slow) as address, connect(ws_url(address, job, ticket=ticket(job)), proxy=None) as client:
        await told(client)
        for sequence in range(2, 50):
            await orchestrator.reach(sequence)
        await orchestrator.reach(50, JobStatus.FAILED)
        assert (await told(client))["sequence"] == 50
        assert await close_code(client) == 1000


async def test_what_happened_while_the_broker_was_away_is_made_good(
    settings: NotifierSettings, orchestrator: "Orchestrator", ticket: Ticket, running: Running, nats_gate: "Gate"
) -> None:
    job = orchestrator.job_id
    await orchestrator.reach(1)
    url = urlsplit(settings.nats_url.get_secret_value())
    netloc = (
        f"{url.username}:{url.password}@127.0.0.1:{nats_gate.port}" if url.username else f"127.0.0.1:{nats_gate.port}"
    )
    gated = settings.model_copy(update={"nats_url": type(settings.nats_url)(url._replace(netloc=netloc).geturl())})
    async with running(gated) as address, connect(ws_url(address, job, ticket=ticket(job)), proxy=None) as client:
        await told(client)
        nats_gate.shut()
        await orchestrator.reach(2)
        nats_gate.open()
        assert (await told(client))["sequence"] == 2
        await orchestrator.reach(3)
        assert (await told(client))["sequence"] == 3


async def test_presence_is_kept_while_a_socket_is_open(
    notifier: str, orchestrator: "Orchestrator", settings: NotifierSettings, ticket: Ticket, until: Until
) -> None:
    job = orchestrator.job_id
    await orchestrator.reach(1)
    cache = connect_cache(settings.redis_url.get_secret_value())
    async with connect(ws_url(notifier, job, ticket=ticket(job)), proxy=None) as client:
        await told(client)

        async def present() -> bool:
            return bool(await cache.scard(f"ws:job:{job}") == 1)

        await until(present)
        assert 3500 < await cache.ttl(f"ws:job:{job}") <= 3600

    async def absent() -> bool:
        return not await cache.exists(f"ws:job:{job}")

    await until(absent)
    await cache.aclose()


async def test_without_cache_and_record_watching_is_refused_and_health_says_so(
    settings: NotifierSettings, orchestrator: "Orchestrator", ticket: Ticket, running: Running
) -> None:
    secret = type(settings.redis_url)
    broken = settings.model_copy(
        update={
            "redis_url": secret("redis://127.0.0.1:1"),
            "postgres_dsn": secret("postgresql://u:p@127.0.0.1:1/x"),
        }
    )
    job = orchestrator.job_id
    async with running(broken) as address:
        async with connect(ws_url(address, job, ticket=ticket(job)), proxy=None) as client:
            assert await close_code(client) == 1013
        async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False) as http:
            refused = await http.get(f"/v1/jobs/{job}/events", params={"ticket": ticket(job)})
            ready = await http.get("/health/ready")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert ready.status_code == 200
    checks = ready.json()["checks"]
    assert checks["nats"] == "ok"
    assert "ok" not in (checks["cache"], checks["database"])


async def test_an_event_stream_tells_the_same_with_ids_and_heartbeats(
    http: httpx.AsyncClient, orchestrator: "Orchestrator", ticket: Ticket
) -> None:
    job = orchestrator.job_id
    await orchestrator.reach(2)
    async with http.stream("GET", f"/v1/jobs/{job}/events", params={"ticket": ticket(job)}) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        stream = EventStream(response)
        assert 500 <= int((await stream.next() or {})["retry"]) <= 3000
        snapshot = await stream.next_message()
        assert (snapshot["id"], snapshot["event"]) == ("2", "status_update")
        assert await stream.next() == {"comment": "heartbeat"}
        await orchestrator.reach(3)
        assert (await stream.next_message())["id"] == "3"
        await orchestrator.reach(4, JobStatus.COMPLETED)
        done = await stream.next_message()
        assert (done["id"], done["event"]) == ("4", "completed")
        assert json.loads(done["data"])["filename"] == "träume.zip"
        assert set(await stream.next() or ()) == {"retry"}
        assert await stream.next() is None


async def test_a_resumed_event_stream_is_told_only_what_is_newer_and_stops_at_the_end(
    http: httpx.AsyncClient, orchestrator: "Orchestrator", bearer: Bearer
) -> None:
    path = f"/v1/jobs/{orchestrator.job_id}/events"
    await orchestrator.reach(4)
    async with http.stream("GET", path, headers={**bearer("alice"), "Last-Event-ID": "4"}) as response:
        stream = EventStream(response)
        await stream.next()
        await orchestrator.reach(5, JobStatus.FAILED)
        assert (await stream.next_message())["id"] == "5"
    assert (await http.get(path, headers={**bearer("alice"), "Last-Event-ID": "5"})).status_code == 204
    assert (await http.get(path, params={"last_event_id": "5"}, headers=bearer("alice"))).status_code == 204


async def test_an_event_stream_answers_strangers_with_problems(
    http: httpx.AsyncClient, orchestrator: "Orchestrator", bearer: Bearer, narrow_bearer: dict[str, str]
) -> None:
    await orchestrator.reach(1)
    path = f"/v1/jobs/{orchestrator.job_id}/events"
    for answer, status in (
        (await http.get(path), 401),
        (await http.get(path, headers=narrow_bearer), 403),
        (await http.get(path, params={"ticket": "x"}), 401),
        (await http.get(path, headers=bearer("mallory")), 404),
        (await http.get("/v1/jobs/*/events", headers=bearer("alice")), 404),
        (await http.get("/v1/jobs/job_nothing/events", headers=bearer("alice")), 404),
    ):
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert answer.json()["status"] == status


async def test_a_stream_that_its_client_left_is_forgotten(
    http: httpx.AsyncClient, app: Litestar, orchestrator: "Orchestrator", ticket: Ticket, until: Until
) -> None:
    job = orchestrator.job_id
    hub = desk_of(app).hub
    await orchestrator.reach(1)
    async with http.stream("GET", f"/v1/jobs/{job}/events", params={"ticket": ticket(job)}) as response:
        await EventStream(response).next()
        assert hub.watched == 1

    async def forgotten() -> bool:
        return hub.watched == 0

    await until(forgotten)


async def test_the_api_document_has_the_stream(http: httpx.AsyncClient) -> None:
    document = (await http.get("/docs/openapi.json")).json()
    operation = document["paths"]["/v1/jobs/{job_id}/events"]["get"]
    assert set(operation["responses"]) >= {"200", "204", "401", "403", "404", "429", "503"}
    assert "text/event-stream" in operation["responses"]["200"]["content"]
