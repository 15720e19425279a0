"""What operators do: look into any job, and into the messages that were given up; send those again, or delete them."""

from typing import Annotated

from litestar import Response, delete, get, post
from litestar.params import PathParameter

from haulyard_chassis.dead_letters import NotReplayableError
from haulyard_chassis.logs import audit
from haulyard_chassis.problems import NotFoundError
from haulyard_gateway import openapi
from haulyard_gateway.admin_bodies import (
    DeadLetterPage,
    DeadLetterView,
    InspectedJobBody,
    PurgedBody,
    ReplayedBody,
    inspected_body,
    letter_summary,
    letter_view,
)
from haulyard_gateway.auth import UserRequest
from haulyard_gateway.context import Given
from haulyard_gateway.errors import DeadLetterStaysError
from haulyard_gateway.headers import NO_STORE
from haulyard_gateway.queries import (
    JOB_ID,
    LETTER_PARAMETERS,
    LETTER_SEQUENCE,
    PURGE_PARAMETERS,
    REPLAY_PARAMETERS,
    letter_cursor,
    link_to_next,
    parse_letters_wanted,
    parse_replay_wanted,
    parse_stream,
    replay_cursor,
)
from haulyard_gateway.reading import read_query
from haulyard_gateway.status import JobIdPath

SequencePath = Annotated[str, PathParameter(description="The message's `sequence`.")]

_REPLAYED_AT_ONCE = 200
"""Messages that one request sends again: each takes a few milliseconds, and no request is to take long."""


@get("/admin/dead-letters", **openapi.LIST_DEAD_LETTERS)
async def list_dead_letters(request: UserRequest, context: Given) -> Response[DeadLetterPage]:
    """List messages that were given up, the oldest first."""
    query = read_query(request, LETTER_PARAMETERS)
    wanted = parse_letters_wanted(query)
    found = await context.ports.dead_letters.page(limit=wanted.limit + 1, after=wanted.after, stream=wanted.stream)
    page = found[: wanted.limit]
    cursor = letter_cursor(page[-1].sequence) if len(found) > wanted.limit else None
    audit("dead letters listed", user_id=request.user, count=len(page))
    body = DeadLetterPage(dead_letters=tuple(letter_summary(letter) for letter in page), next_cursor=cursor)
    return Response(body, headers=NO_STORE | link_to_next(context.links.dead_letters(), query, cursor))


@get("/admin/dead-letters/{sequence:str}", **openapi.GET_DEAD_LETTER)
async def get_dead_letter(request: UserRequest, sequence: SequencePath, context: Given) -> Response[DeadLetterView]:
    """Show a message that was given up."""
    letter = await context.ports.dead_letters.get(_sequence(sequence))
    if letter is None:
        raise _no_letter()
    audit("dead letter seen", user_id=request.user, sequence=letter.sequence, stream=letter.stream)
    return Response(letter_view(letter), headers=NO_STORE)


@post("/admin/dead-letters/{sequence:str}/replay", status_code=200, **openapi.REPLAY_DEAD_LETTER)
async def replay_dead_letter(request: UserRequest, sequence: SequencePath, context: Given) -> Response[ReplayedBody]:
    """Send a message again."""
    number = _sequence(sequence)
    try:
        is_replayed = await context.ports.dead_letters.replay(number)
    except NotReplayableError as error:
        raise DeadLetterStaysError(f"The message cannot be sent again: {error}.") from error
    if not is_replayed:
        raise _no_letter()
    audit("dead letter replayed", user_id=request.user, sequence=number)
    return Response(ReplayedBody(replayed=1, kept=0, next_cursor=None), headers=NO_STORE)


@post("/admin/dead-letters/replay", status_code=200, **openapi.REPLAY_DEAD_LETTERS)
async def replay_dead_letters(request: UserRequest, context: Given) -> Response[ReplayedBody]:
    """Send all messages again, or those from one stream; as many as one request may."""
    wanted = parse_replay_wanted(read_query(request, REPLAY_PARAMETERS))
    letters = context.ports.dead_letters
    until = await letters.last() if wanted.until is None else wanted.until
    done = await letters.replay_all(limit=_REPLAYED_AT_ONCE, after=wanted.after, until=until, stream=wanted.stream)
    audit("dead letters replayed", user_id=request.user, stream=wanted.stream, count=done.replayed)
    cursor = replay_cursor(done.last, until) if done.last is not None else None
    return Response(ReplayedBody(replayed=done.replayed, kept=done.kept, next_cursor=cursor), headers=NO_STORE)


@delete("/admin/dead-letters/{sequence:str}", status_code=204, **openapi.DELETE_DEAD_LETTER)
async def delete_dead_letter(request: UserRequest, sequence: SequencePath, context: Given) -> Response[None]:
    """Delete a message that was given up."""
    number = _sequence(sequence)
    if not await context.ports.dead_letters.drop(number):
        raise _no_letter()
    audit("dead letter deleted", user_id=request.user, sequence=number)
    return Response(None, headers=NO_STORE)


@delete("/admin/dead-letters", status_code=200, **openapi.PURGE_DEAD_LETTERS)
async def purge_dead_letters(request: UserRequest, context: Given) -> Response[PurgedBody]:
    """Delete all messages that were given up, or those from one stream."""
    stream = parse_stream(read_query(request, PURGE_PARAMETERS))
    deleted = await context.ports.dead_letters.drop_all(stream=stream)
    audit("dead letters deleted", user_id=request.user, stream=stream, count=deleted)
    return Response(PurgedBody(deleted=deleted), headers=NO_STORE)


@get("/admin/jobs/{job_id:str}", **openapi.INSPECT_JOB)
async def inspect_job(request: UserRequest, job_id: JobIdPath, context: Given) -> Response[InspectedJobBody]:
    """Show anybody's job, with its tasks and their attempts."""
    job = await context.ports.inspections.job(job_id) if JOB_ID.fullmatch(job_id) else None
    if job is None:
        raise NotFoundError("There is no job with this id.")
    audit("job inspected", user_id=request.user, job_id=job.job_id)
    return Response(inspected_body(job), headers=NO_STORE)


def _sequence(given: str) -> int:
    if not LETTER_SEQUENCE.fullmatch(given):
        raise _no_letter()
    return int(given)


def _no_letter() -> NotFoundError:
    return NotFoundError("There is no dead letter with this sequence.")
