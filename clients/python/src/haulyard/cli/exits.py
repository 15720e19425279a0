"""With which code the command ends, so that scripts can tell what happened without reading."""

from collections.abc import Mapping
from enum import IntEnum

from haulyard.errors import (
    ApiError,
    ArchiveExpiredError,
    ConfigurationError,
    ConflictError,
    ConnectionFailedError,
    DownloadError,
    ForbiddenError,
    HaulyardError,
    InvalidRequestError,
    JobEndedBadlyError,
    JobFailedError,
    NotFoundError,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
    UnexpectedAnswerError,
    UploadError,
)


class Exit(IntEnum):
    """The codes; ``docs/clients.md`` has the same table."""

    OK = 0
    JOB_FAILED = 1
    """The job failed, was cancelled, or its archive has expired; also whatever has no code of its own."""
    USAGE = 2
    """The command or the request is not valid."""
    AUTH = 3
    """No token, or one that is not valid or does not allow this."""
    NOT_FOUND = 4
    """No such job or file for this user."""
    UNAVAILABLE = 5
    """The server cannot be reached, is away, or a limit is reached: try again later."""
    CONFLICT = 6
    """It cannot be done in the state that the job is in."""
    TRANSFER = 7
    """A file could not be uploaded, downloaded, checked or written."""
    INTERRUPTED = 130
    """Ctrl-C."""


EXITS: Mapping[type[HaulyardError], Exit] = {
    JobEndedBadlyError: Exit.JOB_FAILED,
    JobFailedError: Exit.JOB_FAILED,
    ArchiveExpiredError: Exit.JOB_FAILED,
    InvalidRequestError: Exit.USAGE,
    ConfigurationError: Exit.AUTH,
    UnauthorizedError: Exit.AUTH,
    ForbiddenError: Exit.AUTH,
    NotFoundError: Exit.NOT_FOUND,
    ConnectionFailedError: Exit.UNAVAILABLE,
    UnexpectedAnswerError: Exit.UNAVAILABLE,
    TooManyRequestsError: Exit.UNAVAILABLE,
    UnavailableError: Exit.UNAVAILABLE,
    ConflictError: Exit.CONFLICT,
    DownloadError: Exit.TRANSFER,
    UploadError: Exit.TRANSFER,
    ApiError: Exit.JOB_FAILED,
    HaulyardError: Exit.JOB_FAILED,
}


def exit_of(error: HaulyardError) -> Exit:
    """Return the code for an error: that of its kind, or of the nearest one that it is a kind of."""
    return next(EXITS[kind] for kind in type(error).__mro__ if kind in EXITS)
