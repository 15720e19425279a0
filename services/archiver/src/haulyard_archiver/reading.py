"""Saying in the job's words why a source cannot be read."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from haulyard_chassis.egress import UnsafeUrlError
from haulyard_chassis.origin import OriginChangedError, OriginDeniedError, OriginNotFoundError
from haulyard_chassis.store import AccessDeniedError, ObjectChangedError, ObjectNotFoundError, ObjectStore, StoreError
from haulyard_contracts import ErrorCode, SegmentedSource, Source

Made = TypeVar("Made")


class PartError(Exception):
    """The part could not be made, or something not be prepared.

    Args:
        code: why.
        message: for people; becomes part of the job's status.
        entry: index of the entry (of a preparation: position of the file) whose source was the reason, if it was one.
    """

    def __init__(self, code: ErrorCode, message: str, *, entry: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.entry = entry


_REASONS: dict[type[Exception], tuple[ErrorCode, str]] = {
    ObjectNotFoundError: (ErrorCode.FILE_NOT_FOUND, "its object is gone"),
    ObjectChangedError: (ErrorCode.SOURCE_CHANGED, "its object was replaced while the archive was being made"),
    AccessDeniedError: (ErrorCode.PERMISSION_DENIED, "the store does not let us read it"),
    OriginNotFoundError: (ErrorCode.FILE_NOT_FOUND, "its origin no longer has it"),
    OriginChangedError: (ErrorCode.SOURCE_CHANGED, "it was replaced while the archive was being made"),
    OriginDeniedError: (ErrorCode.PERMISSION_DENIED, "its origin does not let us read it"),
    UnsafeUrlError: (ErrorCode.PERMISSION_DENIED, "its URL may not be requested"),
}


def source_error(error: Exception, source: Source | None, *, name: str, entry: int) -> PartError:
    """Return what an error of reading means for the job.

    What was staged is ours: that it cannot be read says nothing of the file, and it is only tried again.
    """
    if isinstance(source, SegmentedSource):
        return PartError(ErrorCode.SOURCE_UNAVAILABLE, f"{name}: what was staged of it cannot be read: {error}")
    code, reason = _REASONS.get(type(error), (ErrorCode.SOURCE_UNAVAILABLE, f"it could not be read: {error}"))
    return PartError(code, f"{name}: {reason}", entry=entry)


async def surely(attempt: Callable[[], Awaitable[Made]], store: ObjectStore, bucket: str) -> Made:
    """Return what an attempt makes; if a file is blamed that it fails, that is the file's fault.

    While the store is away every file is unreadable, and the job must fail instead of going on without them. So a file
    is blamed only if it could not be read again after the store had answered, and the store still answers then.

    Args:
        attempt: does the task; once more if need be.
        store: takes the archive.
        bucket: takes the archive.

    Raises:
        PartError: it cannot be done.
    """
    for is_last in (False, True):
        try:
            return await attempt()
        except PartError as error:
            if error.code is not ErrorCode.SOURCE_UNAVAILABLE:
                raise
            try:
                await store.head_bucket(bucket)
            except StoreError as away:
                raise PartError(ErrorCode.STORE_UNAVAILABLE, f"the store does not answer: {away}") from error
            if is_last:
                raise
    raise AssertionError("the last attempt returns or raises")
