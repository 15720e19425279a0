"""What is held of a user, and forgetting them (GDPR, articles 15, 17 and 20)."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated

from litestar import Response, delete, get
from litestar.params import PathParameter
from litestar.response import Stream
from ulid import ULID

from haulyard_chassis.broker import TRACEPARENT, BrokerUnavailableError
from haulyard_chassis.logs import audit, get_logger
from haulyard_chassis.problems import NotFoundError
from haulyard_contracts import UserErasure
from haulyard_gateway import openapi
from haulyard_gateway.auth import UserRequest
from haulyard_gateway.context import Context, Given
from haulyard_gateway.errors import RecordUnavailableError
from haulyard_gateway.headers import NO_STORE, retry_after
from haulyard_gateway.personal_data import user_hash
from haulyard_gateway.ports import Erasure
from haulyard_gateway.user_bodies import ErasureBody, erasure_body

log = get_logger(__name__)

ErasureIdPath = Annotated[str, PathParameter(description="The receipt's id.")]

_ERASURE_ID = re.compile(r"erasure_[0-7][0-9A-HJKMNP-TV-Z]{25}")

Batches = AsyncIterator[tuple[str, list[bytes]]]


@get("/users/me/data", media_type="application/json", **openapi.EXPORT)
async def export_data(request: UserRequest, context: Given) -> Stream:
    """Give a user all that is held of them, as one JSON document that is written while it is read."""
    batches = context.ports.personal_data.export(request.user)
    first = await anext(batches)  # what is away is told before the answer begins
    audit("personal data exported", user_id=request.user)
    headers = {**NO_STORE, "Content-Disposition": 'attachment; filename="haulyard-data.json"'}
    return Stream(_document(first, batches), media_type="application/json", headers=headers)


async def _document(first: tuple[str, list[bytes]], batches: Batches) -> AsyncIterator[bytes]:
    """Write ``{"jobs": […], "files": […], …}`` as the batches come."""
    yield b"{"
    current, items_before = "", False
    async for name, items in _chain(first, batches):
        if name != current:
            yield (b"]," if current else b"") + f'"{name}":['.encode()
            current, items_before = name, False
        if items:
            yield (b"," if items_before else b"") + b",".join(items)
            items_before = True
    yield b"]}"


async def _chain(first: tuple[str, list[bytes]], batches: Batches) -> Batches:
    yield first
    async for batch in batches:
        yield batch


@delete("/users/me/data", status_code=202, **openapi.ERASE)
async def erase_data(request: UserRequest, context: Given) -> Response[ErasureBody]:
    """Take a user's wish to be forgotten; the answer is their receipt."""
    now = datetime.now(UTC)
    wish = UserErasure(erasure_id=f"erasure_{ULID.from_datetime(now)}", user_id=request.user, requested_at=now)
    erasure = Erasure(
        erasure_id=wish.erasure_id,
        user_hash=_hashes(request.user, context)[0],
        requested_at=now,
        completed_at=None,
        counts={},
    )
    data = context.ports.personal_data
    await data.begin_erasure(erasure.erasure_id, erasure.user_hash, now)
    try:
        await context.ports.publisher.publish(
            context.topology.user_erasure(wish.erasure_id),
            wish,
            message_id=wish.erasure_id,
            headers={TRACEPARENT: request.headers[TRACEPARENT]},
        )
    except BrokerUnavailableError:
        try:
            await data.drop_erasure(erasure.erasure_id)
        except RecordUnavailableError as error:  # then it stays pending, and nobody knows of it
            log.warning("receipt not taken back", erasure_id=erasure.erasure_id, error=str(error))
        raise
    # The user's id would be all that is left of them.
    audit("erasure requested", user_id=erasure.user_hash, erasure_id=erasure.erasure_id)
    return _answer(erasure, context)


@get("/users/me/data/erasures/{erasure_id:str}", **openapi.ERASURE)
async def get_erasure(request: UserRequest, erasure_id: ErasureIdPath, context: Given) -> Response[ErasureBody]:
    """Tell how far an erasure is."""
    erasure = await context.ports.personal_data.erasure(erasure_id) if _ERASURE_ID.fullmatch(erasure_id) else None
    if erasure is None or erasure.user_hash not in _hashes(request.user, context):
        raise NotFoundError("You have no receipt with this id.")
    return _answer(erasure, context)


def _hashes(user_id: str, context: Context) -> list[str]:
    """Return what stands for a user on new receipts, and on those from before the secret was changed."""
    return [user_hash(user_id, secret) for secret in context.settings.ticket_secrets if secret]


def _answer(erasure: Erasure, context: Context) -> Response[ErasureBody]:
    status_url = context.links.erasure(erasure.erasure_id)
    again = {} if erasure.completed_at else retry_after()
    headers = {**NO_STORE, **again, "Location": status_url}
    return Response(erasure_body(erasure, status_url=status_url), headers=headers)
