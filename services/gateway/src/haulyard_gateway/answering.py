"""Headers that belong to a request whatever its answer is, an error too: what is left of a limit, what is deprecated.

They are noted while the request is handled and put into the answer when that is sent.
"""

from collections.abc import Mapping
from typing import Any

from litestar.datastructures import MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

_NOTED = "haulyard.headers"


def note_headers(scope: Any, headers: Mapping[str, str]) -> None:
    """Have these headers in the answer, whatever that will be."""
    noted: dict[str, str] = scope["state"].setdefault(_NOTED, {})
    noted.update(headers)


def with_noted_headers(app: ASGIApp) -> ASGIApp:
    """Wrap the API, for ``Router(middleware=…)``."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            noted = scope["state"].get(_NOTED)
            if noted and message["type"] == "http.response.start":
                headers = MutableScopeHeaders.from_message(message)
                for name, value in noted.items():
                    headers.add(name, value)
            await send(message)

        await app(scope, receive, send_with_headers)

    return wrapped
