"""The outermost layer: each request gets a trace, each answer the headers that keep browsers safe.

It is around the router and not inside it, so that a path that does not exist gets both, too.
"""

import structlog
from litestar.datastructures import MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from haulyard_chassis.trace import continue_trace, trace_id

_TRACEPARENT = b"traceparent"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    # Pages of ours may hold links with tickets or signatures; no other site is told where a visitor came from.
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}


class Edge:
    """Wraps the application.

    A request without a valid ``traceparent`` starts a new trace. Whoever looks at the header further inside (problems,
    the publisher of a job) finds one that is valid, and all that is logged meanwhile carries the trace's id.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        received = next((value.decode("latin-1") for name, value in scope["headers"] if name == _TRACEPARENT), None)
        traceparent = continue_trace(received)
        others = [header for header in scope["headers"] if header[0] != _TRACEPARENT]
        scope["headers"] = [*others, (_TRACEPARENT, traceparent.encode())]

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableScopeHeaders.from_message(message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        with structlog.contextvars.bound_contextvars(trace_id=trace_id(traceparent)):
            await self._app(scope, receive, send_safely)
