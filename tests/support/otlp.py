"""A collector of OpenTelemetry spans: takes OTLP over HTTP (protobuf) and keeps what it gets."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

PATIENCE = 90.0
"""Seconds to wait for spans that must come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSpan:
    """A span as it came in; ids in hexadecimal digits."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    service: str
    failed: bool
    attributes: dict[str, str | int | float | bool]
    links: tuple[str, ...]


@dataclass
class Collector:
    """Keeps spans; answers 503 while it is told to be away."""

    url: str = ""
    spans: list[SeenSpan] = field(default_factory=list)
    is_away: bool = False
    refused: int = 0
    _came: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def handle(self, request: web.Request) -> web.Response:
        assert request.headers["Content-Type"] == "application/x-protobuf"
        body = await request.read()
        async with self._came:
            if self.is_away:
                self.refused += 1
            else:
                self.spans += seen_spans(body)
            self._came.notify_all()
        return web.Response(status=503 if self.is_away else 200)

    async def wait(self, is_enough: Callable[[list[SeenSpan]], bool]) -> list[SeenSpan]:
        """Return the spans that came, once they are enough."""
        async with asyncio.timeout(PATIENCE), self._came:
            await self._came.wait_for(lambda: is_enough(self.spans))
            return list(self.spans)

    async def wait_refused(self) -> None:
        """Return once something was refused."""
        async with asyncio.timeout(PATIENCE), self._came:
            await self._came.wait_for(lambda: self.refused > 0)


@asynccontextmanager
async def running_collector() -> AsyncIterator[Collector]:
    """Run a collector in the test's event loop."""
    collector = Collector()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/traces", collector.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield collector
    finally:
        await runner.cleanup()


def seen_spans(body: bytes) -> list[SeenSpan]:
    """Read an export request."""
    request = ExportTraceServiceRequest.FromString(body)
    return [
        _seen(span, str(_values(resource.resource.attributes).get("service.name", "")))
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _seen(span: Span, service: str) -> SeenSpan:
    return SeenSpan(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        name=span.name,
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        service=service,
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        attributes=_values(span.attributes),
        links=tuple(link.trace_id.hex() for link in span.links),
    )


def _values(attributes: Iterable[KeyValue]) -> dict[str, str | int | float | bool]:
    return {each.key: _value(each.value) for each in attributes}


def _value(value: AnyValue) -> str | int | float | bool:
    kind = value.WhichOneof("value")
    found: str | int | float | bool = getattr(value, kind) if kind is not None else ""
    return found
