"""Reading a request: a body that is one JSON object, and the query; whatever is wrong is told with its place.

Bodies are bounded in size and depth, and a name must not occur twice in an object: of two members with one name,
readers may choose differently (RFC 8259, section 4), and then we would check another value than somebody else uses.
"""

import json
from collections.abc import Collection
from typing import Any

import msgspec
from litestar import Request
from litestar.exceptions import HTTPException
from litestar.status_codes import HTTP_413_REQUEST_ENTITY_TOO_LARGE

from haulyard_chassis.json_input import JsonTooDeepError, bounded_json
from haulyard_chassis.problems import ContentTooLargeError, FieldError, InvalidRequestError, UnsupportedMediaTypeError
from haulyard_gateway.faults import pointer, shown

_JSON = "application/json"


class _Members(list[tuple[str, Any]]):
    """The members of an object as they were written."""


async def read_object(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Return the JSON object that a request holds.

    Raises:
        UnsupportedMediaTypeError: it is not sent as JSON.
        ContentTooLargeError: it is larger than any valid body.
        InvalidRequestError: it is not JSON, or not an object.
    """
    media_type, _ = request.content_type
    if media_type.lower() != _JSON:
        sent = f"as {shown(media_type)}" if media_type else "without a Content-Type"
        raise UnsupportedMediaTypeError(f"The body was sent {sent}; send JSON as {_JSON}.")
    try:
        data = await request.body()
    except HTTPException as error:
        if error.status_code != HTTP_413_REQUEST_ENTITY_TOO_LARGE:
            raise
        raise ContentTooLargeError("The body is larger than any valid request can be.") from error
    return decode_object(data)


def decode_object(data: bytes) -> dict[str, Any]:
    """Return the JSON object that ``data`` holds.

    Raises:
        InvalidRequestError: it is none.
    """
    try:
        body = bounded_json(data)
    except JsonTooDeepError as error:
        raise _malformed("The body is nested too deeply.") from error
    except msgspec.DecodeError as error:
        raise _malformed(f"The body is not JSON: {error}.") from error
    except UnicodeDecodeError as error:
        raise _malformed("The body is not UTF-8.") from error
    if not isinstance(body, dict):
        raise _malformed(f"The body is {shown(body)}; a JSON object is needed.")
    _refuse_duplicates(data)
    return body


def _refuse_duplicates(data: bytes) -> None:
    found = False

    def once(members: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal found
        made = dict(members)
        found = found or len(made) != len(members)
        return made

    json.loads(data, object_pairs_hook=once)  # it was decoded before: what is wrong with it has been told
    if found:
        where = _first_duplicate(json.loads(data, object_pairs_hook=_Members))
        detail = "This name occurs twice in its object; name each field once."
        raise InvalidRequestError(f"{where}: {detail}", errors=[FieldError(detail=detail, pointer=where)])


def _first_duplicate(value: Any, *path: str | int) -> str | None:
    if isinstance(value, _Members):
        seen: set[str] = set()
        for name, member in value:
            if name in seen:
                return pointer(*path, name)
            seen.add(name)
            if (inside := _first_duplicate(member, *path, name)) is not None:
                return inside
    elif isinstance(value, list):
        for position, item in enumerate(value):
            if (inside := _first_duplicate(item, *path, position)) is not None:
                return inside
    return None


def read_query(request: Request[Any, Any, Any], known: Collection[str]) -> dict[str, str]:
    """Return the parameters of a request's query.

    Raises:
        InvalidRequestError: one is unknown, as a typo would be, or given twice.
    """
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in known:
            raise bad_parameter(name, f"There is no such parameter; there are {', '.join(known)}.")
        if name in given:
            raise bad_parameter(name, "This parameter is given twice.")
        given[name] = value
    return given


def bad_parameter(name: str, detail: str) -> InvalidRequestError:
    """Return the error for a parameter of the query or a header."""
    name = name if len(name) <= 60 else f"{name[:60]}…"  # noqa: PLR2004 - only so that an attack is not repeated
    return InvalidRequestError(f"{name}: {detail}", errors=[FieldError(detail=detail, parameter=name)])


def _malformed(detail: str) -> InvalidRequestError:
    return InvalidRequestError(detail, errors=[FieldError(detail=detail, pointer="#")])
