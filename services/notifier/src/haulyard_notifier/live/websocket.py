"""``WS /ws/jobs/{job_id}``: one JSON message a frame, from the server only.

The connection is accepted before the client is checked: a browser learns nothing from a refused handshake, but it
does see a close code. Pings are sent by the server that runs us.

It is plain ASGI, not a route of the framework: a socket that lives for hours should not hold what the framework makes
for a request, and of ten thousand sockets nearly all have nothing to send. So a socket's one task waits for the client
to leave, and sending is a task that exists only while there is something to send.
"""

import asyncio
import re
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, cast
from urllib.parse import parse_qsl

from litestar import Litestar
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from haulyard_chassis.identity import InvalidTokenError
from haulyard_chassis.logs import get_logger
from haulyard_notifier.live.access import InsufficientScopeError, seen_sequence
from haulyard_notifier.live.desk import REFUSED, SEND_TIMEOUT, LiveDesk, desk_of
from haulyard_notifier.live.hub import NoSuchJobError, TooManyConnectionsError
from haulyard_notifier.live.state import LiveState
from haulyard_notifier.live.watch import Ended, Watch
from haulyard_notifier.measures import CONNECTIONS, DROPPED, MESSAGES

log = get_logger(__name__)

_CONNECTIONS = CONNECTIONS.labels("websocket")
_MESSAGES = MESSAGES.labels("websocket")

_PATH = re.compile(r"/ws/jobs/([^/]+)/?")

CLOSE_DONE = 1000
CLOSE_BUG = 1011
CLOSE_RESTART = 1012
CLOSE_TRY_LATER = 1013
CLOSE_UNAUTHORIZED = 4401
CLOSE_FORBIDDEN = 4403
CLOSE_NOT_FOUND = 4404
CLOSE_TOO_MANY = 4429

_WHY = {
    Ended.RESTART: (CLOSE_RESTART, "this server restarts: come back with last_event_id"),
    Ended.OVER: (CLOSE_DONE, "the job is over"),
}
_BUG = (CLOSE_BUG, "this should not have happened: come back")
_TOO_SLOW = (CLOSE_TRY_LATER, "too slow: come back with last_event_id")

# The server raises a subclass of OSError when the client has left, and RuntimeError in the moment between closing the
# connection by itself (no answer to its pings) and noticing that it is closed.
_HAS_LEFT = (OSError, RuntimeError)


class JobSockets:
    """Serves the sockets, and leaves everything else to the application inside.

    Args:
        inner: what is around the framework's routes.
        app: where the desk is, once it has started.
    """

    def __init__(self, inner: ASGIApp, app: Litestar) -> None:
        self._inner = inner
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Handle one connection."""
        if scope["type"] == ScopeType.WEBSOCKET and (match := _PATH.fullmatch(scope["path"])):
            return _serve(scope, receive, send, match[1], desk_of(self._app))
        return self._inner(scope, receive, send)


async def _serve(scope: Scope, receive: Receive, send: Send, job_id: str, desk: LiveDesk) -> None:
    """Send the job's state, then each change; close when the job is over."""
    try:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
        watch = await _let_in(scope, send, job_id, desk)
        if watch is None:
            return
        cast("dict[str, Any]", scope).clear()  # it lives as long as the socket, and is needed no more
        sending = _Sending(watch, desk, send)
        desk.presence.enter(job_id, watch.id)
        _CONNECTIONS.inc()
        try:
            sending.go_on()
            while (await receive())["type"] != "websocket.disconnect":
                pass  # what clients send means nothing
        finally:
            _CONNECTIONS.dec()
            sending.stop()
            desk.presence.leave(job_id, watch.id)
            desk.hub.leave(watch)
    except _HAS_LEFT:
        log.debug("client has left", job_id=job_id)


async def _let_in(scope: Scope, send: Send, job_id: str, desk: LiveDesk) -> Watch | None:
    headers: dict[bytes, bytes] = dict(scope["headers"])
    query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
    authorization, last_seen = headers.get(b"authorization"), headers.get(b"last-event-id")
    try:
        return await desk.enter(
            job_id,
            ticket=query.get("ticket"),
            authorization=authorization.decode("latin-1") if authorization is not None else None,
            after=seen_sequence(
                last_seen.decode("latin-1") if last_seen is not None else None, query.get("last_event_id")
            ),
        )
    except REFUSED as error:
        await _close(send, *_refusal(error, job_id))
    except Exception:
        log.exception("client not let in", job_id=job_id)
        await _close(send, *_BUG)
    return None


def _refusal(error: Exception, job_id: str) -> tuple[int, str]:
    """Return how a client is told that it cannot be let in."""
    match error:
        case InvalidTokenError():
            return CLOSE_UNAUTHORIZED, "a valid ticket or bearer token is needed"
        case InsufficientScopeError():
            return CLOSE_FORBIDDEN, str(error)
        case NoSuchJobError():
            return CLOSE_NOT_FOUND, "there is no such job"
        case TooManyConnectionsError():
            log.info("client turned away", job_id=job_id, error=str(error))
            return CLOSE_TOO_MANY, "too many connections: close one, or poll"
        case _:
            log.warning("client turned away", job_id=job_id, error=repr(error))
            return CLOSE_TRY_LATER, "not available at the moment: come back"


async def _close(send: Send, code: int, reason: str) -> None:
    with suppress(*_HAS_LEFT):
        await send({"type": "websocket.close", "code": code, "reason": reason})


class _Sending:
    """Sends what a watch has to say, when it has.

    At most one message is under way, and at most one state waits: a slow client costs no more than a fast one.
    """

    __slots__ = ("_desk", "_send", "_task", "_timer", "_watch")

    def __init__(self, watch: Watch, desk: LiveDesk, send: Send) -> None:
        self._watch = watch
        self._desk = desk
        self._send = send
        self._task: asyncio.Task[bool] | None = None
        self._timer: asyncio.TimerHandle | None = None
        watch.listen(self.go_on)

    def go_on(self) -> None:
        """Begin to send if there is something, and nothing is being sent."""
        if self._task is not None:
            return
        loop = asyncio.get_running_loop()
        found = self._watch.look(loop.time())
        if isinstance(found, float):
            if self._timer is None:
                self._timer = loop.call_later(found, self._time_has_come)
        elif found is not None:
            self._task = loop.create_task(self._tell(found))
            self._task.add_done_callback(self._told)

    def stop(self) -> None:
        """Send nothing more."""
        self._watch.listen(None)
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _time_has_come(self) -> None:
        self._timer = None
        self.go_on()

    def _told(self, task: asyncio.Task[bool]) -> None:
        self._task = None
        if not task.cancelled() and task.result():
            self.go_on()

    async def _tell(self, found: LiveState | Ended) -> bool:
        """Send a state, or say goodbye; return whether more may be sent."""
        try:
            if isinstance(found, Ended):
                await self._say_goodbye(found)
                return False
            async with asyncio.timeout(SEND_TIMEOUT):
                await self._send({"type": "websocket.send", "bytes": None, "text": self._desk.message(found)[1]})
        except TimeoutError:
            log.info("client dropped, it does not read", job_id=self._watch.job_id)
            DROPPED.labels("websocket").inc()
            await _close(self._send, *_TOO_SLOW)
        except _HAS_LEFT:
            log.debug("client has left", job_id=self._watch.job_id)
        except Exception:
            log.exception("state not told", job_id=self._watch.job_id)
            await _close(self._send, *_BUG)
        else:
            _MESSAGES.inc()
            return True
        return False

    async def _say_goodbye(self, reason: Ended) -> None:
        if reason in _WHY:
            await _close(self._send, *_WHY[reason])
