"""Problems: how HTTP errors look (RFC 9457), the same from every service.

Each kind of problem is a class with its status, type and title; what was wrong, where, and what would be right is in
the ``detail`` and, for input, in ``errors``. The table of all is made from the classes.
"""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import ExceptionHandlersMap

from haulyard_chassis.logs import get_logger
from haulyard_chassis.trace import continue_trace, trace_id

log = get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>\$[^`]*)`)?$", re.DOTALL)


class FieldError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong with the input."""

    detail: str
    pointer: str | None = None
    """Where in the body, as a JSON Pointer (RFC 6901) in a URI fragment: ``#/file_ids/3``."""
    parameter: str | None = None
    """Which parameter of the path, the query or the headers."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of an error (RFC 9457, section 3)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    """The path that was asked for."""
    trace_id: str | None = None
    """Names the request in logs and traces."""
    errors: tuple[FieldError, ...] = ()


class ProblemError(Exception):
    """Base of all errors that are an HTTP answer."""

    status: int = 500
    slug: str = "internal"
    title: str = "Something went wrong on our side"

    def __init__(
        self, detail: str, *, errors: Sequence[FieldError] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})


class InvalidRequestError(ProblemError):
    """The request itself is wrong; ``errors`` names each place."""

    status = 400
    slug = "invalid-request"
    title = "The request is not valid"


class UnauthorizedError(ProblemError):
    """No token, or one that is not valid."""

    status = 401
    slug = "unauthorized"
    title = "A valid token is needed"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": 'Bearer realm="haulyard"'})


class ForbiddenError(ProblemError):
    """The token is valid, and does not grant what this needs; the ``WWW-Authenticate`` header names the scopes."""

    status = 403
    slug = "forbidden"
    title = "Not allowed with this token"


class NotFoundError(ProblemError):
    """There is no such thing for this user; whether it exists for another is not told."""

    status = 404
    slug = "not-found"
    title = "Not found"


class JobNotReadyError(ProblemError):
    """The job has no archive yet."""

    status = 409
    slug = "job-not-ready"
    title = "The archive is not ready"


class JobFailedError(ProblemError):
    """The job is over and there is no archive."""

    status = 409
    slug = "job-failed"
    title = "The job has no archive"


class ArchiveExpiredError(ProblemError):
    """The archive was deleted after its time."""

    status = 410
    slug = "archive-expired"
    title = "The archive has expired"


class UnavailableError(ProblemError):
    """Something that the answer depends on is away; try again after ``Retry-After`` seconds."""

    status = 503
    slug = "unavailable"
    title = "Not available at the moment"

    def __init__(self, detail: str, *, retry_after: int = 5) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)})


class UnsupportedMediaTypeError(ProblemError):
    """The body is of a kind that the endpoint does not read; send JSON as ``application/json``."""

    status = 415
    slug = "unsupported-media-type"
    title = "The body must be JSON"


class ContentTooLargeError(ProblemError):
    """The body is larger than any valid request can be."""

    status = 413
    slug = "content-too-large"
    title = "The body is too large"


class MethodNotAllowedError(ProblemError):
    """The path exists, but not for this method; the ``Allow`` header lists those for which it does."""

    status = 405
    slug = "method-not-allowed"
    title = "Method Not Allowed"


def problem_response(request: Request[Any, Any, Any], error: ProblemError) -> Response[Problem]:
    """Return the answer for an error."""
    traceparent = request.headers.get("traceparent")
    problem = Problem(
        type=f"/problems/{error.slug}",
        title=error.title,
        status=error.status,
        detail=error.detail,
        instance=request.url.path,
        trace_id=trace_id(traceparent) if traceparent and continue_trace(traceparent) == traceparent else None,
        errors=error.errors,
    )
    return Response(
        problem,
        status_code=error.status,
        media_type=MEDIA_TYPE,
        headers={"Cache-Control": "no-store", **error.headers},
    )


def json_pointer(path: str) -> str:
    """Turn msgspec's ``$.file_ids[3]`` into ``#/file_ids/3``; it does not tell keys: then point at their object."""
    named = path.partition("[...]")[0]
    return "#" + re.sub(r"\.([^.\[]+)|\[(\d+)\]", lambda step: f"/{step.group(1) or step.group(2)}", named[1:])


def _from_validation(request: Request[Any, Any, Any], error: ValidationException) -> Response[Problem]:
    errors = []
    for item in error.extra if isinstance(error.extra, list) else []:
        match = _AT.match(item.get("message", ""))
        what = match.group("what") if match else str(item)
        if item.get("source") in ("query", "path", "header", "cookie"):
            errors.append(FieldError(detail=what, parameter=item.get("key")))
        else:
            key = item.get("key", "")
            at_root = key in ("", "data")  # what handlers call the body as a whole
            path = (match and match.group("path")) or ("$" if at_root else f"$.{key}")
            errors.append(FieldError(detail=what, pointer=json_pointer(path)))
    detail = errors[0].detail if errors else error.detail
    return problem_response(request, InvalidRequestError(detail, errors=errors))


def _from_http(request: Request[Any, Any, Any], error: HTTPException) -> Response[Problem]:
    """Errors that Litestar raises by itself: no such route, wrong method, body too large, malformed JSON."""
    status = HTTPStatus(error.status_code)
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        return _from_bug(request, error)  # its detail is for us, not for the client
    headers = {key: value for key, value in (error.headers or {}).items() if key.lower() == "allow"}
    kind = _BY_STATUS.get(status)
    problem = (kind or ProblemError)(error.detail or status.description)
    problem.headers |= headers
    if kind is None:
        problem.status = status
        problem.slug = re.sub("[^a-z0-9]+", "-", status.phrase.lower()).strip("-")
        problem.title = status.phrase
    return problem_response(request, problem)


_BY_STATUS: dict[int, type[ProblemError]] = {
    400: InvalidRequestError,
    404: NotFoundError,
    405: MethodNotAllowedError,
    413: ContentTooLargeError,
    415: UnsupportedMediaTypeError,
}
"""What Litestar raises by itself is the same kind of problem as when we raise it."""


def _from_bug(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    log.error("unhandled error", path=request.url.path, exc_info=error)
    return problem_response(request, ProblemError("The error was logged; trying again may help."))


EXCEPTION_HANDLERS: ExceptionHandlersMap = {
    ProblemError: problem_response,
    ValidationException: _from_validation,
    HTTPException: _from_http,
    Exception: _from_bug,
}
"""For ``Litestar(exception_handlers=…)``."""
