"""What every answer of every service has: safe headers, a trace, a place in the metrics."""

import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import structlog
from litestar import Litestar, Request, Response, get, post
from litestar.params import FromPath
from litestar.response import Stream
from litestar.testing import TestClient
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as open_metrics_parser
from prometheus_client.parser import text_string_to_metric_families

from haulyard_chassis import metrics
from haulyard_chassis.app import make_app
from haulyard_chassis.edge import Edge
from haulyard_chassis.health import Health
from haulyard_chassis.metrics import REGISTRY, counter, gauge, histogram
from support.spans import Spans, parent_id, span_id, trace_id, tracing_in_memory


@get("/")
async def root() -> str:
    return "root"


@get("/things/{thing:str}/parts/{part:int}")
async def thing(thing: FromPath[str], part: FromPath[int]) -> str:
    return f"{thing} {part}"


@post("/fail")
async def fail() -> None:
    raise RuntimeError("a bug")


@get("/framed")
async def framed() -> Response[str]:
    return Response("page", headers={"X-Frame-Options": "SAMEORIGIN"})


@get("/stream")
async def stream() -> Stream:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x"

    return Stream(chunks())


@asynccontextmanager
async def lifespan(_: Litestar) -> Any:
    yield


def client_of(**more: Any) -> TestClient[Litestar]:
    app = make_app(
        title="Tiny",
        description="For tests.",
        routes=[root, thing, fail, framed, stream, seen_trace],
        health=Health({}),
        lifespan=lifespan,
        cors_origins=["https://page.example"],
        **more,
    )
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture
def client() -> Iterator[TestClient[Litestar]]:
    with client_of() as running:
        yield running


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def requests(route: str, status: str, method: str = "GET") -> float:
    return sample("haulyard_http_requests_total", method=method, route=route, status=status)


@pytest.mark.parametrize("path", ["/", "/nowhere", "/fail", "/health/live", "/metrics", "/docs/openapi.json"])
def test_every_answer_is_safe_for_browsers_and_names_no_software(client: TestClient[Litestar], path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert not {"server", "x-powered-by", "strict-transport-security"} & set(headers)


def test_an_endpoint_may_know_better(client: TestClient[Litestar]) -> None:
    assert client.get("/framed").headers["x-frame-options"] == "SAMEORIGIN"


@pytest.mark.parametrize(
    ("base", "behind_tls", "forwarded", "expected"),
    [
        ("https://testserver.local", False, None, True),
        ("http://testserver.local", False, None, False),
        ("http://testserver.local", False, "https", False),
        ("http://testserver.local", True, "https", True),
        ("http://testserver.local", True, "http", False),
        ("http://testserver.local", True, "https, http", False),
        ("http://testserver.local", True, None, False),
    ],
)
def test_browsers_are_told_to_stay_with_tls_once_they_use_it(
    base: str, forwarded: str | None, *, behind_tls: bool, expected: bool
) -> None:
    with client_of(behind_tls=behind_tls) as client:
        answer = client.get(f"{base}/nowhere", headers={"X-Forwarded-Proto": forwarded} if forwarded else {})
    assert answer.headers.get("strict-transport-security", "").startswith("max-age=63072000") == expected


def test_pages_of_allowed_origins_may_send_and_read_what_the_api_has(client: TestClient[Litestar]) -> None:
    asked = {"Origin": "https://page.example", "Access-Control-Request-Method": "DELETE"}
    for header in ("If-None-Match", "Range", "If-Range", "Idempotency-Key", "Authorization", "Last-Event-ID"):
        allowed = client.options("/fail", headers=asked | {"Access-Control-Request-Headers": header})
        assert allowed.status_code == 204
        assert header.lower() in allowed.headers["access-control-allow-headers"].lower()
    assert {"GET", "PUT", "POST", "DELETE"} <= set(allowed.headers["access-control-allow-methods"].split(", "))
    exposed = client.get("/", headers={"Origin": "https://page.example"}).headers["access-control-expose-headers"]
    assert {
        "ratelimit", "ratelimit-policy", "retry-after", "etag", "link", "deprecation", "sunset", "warning", "location",
        "content-range",
    } <= set(exposed.lower().split(", "))  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", "/", "/", "2xx"),
        ("GET", "/things/a/parts/1", "/things/{thing}/parts/{part}", "2xx"),
        ("GET", "/things/a/parts/x", "unmatched", "4xx"),
        ("GET", "/nowhere/at/all", "unmatched", "4xx"),
        ("POST", "/fail", "/fail", "5xx"),
        ("GET", "/stream", "/stream", "2xx"),
        ("GET", "/health/ready", "/health/ready", "2xx"),
    ],
)
def test_a_request_is_counted_by_its_route(
    client: TestClient[Litestar], method: str, path: str, route: str, status: str
) -> None:
    before = requests(route, status, method)
    duration = sample("haulyard_http_request_duration_seconds_count", method=method, route=route)
    client.request(method, path)
    assert requests(route, status, method) == before + 1
    assert sample("haulyard_http_request_duration_seconds_count", method=method, route=route) == duration + 1


def test_strangers_cannot_make_up_labels(client: TestClient[Litestar]) -> None:
    client.get("/nowhere")
    client.request("BREW", "/")
    before = len(metrics._children)
    for number in range(50):
        client.get(f"/nowhere/{number}")
        client.request(f"BREW{number}", "/")
    assert len(metrics._children) == before


async def test_a_request_that_got_no_answer_is_an_error() -> None:
    async def breaks_off(_: Any, __: Any, ___: Any) -> None:
        raise ConnectionError

    scope: Any = {"type": "http", "method": "GET", "scheme": "http", "headers": [], "path": "/"}
    before = requests("unmatched", "5xx")
    with pytest.raises(ConnectionError):
        await Edge(breaks_off)(scope, None, None)  # type: ignore[arg-type]
    assert requests("unmatched", "5xx") == before + 1


open_metrics_families: Callable[[str], Iterator[Metric]] = open_metrics_parser.text_string_to_metric_families

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@get("/trace")
async def seen_trace(request: Request[Any, Any, Any]) -> dict[str, str]:
    bound = structlog.contextvars.get_contextvars()
    return {"traceparent": request.headers["traceparent"], **{name: bound[name] for name in ("trace_id", "request_id")}}


@pytest.fixture
def spans() -> Iterator[Spans]:
    with tracing_in_memory() as kept:
        yield kept


def test_a_request_is_a_span_of_its_callers_trace(spans: Spans) -> None:
    with client_of() as client:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        seen = client.get("/trace?ticket=secret", headers=headers).json()
    made = spans.one("GET /trace")
    assert (trace_id(made), parent_id(made)) == (TRACE, PARENT)
    assert seen["traceparent"] == f"00-{TRACE}-{span_id(made)}-01"  # what follows from it is its child
    assert seen["trace_id"] == TRACE
    assert made.attributes == {
        "http.request.method": "GET",
        "url.path": "/trace",
        "http.route": "/trace",
        "http.response.status_code": 200,
        "haulyard.request_id": seen["request_id"],
    }


def test_a_bug_is_a_span_that_failed(spans: Spans) -> None:
    with client_of() as client:
        problem = client.post("/fail").json()
    made = spans.one("POST /fail")
    assert not made.status.is_ok
    assert problem["trace_id"] == trace_id(made)


def test_who_watches_us_is_not_traced(spans: Spans) -> None:
    with client_of() as client:
        for path in ("/health/live", "/health/ready", "/metrics"):
            client.get(path)
        client.request("BREW", "/nowhere")
    assert spans.names() == ["other"]


def test_open_metrics_name_a_trace_as_an_example(spans: Spans) -> None:
    with client_of() as client:
        client.get("/trace", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
        answer = client.get(
            "/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1"}
        )
        plain = client.get("/metrics")
    assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    examples = [
        sample.exemplar.labels
        for family in open_metrics_families(answer.text)
        for sample in family.samples
        if sample.labels.get("route") == "/trace" and sample.exemplar
    ]
    assert {"trace_id": TRACE, "span_id": span_id(spans.one("GET /trace"))} in examples
    assert plain.headers["content-type"].startswith("text/plain")
    assert TRACE not in plain.text


@pytest.mark.parametrize("given", ["req-1", "0123456789abcdef.A_b"])
def test_a_request_keeps_the_id_that_a_proxy_gave_it(client: TestClient[Litestar], given: str) -> None:
    answer = client.get("/trace", headers={"X-Request-ID": given})
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == given


@pytest.mark.parametrize("given", [None, "", "a b", "<script>", "x" * 65])
def test_else_it_gets_one(client: TestClient[Litestar], given: str | None) -> None:
    ids = [
        client.get("/nowhere", headers={} if given is None else {"X-Request-ID": given}).headers["x-request-id"]
        for _ in range(2)
    ]
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in ids)
    assert ids[0] != ids[1]


def test_metrics_are_what_prometheus_reads(client: TestClient[Litestar]) -> None:
    client.get("/")
    answer = client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert families["haulyard_http_requests"].type == "counter"
    assert families["haulyard_http_request_duration_seconds"].type == "histogram"
    assert families["process_resident_memory_bytes"].samples[0].value > 0
    assert "/metrics" not in client.get("/docs/openapi.json").json()["paths"]


def test_metrics_can_be_off() -> None:
    with client_of(metrics_enabled=False) as client:
        assert client.get("/metrics").status_code == 404


def test_a_metric_is_declared_where_it_is_counted() -> None:
    things = counter("test_things_total", "Things.", ("kind",))
    waiting = gauge("test_waiting", "Things that wait.")
    sizes = histogram("test_size_bytes", "Sizes.", buckets=(1, 10))
    things.labels("a").inc(2)
    waiting.set(3)
    sizes.observe(5)
    assert sample("haulyard_test_things_total", kind="a") == 2
    assert sample("haulyard_test_waiting") == 3
    assert sample("haulyard_test_size_bytes_bucket", le="1.0") == 0
    assert sample("haulyard_test_size_bytes_bucket", le="10.0") == 1


@pytest.mark.parametrize(
    ("declare", "name"),
    [
        (counter, "things"),
        (counter, "haulyard_things_total"),
        (counter, "Things_total"),
        (gauge, "1st"),
        (gauge, "a-b"),
        (histogram, "duration"),
        (histogram, "duration_ms"),
    ],
)
def test_a_name_without_unit_or_with_our_prefix_is_refused(declare: Any, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        declare(name, "x")


def test_bounds_go_up() -> None:
    for bounds in (metrics.SECONDS, metrics.LONG_SECONDS):
        assert all(lower < upper for lower, upper in pairwise(bounds))
