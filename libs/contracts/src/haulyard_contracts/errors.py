"""The reasons why a job, a file or a part fails, as clients, tables and logs see them."""

from enum import StrEnum

from haulyard_contracts.codec import Message


class ErrorCode(StrEnum):
    """Why something failed. The value is part of the public API and never changes."""

    FILE_NOT_FOUND = "FILE_NOT_FOUND"
    """The catalogue has no such file for this user, or its source object is gone."""

    INVALID_FILE_ID = "INVALID_FILE_ID"
    """The id is no valid file id."""

    PERMISSION_DENIED = "PERMISSION_DENIED"
    """The store refuses to let Haulyard read the source or write the archive."""

    SOURCE_CHANGED = "SOURCE_CHANGED"
    """The source object was replaced between planning and reading."""

    SOURCE_UNAVAILABLE = "SOURCE_UNAVAILABLE"
    """The source could not be read now; it may be readable later."""

    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    """The store that takes the archive did not answer, or answered with a server error."""

    CHECKSUM_MISMATCH = "CHECKSUM_MISMATCH"
    """The bytes read do not have the CRC-32 that the catalogue has for this version of the source."""

    UPLOAD_GONE = "UPLOAD_GONE"
    """The multipart upload that a part belongs to is no longer there; the job has moved on."""

    ARCHIVE_TOO_LARGE = "ARCHIVE_TOO_LARGE"
    """The archive does not fit the store's limits (10,000 parts of 5 GiB)."""

    JOB_TIMEOUT = "JOB_TIMEOUT"
    """The job did not finish in the time a job may take."""

    PROCESSING_FAILED = "PROCESSING_FAILED"
    """No file of the job could be archived."""

    INTERNAL = "INTERNAL"
    """A fault of Haulyard itself; the log has the details under the job's id."""


RETRYABLE = frozenset({ErrorCode.SOURCE_UNAVAILABLE, ErrorCode.STORE_UNAVAILABLE, ErrorCode.INTERNAL})
"""Errors that may go away by themselves: only these are tried again."""


class Failure(Message, frozen=True, kw_only=True):
    """A reason in two forms: ``code`` for programs, ``message`` for people."""

    code: ErrorCode
    message: str
