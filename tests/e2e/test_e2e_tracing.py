"""One job is one trace: from its request, over every message, part and request to the store, to its webhook."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from support.client import ApiClient, members, sha256
from support.installation import make_installation
from support.otlp import SeenSpan, running_collector
from support.services import running_services

MIB = 1024 * 1024
SERVICES = {"haulyard-gateway", "haulyard-orchestrator", "haulyard-archiver", "haulyard-notifier"}


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[str, asyncio.Queue[dict[str, str]]]]:
    """Somebody's webhook: its URL, and the headers that it gets."""
    calls: asyncio.Queue[dict[str, str]] = asyncio.Queue()

    async def called(request: web.Request) -> web.Response:
        calls.put_nowait({name.lower(): value for name, value in request.headers.items()})
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/hook", called)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook", calls
    await runner.cleanup()


async def test_a_job_is_one_trace(
    addresses: dict[str, str], tmp_path: Path, receiver: tuple[str, asyncio.Queue[dict[str, str]]]
) -> None:
    trace_id, client_span = secrets.token_hex(16), secrets.token_hex(8)
    traceparent = f"00-{trace_id}-{client_span}-01"
    url, calls = receiver
    installation = await make_installation(addresses)
    large, small = secrets.token_bytes(20 * MIB), b"hello"
    async with running_collector() as collector:
        async with (
            running_services(
                tmp_path,
                installation,
                HAULYARD_OTLP_ENDPOINT=collector.url,
                HAULYARD_TRACE_RATIO="0",  # who began the trace decides
                HAULYARD_LOG_FORMAT="json",
                OTEL_BSP_SCHEDULE_DELAY="200",
            ) as stack,
            ApiClient(stack.api_url, stack.token("ann")) as api,
        ):
            files = [await api.upload("large.bin", large), await api.upload("a.txt", small)]
            accepted = await api.http.post(
                "/v1/download/initiate",
                json={"file_ids": files, "webhook_url": url},
                headers={"traceparent": traceparent},
            )
            assert accepted.status_code == 202, accepted.text
            job_id = accepted.json()["job_id"]
            assert (await api.wait(job_id))["status"] == "completed"
            called = await asyncio.wait_for(calls.get(), 60)
            archive = await api.download(job_id)
            refused = await api.http.get("/v1/jobs/nonsense/status", headers={"traceparent": traceparent})
            await collector.wait(lambda spans: any(span.name == "deliver webhook" for span in spans))
        # What was not sent yet is, when services stop.
        spans = collector.spans

    assert members(archive) == {"large.bin": sha256(large), "a.txt": sha256(small)}
    assert refused.json()["trace_id"] == trace_id
    # Nothing else was traced, and all that was hangs together.
    assert {span.trace_id for span in spans} == {trace_id}
    assert {span.service for span in spans} == SERVICES
    by_id = {span.span_id: span for span in spans}
    assert {span.parent_id for span in spans} <= {client_span, *by_id}
    # A store that is busy may be asked once more.
    assert [span.name for span in spans if span.failed and not span.name.startswith("S3 ")] == []

    request = ["POST /v1/download/initiate"]
    planning = [*request, "publish JobRequested", "process JobRequested", "plan job"]
    part = [*planning, "publish PartTask", "process PartTask"]
    assert ways(by_id, "S3 CreateMultipartUpload") == {(*planning, "S3 CreateMultipartUpload")}
    assert (*part, "S3 UploadPartCopy") in ways(by_id, "S3 UploadPartCopy")
    (completion,) = ways(by_id, "S3 CompleteMultipartUpload")
    assert completion[: len(planning)] == tuple(planning)
    assert completion[-4:] == (
        "publish PartDone",
        "process PartDone",
        "complete job",
        "S3 CompleteMultipartUpload",
    )
    assert any(
        way[-3:] == ("complete job", "publish JobEvent", "process JobEvent") for way in ways(by_id, "process JobEvent")
    )
    (delivery,) = [span for span in spans if span.name == "deliver webhook"]
    assert way(by_id, delivery) == (*request, "publish JobRequested", "deliver webhook")
    assert called["traceparent"] == f"00-{trace_id}-{delivery.span_id}-01"
    assert delivery.attributes["http.response.status_code"] == 204

    parts = [span for span in spans if span.name == "process PartTask"]
    assert {span.attributes["haulyard.job_id"] for span in parts} == {job_id}
    assert len({span.attributes["haulyard.part"] for span in parts}) > 1

    # The same id is in what every service logged of it.
    logged = [json.loads(line) for line in log_lines(tmp_path) if trace_id in line]
    assert {f"haulyard-{line['service']}" for line in logged} >= SERVICES - {"haulyard-gateway"}
    assert {line["trace_id"] for line in logged} == {trace_id}
    assert job_id in {line.get("job_id") for line in logged if line["service"] == "archiver"}
    (asked,) = [line for line in logged if line["service"] == "gateway" and line["event"] == "job requested"]
    assert asked["request_id"] == accepted.headers["x-request-id"]


def way(spans: dict[str, SeenSpan], last: SeenSpan) -> tuple[str, ...]:
    """Return the names of what caused a span, and its own."""
    names = [last.name]
    while last.parent_id in spans:
        last = spans[last.parent_id]
        names.append(last.name)
    return tuple(reversed(names))


def ways(spans: dict[str, SeenSpan], name: str) -> set[tuple[str, ...]]:
    return {way(spans, span) for span in spans.values() if span.name == name}


def log_lines(root: Path) -> list[str]:
    return [
        line for path in root.rglob("*.log") for line in path.read_text(errors="replace").splitlines() if "{" in line
    ]
