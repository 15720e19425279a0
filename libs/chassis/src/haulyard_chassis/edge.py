"""The outermost layer: each request gets a trace and is counted, each answer the headers that keep browsers safe.

It is around the router and not inside it, so that a path that does not exist gets all of it, too.
"""

import time

import structlog
from litestar.datastructures import MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from haulyard_chassis.metrics import observe_request
from haulyard_chassis.trace import continue_trace, trace_id

_TRACEPARENT = b"traceparent"
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
    the publisher of a job) finds one that is valid, and all that is logged meanwhile carries the trace's id.

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
        begun = time.perf_counter()
        traceparent = self._trace(scope)
        added = _HEADERS | _HSTS if self._came_by_tls(scope) else _HEADERS
        answered = False

        async def send_safely(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                headers = MutableScopeHeaders.from_message(message)
                for name, value in added.items():
                    headers.setdefault(name, value)
                answered = True
                observe_request(scope, message["status"], time.perf_counter() - begun)
            await send(message)

        with structlog.contextvars.bound_contextvars(trace_id=trace_id(traceparent)):
            try:
                await self._app(scope, receive, send_safely)
            finally:
                if not answered:
                    observe_request(scope, _NO_ANSWER, time.perf_counter() - begun)

    def _trace(self, scope: Scope) -> str:
        received = next((value.decode("latin-1") for name, value in scope["headers"] if name == _TRACEPARENT), None)
        traceparent = continue_trace(received)
        others = [header for header in scope["headers"] if header[0] != _TRACEPARENT]
        scope["headers"] = [*others, (_TRACEPARENT, traceparent.encode())]
        return traceparent

    def _came_by_tls(self, scope: Scope) -> bool:
        if scope["scheme"] == "https":
            return True
        return self._behind_tls and [value for name, value in scope["headers"] if name == _FORWARDED_PROTO] == [
            b"https"
        ]
