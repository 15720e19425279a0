"""Metrics for Prometheus: one registry a process, served at ``/metrics``; declared once, where they are counted.

Names begin with ``haulyard_`` and end with their unit: ``_seconds``, ``_bytes``, ``_ratio``; what only grows also ends
with ``_total``. Labels have few values: never a user, a job or a path that somebody made up.

Every service answers for its endpoints with rate, errors and duration, which the outermost layer counts.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.types import Scope
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.openmetrics import exposition as openmetrics

from haulyard_chassis.tracing import exemplar

REGISTRY = CollectorRegistry()
"""Everything that this process counts."""

ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

MEDIA_TYPE = "text/plain; version=0.0.4"
"""The framework adds the charset."""
OPEN_MEDIA_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Bounds for what should take milliseconds; 0.1 s is the goal for answers."""
LONG_SECONDS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0)
"""Bounds for what works in the background."""

SIZE_BYTES = tuple(1024.0**2 * 4**power for power in range(10))
"""Bounds for archives: 1 MiB to 256 GiB."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")


def _full_name(name: str) -> str:
    if not _NAME.fullmatch(name) or name.startswith("haulyard_"):
        raise ValueError(f"{name!r} is no name of a metric: the prefix comes by itself")
    return f"haulyard_{name}"


def counter(name: str, description: str, labels: Sequence[str] = ()) -> Counter:
    """Declare what only grows; ``name`` ends with ``_total``."""
    if not name.endswith("_total"):
        raise ValueError(f"a counter's name ends with _total: {name!r}")
    return Counter(_full_name(name), description, labels, registry=REGISTRY)


def gauge(name: str, description: str, labels: Sequence[str] = ()) -> Gauge:
    """Declare what goes up and down."""
    return Gauge(_full_name(name), description, labels, registry=REGISTRY)


def histogram(
    name: str, description: str, labels: Sequence[str] = (), *, buckets: Sequence[float] = SECONDS
) -> Histogram:
    """Declare what is spread over a range; ``name`` ends with the unit of ``buckets``."""
    if not name.endswith(("_seconds", "_bytes", "_ratio")):
        raise ValueError(f"a histogram's name ends with its unit: {name!r}")
    return Histogram(_full_name(name), description, labels, buckets=buckets, registry=REGISTRY)


_REQUESTS = counter("http_requests_total", "Requests that were answered.", ("method", "route", "status"))
_DURATION = histogram(
    "http_request_duration_seconds", "Time until the answer begins; streams go on after it.", ("method", "route")
)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_UNMATCHED = "unmatched"
"""The route of a path that does not exist: anybody can make up any number of them."""

# The children by their labels: looking one up in the library costs as much as all the rest together.
_children: dict[tuple[str, str, int], tuple[Any, Any]] = {}


def known_method(method: str) -> str:
    """Return a request's method, or ``other`` for what nobody has heard of: anybody can make those up, too."""
    return method if method in _METHODS else "other"


def observe_request(scope: Scope, status: int, seconds: float) -> None:
    """Count one request.

    Args:
        scope: of the request, after it was routed.
        status: of the answer.
        seconds: until the answer began.
    """
    key = (
        known_method(str(scope.get("method"))),
        str(scope.get("path_template") or _UNMATCHED),
        status // 100,
    )
    children = _children.get(key)
    if children is None:
        children = _REQUESTS.labels(*key[:2], f"{key[2]}xx"), _DURATION.labels(*key[:2])
        _children[key] = children
    children[0].inc()
    children[1].observe(seconds, exemplar())


_open_metrics: Callable[[CollectorRegistry], bytes] = openmetrics.generate_latest


def metrics_route() -> HTTPRouteHandler:
    """Return the endpoint for a Litestar application."""

    @get("/metrics", include_in_schema=False, sync_to_thread=False)
    def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Answer in the format that a scraper asks for; only OpenMetrics has exemplars, which name traces."""
        open_metrics = "application/openmetrics-text" in request.headers.get("accept", "")
        text = _open_metrics(REGISTRY) if open_metrics else generate_latest(REGISTRY)
        media_type = OPEN_MEDIA_TYPE if open_metrics else MEDIA_TYPE
        return Response(text, media_type=media_type, headers={"Cache-Control": "no-store", "Vary": "Accept"})

    return metrics
