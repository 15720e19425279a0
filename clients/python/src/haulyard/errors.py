"""What can go wrong, as exceptions; every one is a `HaulyardError`.

An answer of the server that is an error is an `ApiError`, made of its problem document (RFC 9457). The kinds below
are chosen by the problem's type, else by the status, so a kind that a newer server adds is still its status's kind.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Self

import msgspec

_MAX_DETAIL = 300


class HaulyardError(Exception):
    """Base of all errors of this package."""


class ConfigurationError(HaulyardError):
    """An address or a token is missing, or one of them or the configuration file is not valid."""


class ConnectionFailedError(HaulyardError):
    """The server could not be reached, or the connection broke, and trying again did not help."""


class UnexpectedAnswerError(HaulyardError):
    """What answered does not speak this API: is the address right?"""


class DownloadError(HaulyardError):
    """The archive could not be brought to disk; what arrived is kept where that is of use to the next try."""


class ArchiveCorruptError(DownloadError):
    """The file has the right size and is not the archive: a checksum is wrong. It was deleted."""


class UploadError(HaulyardError):
    """The object store did not take a file."""


class WaitTimeoutError(HaulyardError):
    """The job was not over in time; it goes on."""


class JobEndedBadlyError(HaulyardError):
    """The job is over and there is no archive.

    Attributes:
        job_id: the job.
        status: how it ended.
        code: the reason for programs, if one is known.
    """

    def __init__(self, job_id: str, status: str, *, code: str | None = None, message: str | None = None) -> None:
        super().__init__(f"{job_id} is {status}" + (f": {message}" if message else ""))
        self.job_id = job_id
        self.status = status
        self.code = code


class FieldError(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong with a request."""

    detail: str
    pointer: str | None = None
    """Where in the body (RFC 6901, in a URI fragment): ``#/file_ids/3``."""
    parameter: str | None = None
    """Which parameter of the path, the query or the headers."""


class _ProblemBody(msgspec.Struct, frozen=True, kw_only=True):
    type: str = "about:blank"
    title: str = ""
    detail: str = ""
    instance: str | None = None
    trace_id: str | None = None
    errors: tuple[FieldError, ...] = ()


class ApiError(HaulyardError):
    """The server answered with an error.

    Attributes:
        status: of the answer.
        type: a URI reference that names the kind of problem.
        title: the kind of problem, in words.
        detail: what was wrong this time.
        errors: each thing that is wrong with the request.
        trace_id: names the request in the server's logs.
        retry_after: seconds after which the server wants to be asked again, if it said so.
    """

    def __init__(self, status: int, body: _ProblemBody, *, retry_after: float | None = None) -> None:
        super().__init__(body.detail or body.title or f"HTTP {status}")
        self.status = status
        self.type = body.type
        self.title = body.title
        self.detail = body.detail
        self.errors = body.errors
        self.trace_id = body.trace_id
        self.retry_after = retry_after

    def to_dict(self) -> dict[str, Any]:
        """Return the problem as plain JSON types."""
        return {
            "type": self.type,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "errors": [
                {key: value for key, value in msgspec.to_builtins(error).items() if value is not None}
                for error in self.errors
            ],
            "trace_id": self.trace_id,
        }

    @classmethod
    def from_answer(cls, status: int, content_type: str, body: bytes, *, retry_after: float | None = None) -> Self:
        """Return the error of an answer, of the kind that fits; ``body`` may be anything."""
        problem = _problem(status, content_type, body)
        kind = _BY_SLUG.get(problem.type.rpartition("/")[2]) or _BY_STATUS.get(status)
        if kind is None:
            kind = UnavailableError if status >= HTTPStatus.INTERNAL_SERVER_ERROR else ApiError
        error: Any = (kind if issubclass(kind, cls) else cls)(status, problem, retry_after=retry_after)
        return error  # type: ignore[no-any-return] # the kind is cls or below, which mypy cannot see


class InvalidRequestError(ApiError):
    """The request is not valid; ``errors`` names each place."""


class UnauthorizedError(ApiError):
    """There is no valid token: log in again."""


class ForbiddenError(ApiError):
    """The token does not allow this."""


class NotFoundError(ApiError):
    """There is no such thing for this user."""


class ConflictError(ApiError):
    """It cannot be done in the state that the thing is in."""


class JobNotReadyError(ConflictError):
    """The job has no archive yet: wait for it."""


class JobFailedError(ConflictError):
    """The job is over and there is no archive."""


class ArchiveExpiredError(ApiError):
    """The archive was deleted after its time: start a new job."""


class TooManyRequestsError(ApiError):
    """A limit is reached; ``retry_after`` says when to try again."""


class UnavailableError(ApiError):
    """The server, or something that it needs, is away; trying again did not help."""


_BY_SLUG: Mapping[str, type[ApiError]] = {
    "job-not-ready": JobNotReadyError,
    "job-failed": JobFailedError,
    "archive-expired": ArchiveExpiredError,
}
_BY_STATUS: Mapping[int, type[ApiError]] = {
    HTTPStatus.BAD_REQUEST: InvalidRequestError,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: InvalidRequestError,
    HTTPStatus.UNPROCESSABLE_ENTITY: InvalidRequestError,
    HTTPStatus.UNAUTHORIZED: UnauthorizedError,
    HTTPStatus.FORBIDDEN: ForbiddenError,
    HTTPStatus.NOT_FOUND: NotFoundError,
    HTTPStatus.CONFLICT: ConflictError,
    HTTPStatus.GONE: ArchiveExpiredError,
    HTTPStatus.TOO_MANY_REQUESTS: TooManyRequestsError,
}


def _problem(status: int, content_type: str, body: bytes) -> _ProblemBody:
    """Read a problem document; a proxy's page or anything else becomes one."""
    if "json" in content_type.lower():
        try:
            return msgspec.json.decode(body, type=_ProblemBody)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return _ProblemBody(detail=_plain(status, body))
    return _ProblemBody(detail=_plain(status, body if content_type.lower().startswith("text/plain") else b""))


def _plain(status: int, body: bytes) -> str:
    text = " ".join(body.decode("utf-8", "replace").split())[:_MAX_DETAIL]
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "error"
    return f"HTTP {status} {phrase}" + (f": {text}" if text else "")
