"""``WS /ws/jobs/{job_id}``: one JSON message a frame, from the server only.

The connection is accepted before the client is checked: a browser learns nothing from a refused handshake, but it
does see a close code. Pings are sent by the server that runs us.
"""

import asyncio
from typing import Any

from litestar import WebSocket, websocket
from litestar.exceptions import WebSocketDisconnect
from litestar.params import FromPath

from haulyard_chassis.identity import InvalidTokenError, KeysUnavailableError
from haulyard_chassis.job_state import JobStateUnavailableError
from haulyard_chassis.logs import get_logger
from haulyard_contracts import encode
from haulyard_notifier.live.access import seen_sequence
from haulyard_notifier.live.desk import SEND_TIMEOUT, LiveDesk, desk_of
from haulyard_notifier.live.hub import EventsUnavailableError, NoSuchJobError
from haulyard_notifier.live.watch import Ended, Watch

log = get_logger(__name__)

Socket = WebSocket[Any, Any, Any]

CLOSE_DONE = 1000
CLOSE_RESTART = 1012
CLOSE_TRY_LATER = 1013
CLOSE_UNAUTHORIZED = 4401
CLOSE_NOT_FOUND = 4404

# The server raises a subclass of OSError when the client has left, and RuntimeError in the moment between closing the
# connection by itself (no answer to its pings) and noticing that it is closed.
_HAS_LEFT = (WebSocketDisconnect, OSError, RuntimeError)


@websocket("/ws/jobs/{job_id:str}")
async def job_socket(socket: Socket, job_id: FromPath[str]) -> None:
    """Send the job's state, then each change; close when the job is over."""
    try:
        await socket.accept()
        await _serve(socket, job_id, desk_of(socket.app))
    except _HAS_LEFT:
        log.debug("client has left", job_id=job_id)


async def _serve(socket: Socket, job_id: str, desk: LiveDesk) -> None:
    try:
        watch = await desk.enter(
            job_id,
            ticket=socket.query_params.get("ticket"),
            authorization=socket.headers.get("authorization"),
            after=seen_sequence(socket.headers.get("last-event-id"), socket.query_params.get("last_event_id")),
        )
    except InvalidTokenError:
        await socket.close(CLOSE_UNAUTHORIZED, "a valid ticket or bearer token is needed")
    except NoSuchJobError:
        await socket.close(CLOSE_NOT_FOUND, "there is no such job")
    except (JobStateUnavailableError, EventsUnavailableError, KeysUnavailableError) as error:
        log.warning("client turned away", job_id=job_id, error=repr(error))
        await socket.close(CLOSE_TRY_LATER, "not available at the moment, try again")
    else:
        desk.presence.enter(job_id, watch.id)
        listener = asyncio.create_task(_listen(socket, watch))
        try:
            await _relay(socket, watch, desk)
        finally:
            listener.cancel()
            desk.presence.leave(job_id, watch.id)
            desk.hub.leave(watch)


async def _relay(socket: Socket, watch: Watch, desk: LiveDesk) -> None:
    while True:
        state = await watch.next()
        if state is None or state is Ended.GONE:
            return
        if state is Ended.RESTART:
            await socket.close(CLOSE_RESTART, "service restart")
            return
        if state is Ended.OVER:
            await socket.close(CLOSE_DONE, "the job is over")
            return
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                await socket.send_text(encode(desk.message(state)))
        except TimeoutError:
            log.info("client dropped, it does not read", job_id=watch.job_id)
            return


async def _listen(socket: Socket, watch: Watch) -> None:
    """Take what the client sends, which means nothing, until it leaves."""
    try:
        while (await socket.receive())["type"] != "websocket.disconnect":
            pass
    except _HAS_LEFT:
        log.debug("client has left", job_id=watch.job_id)
    watch.end(Ended.GONE)
