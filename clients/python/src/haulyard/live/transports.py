"""The three ways to hear of a job, each as an async iterator of what the server says until `Lost` is raised.

The API has the last word: whatever WebSocket and event stream refuse (a token, a job), they only count as blocked, and
the status request after them says what is wrong as a proper error.
"""

import asyncio
from collections.abc import AsyncGenerator
from http import HTTPStatus
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import msgspec

from haulyard.errors import ApiError, ConnectionFailedError, NotFoundError
from haulyard.http import FAULTS, Http
from haulyard.live.ladder import Loss
from haulyard.live.sse import EventStreamParser

_HANDSHAKE = 15.0
"""Seconds for a WebSocket to be opened."""
_PING = 20.0
"""Seconds between our pings; a WebSocket whose answer is missing for half of that is dead."""
_CLOSING = aiohttp.ClientWSTimeout(ws_close=1.0)
"""Seconds in which the server may say goodbye, when we leave."""
_MAX_MESSAGE = 1024 * 1024
_SILENCE = 45.0
"""Seconds without a byte after which an event stream is dead; the server sends comments far more often."""
_CLOSE_UNAUTHORIZED = 4401
_TRY_LATER = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
_COME_BACK = frozenset(
    {
        aiohttp.WSCloseCode.GOING_AWAY,
        aiohttp.WSCloseCode.ABNORMAL_CLOSURE,
        aiohttp.WSCloseCode.INTERNAL_ERROR,
        aiohttp.WSCloseCode.SERVICE_RESTART,
        aiohttp.WSCloseCode.TRY_AGAIN_LATER,
        4429,  # too many connections
    }
)


class Lost(Exception):  # noqa: N818 - it is how every connection ends, not an error
    """The connection tells nothing more."""

    def __init__(self, loss: Loss, reason: str, *, needs_links: bool = False) -> None:
        super().__init__(reason)
        self.loss = loss
        self.needs_links = needs_links
        """Whether the ticket is no longer good."""


class LiveLinks(msgspec.Struct, frozen=True, kw_only=True):
    """Where a job can be followed."""

    websocket_url: str
    events_url: str
    headers: dict[str, str] = {}
    """What to show there beside the ticket that an address may hold."""

    def __repr__(self) -> str:
        return "LiveLinks(…)"


async def live_links(http: Http, job_id: str) -> LiveLinks:
    """Return links with a fresh ticket; of a server that gives none, those of its own address, with our token.

    Raises:
        Lost: the server does not answer now.
    """
    job = quote(job_id, safe="")
    try:
        return (await http.request("GET", f"/v1/jobs/{job}/live")).decode(LiveLinks)
    except NotFoundError:
        return LiveLinks(
            websocket_url=f"{http.configuration.url}/ws/jobs/{job}",
            events_url=f"{http.configuration.url}/v1/jobs/{job}/events",
            headers=http.authorization,
        )
    except (ApiError, ConnectionFailedError) as error:
        raise Lost(Loss.BROKEN, str(error)) from error


async def websocket_messages(http: Http, links: LiveLinks, *, after: int) -> AsyncGenerator[str, None]:
    """Yield the messages of a WebSocket.

    Raises:
        Lost: always, in the end.
    """
    # With the scheme of HTTP, because then the proxies of HTTP are used.
    url = _resumed(links.websocket_url, after)
    url = f"http{url.removeprefix('ws')}" if url.startswith("ws") else url
    try:
        async with asyncio.timeout(_HANDSHAKE):
            socket = await http.session.ws_connect(
                url, headers=links.headers, heartbeat=_PING, timeout=_CLOSING, max_msg_size=_MAX_MESSAGE
            )
    except aiohttp.WSServerHandshakeError as error:
        raise _refused("WebSocket", error.status) from error
    except (*FAULTS, ValueError) as error:
        raise Lost(Loss.BROKEN, f"no WebSocket: {error!r}") from error
    async with socket:
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                yield message.data
    code = socket.close_code
    if code == aiohttp.WSCloseCode.OK:
        raise Lost(Loss.ENDED, "the server has told all")
    void = code == _CLOSE_UNAUTHORIZED
    broken = code is None or void or code in _COME_BACK
    raise Lost(Loss.BROKEN if broken else Loss.BLOCKED, f"the WebSocket was closed with {code}", needs_links=void)


async def event_stream_messages(http: Http, links: LiveLinks, *, after: int) -> AsyncGenerator[str, None]:
    """Yield the messages of an event stream.

    Raises:
        Lost: always, in the end.
    """
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store", **links.headers}
    if after:
        headers["Last-Event-ID"] = str(after)
    try:
        async with http.session.get(
            links.events_url,
            headers=headers,
            allow_redirects=not links.headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=_SILENCE),
        ) as answer:
            if answer.status == HTTPStatus.NO_CONTENT:
                raise Lost(Loss.ENDED, "the server has told all")
            if answer.status != HTTPStatus.OK or answer.content_type != "text/event-stream":
                raise _refused("event stream", answer.status)
            parser = EventStreamParser()
            async for chunk in answer.content.iter_any():
                for event in parser.feed(chunk):
                    yield event.data
    except (*FAULTS, ValueError) as error:
        raise Lost(Loss.BROKEN, f"the event stream broke: {error!r}") from error
    raise Lost(Loss.BROKEN, "the event stream ended")


def _refused(what: str, status: int) -> Lost:
    void = status == HTTPStatus.UNAUTHORIZED
    loss = Loss.BROKEN if void or status in _TRY_LATER else Loss.BLOCKED
    return Lost(loss, f"the {what} was refused with {status}", needs_links=void)


def _resumed(url: str, after: int) -> str:
    if not after:
        return url
    separator = "&" if urlsplit(url).query else "?"
    return f"{url}{separator}{urlencode({'last_event_id': after})}"
