"""Reading a request's body: JSON, an object, and not too large; everything else is told apart for the client."""

from typing import Any

import msgspec
from litestar import Request
from litestar.exceptions import HTTPException
from litestar.status_codes import HTTP_413_REQUEST_ENTITY_TOO_LARGE

from haulyard_chassis.problems import ContentTooLargeError, FieldError, InvalidRequestError, UnsupportedMediaTypeError
from haulyard_gateway.faults import shown

_JSON = "application/json"


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
        body = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise _malformed(f"The body is not JSON: {error}.") from error
    except UnicodeDecodeError as error:
        raise _malformed("The body is not UTF-8.") from error
    except RecursionError as error:
        raise _malformed("The body is nested too deeply.") from error
    if not isinstance(body, dict):
        raise _malformed(f"The body is {shown(body)}; a JSON object is needed.")
    return body


def _malformed(detail: str) -> InvalidRequestError:
    return InvalidRequestError(detail, errors=[FieldError(detail=detail, pointer="#")])
