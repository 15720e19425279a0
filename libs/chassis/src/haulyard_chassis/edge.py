"""The outermost layer: each request gets a trace and is counted, each answer the headers that keep browsers safe.

It is around the router and not inside it, so that a path that does not exist gets all of it, too.
"""

import re
import secrets
import time

import structlog
from litestar.datastructures import MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from haulyard_chassis.metrics import known_method, observe_request
from haulyard_chassis.trace import continue_trace, trace_id
from haulyard_chassis.tracing import SpanKind, Spanning, span

_TRACEPARENT = b"traceparent"
_REQUEST_ID = b"x-request-id"
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_UNTRACED = ("/health/", "/metrics")
"""Asked every few seconds by whoever watches us: not worth a trace."""
_FORWARDED_PROTO = b"x-forwarded-proto"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    # Pages of ours may hold links with tickets or signatures; no other site is told where a visitor came from.
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
# Two years, as the lists that browsers ship ask for. Only by TLS: elsewhere it must be ignored (RFC 6797, section 7.2).
_HSTS = {"Strict-Transport-Security": "max-age=63072000; includeSubDomains"}
_NO_ANSWER = 500


class Edge:
    """Wraps the application.

    A request without a valid ``traceparent`` starts a new trace. Whoever looks at the header further inside (problems,
    the publisher of a job) finds one that is valid, and all that is logged meanwhile carries the trace's id. So it does
    the request's: the ``X-Request-ID`` that a proxy in front has given it, or one of ours; the answer has it, too.

    Args:
        app: what is wrapped.
        behind_tls: ``X-Forwarded-Proto`` is set by a proxy of ours and can be believed.
    """

    def __init__(self, app: ASGIApp, *, behind_tls: bool = False) -> None:
        self._app = app
        self._behind_tls = behind_tls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        if scope["path"].startswith(_UNTRACED):
            await self._handle(scope, receive, send, continue_trace(_header(scope, _TRACEPARENT)), None)
            return
        received, method = _header(scope, _TRACEPARENT), known_method(scope["method"])
        with span(
            method,
            kind=SpanKind.SERVER,
            parent=received,
            attributes={"http.request.method": method, "url.path": scope["path"]},
        ) as traced:
            await self._handle(scope, receive, send, traced.traceparent or continue_trace(received), traced)

    async def _handle(
        self, scope: HTTPScope, receive: Receive, send: Send, traceparent: str, traced: Spanning | None
    ) -> None:
        begun = time.perf_counter()
        scope["headers"] = [
            *(header for header in scope["headers"] if header[0] != _TRACEPARENT),
            (_TRACEPARENT, traceparent.encode()),
        ]
        request_id = _request_id(scope)
        added = _HEADERS | _HSTS if self._came_by_tls(scope) else _HEADERS
        answered = None

        async def send_safely(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                headers = MutableScopeHeaders.from_message(message)
                for name, value in added.items():
                    headers.setdefault(name, value)
                headers.setdefault("X-Request-ID", request_id)
                answered = message["status"]
                observe_request(scope, answered, time.perf_counter() - begun)
            await send(message)

        with structlog.contextvars.bound_contextvars(trace_id=trace_id(traceparent), request_id=request_id):
            try:
                await self._app(scope, receive, send_safely)
            finally:
                if answered is None:
                    observe_request(scope, _NO_ANSWER, time.perf_counter() - begun)
                if traced is not None:
                    _describe(traced, scope, answered or _NO_ANSWER, request_id)

    def _came_by_tls(self, scope: Scope) -> bool:
        if scope["scheme"] == "https":
            return True
        return self._behind_tls and [value for name, value in scope["headers"] if name == _FORWARDED_PROTO] == [
            b"https"
        ]


def _header(scope: Scope, wanted: bytes) -> str | None:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), None)


def _request_id(scope: Scope) -> str:
    given = _header(scope, _REQUEST_ID)
    return given if given is not None and _ID.fullmatch(given) else secrets.token_hex(8)


def _describe(traced: Spanning, scope: HTTPScope, status: int, request_id: str) -> None:
    """Say of a request's span what is known when it was answered. Its query may hold a ticket, and stays away."""
    route = scope.get("path_template")
    if route:
        traced.rename(f"{known_method(scope['method'])} {route}")
        traced.set("http.route", str(route))
    traced.set("http.response.status_code", status)
    traced.set("haulyard.request_id", request_id)
    if status >= _NO_ANSWER:
        traced.fail(f"answered {status}")
