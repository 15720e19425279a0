"""``GET /v1/jobs/{job_id}/events``: the same messages as server-sent events (HTML standard, section 9.2).

The response is our own, not the framework's: it sends comments while nothing happens, so that no proxy takes the
connection for dead, and it drops a client that does not read.
"""

import asyncio
from typing import Annotated, Any

from litestar import Request, get
from litestar.datastructures import ResponseHeader
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, HeaderParameter, QueryParameter
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Send

from haulyard_chassis.identity import JOBS_READ, InvalidTokenError
from haulyard_chassis.logs import get_logger
from haulyard_chassis.problems import (
    ForbiddenError,
    NotFoundError,
    Problem,
    ProblemError,
    UnauthorizedError,
    UnavailableError,
)
from haulyard_notifier.live.access import InsufficientScopeError, seen_sequence
from haulyard_notifier.live.desk import REFUSED, RETRY_AFTER, SEND_TIMEOUT, LiveDesk, desk_of, reconnect_delay
from haulyard_notifier.live.hub import NoSuchJobError, TooManyConnectionsError
from haulyard_notifier.live.messages import sse_event
from haulyard_notifier.live.watch import Ended, Watch
from haulyard_notifier.measures import CONNECTIONS, DROPPED, MESSAGES

log = get_logger(__name__)

_CONNECTIONS = CONNECTIONS.labels("event_stream")
_MESSAGES = MESSAGES.labels("event_stream")

_HEARTBEAT = b": heartbeat\n\n"


class TooManyStreamsError(ProblemError):
    """You, or the job, have as many connections as there may be; close one, or poll the status."""

    status = 429
    slug = "too-many-connections"
    title = "Too many connections"


_HEADERS = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would hold events back
}


@get(
    "/v1/jobs/{job_id:str}/events",
    tags=["Jobs"],
    summary="Follow a job as server-sent events",
    description=(
        "First the state as it is, then each change, as `status_update`, `completed` or `error`; the stream ends with "
        "the job. The event id is the job's sequence: a client that sends the last one it saw as `Last-Event-ID` is "
        "told only what is newer. A client that knows how the job ended gets 204, so that it stops asking."
    ),
    response_headers=[
        ResponseHeader(name=name, description="Not to be stored or buffered.", documentation_only=True)
        for name in _HEADERS
    ],
    responses={
        200: ResponseSpec(
            str, description="A stream of events.", media_type="text/event-stream", generate_examples=False
        ),
        204: ResponseSpec(None, description="The client has seen how the job ended.", generate_examples=False),
        401: ResponseSpec(Problem, description="No valid ticket or token.", generate_examples=False),
        403: ResponseSpec(Problem, description="The token does not grant `jobs:read`.", generate_examples=False),
        404: ResponseSpec(Problem, description="No such job for this user.", generate_examples=False),
        429: ResponseSpec(Problem, description="Too many connections already.", generate_examples=False),
        503: ResponseSpec(Problem, description="Not available at the moment.", generate_examples=False),
    },
)
async def job_events(
    request: Request[Any, Any, Any],
    job_id: FromPath[str],
    ticket: Annotated[
        str | None, QueryParameter(description="A ticket for this job, instead of a bearer token.")
    ] = None,
    last_event_id: Annotated[
        str | None, QueryParameter(description="As `Last-Event-ID`, for clients that cannot set it.")
    ] = None,
    last_seen: Annotated[
        str | None, HeaderParameter(name="Last-Event-ID", description="The last event that was seen.")
    ] = None,
) -> ASGIResponse:
    """Send the job's state, then each change, as server-sent events."""
    desk = desk_of(request.app)
    try:
        watch = await desk.enter(
            job_id,
            ticket=ticket,
            authorization=request.headers.get("authorization"),
            after=seen_sequence(last_seen, last_event_id),
        )
    except REFUSED as error:
        raise _refusal(error, job_id) from error
    if watch.is_over:
        desk.hub.leave(watch)
        return ASGIResponse(status_code=204, headers=_HEADERS)
    return _EventStream(watch, desk)


def _refusal(error: Exception, job_id: str) -> ProblemError:
    """Return the problem that tells a client why it cannot be let in."""
    match error:
        case InvalidTokenError():
            return UnauthorizedError(str(error))
        case InsufficientScopeError():
            challenge = f'Bearer realm="haulyard", error="insufficient_scope", scope="{JOBS_READ}"'
            return ForbiddenError(str(error), headers={"WWW-Authenticate": challenge})
        case NoSuchJobError():
            return NotFoundError(f"There is no job {job_id}.")
        case TooManyConnectionsError():
            log.info("client turned away", job_id=job_id, error=str(error))
            return TooManyStreamsError(
                "There are as many connections as there may be; close one, or poll the status.",
                headers={"Retry-After": str(RETRY_AFTER)},
            )
        case _:
            log.warning("client turned away", job_id=job_id, error=repr(error))
            return UnavailableError("The job cannot be followed at the moment.", retry_after=RETRY_AFTER)


def _come_back_after() -> bytes:
    """Return the field that says after how long to come back, when the connection has ended."""
    return b"retry: %d\n\n" % reconnect_delay()


class _EventStream(ASGIResponse):
    """The stream of one watch, which ends with it."""

    _should_set_content_length = False

    def __init__(self, watch: Watch, desk: LiveDesk) -> None:
        super().__init__(headers=_HEADERS, media_type="text/event-stream")
        self._watch = watch
        self._desk = desk

    async def send_body(self, send: Send, receive: Receive) -> None:
        listener = asyncio.create_task(self._listen(receive))
        _CONNECTIONS.inc()
        try:
            await self._relay(send)
        except OSError:
            log.debug("client has left", job_id=self._watch.job_id)
        finally:
            _CONNECTIONS.dec()
            listener.cancel()
            self._desk.hub.leave(self._watch)

    async def _relay(self, send: Send) -> None:
        chunk: bytes | None = _come_back_after()
        while chunk is not None:
            try:
                async with asyncio.timeout(SEND_TIMEOUT):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            except TimeoutError:
                log.info("client dropped, it does not read", job_id=self._watch.job_id)
                DROPPED.labels("event_stream").inc()
                return
            chunk = await self._next_chunk()
        await send({"type": "http.response.body", "body": _come_back_after(), "more_body": False})

    async def _next_chunk(self) -> bytes | None:
        state = await self._watch.next(patience=self._desk.heartbeat)
        if state is None:
            return _HEARTBEAT
        if isinstance(state, Ended):
            return None
        _MESSAGES.inc()
        return sse_event(*self._desk.message(state))

    async def _listen(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._watch.end(Ended.GONE)
