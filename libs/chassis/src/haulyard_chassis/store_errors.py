"""What can go wrong between us and the object store, and the translation of its answers to that."""

from haulyard_chassis.store_xml import NotXmlError, parsed, text


class StoreError(Exception):
    """The store did not do what was asked; the subclasses say what a caller can do about it."""

    code = ""
    """The store's own word for it, such as ``EntityTooSmall``; empty if it gave none."""


class StoreUnavailableError(StoreError):
    """No answer, a server error, or "slow down": trying again later may help."""


class ObjectNotFoundError(StoreError):
    """The bucket has no such object, or there is no such bucket."""


class AccessDeniedError(StoreError):
    """Our credentials may not do this."""


class ObjectChangedError(StoreError):
    """The object no longer has the ETag that was asked for (412)."""


class UploadGoneError(StoreError):
    """The multipart upload was completed or aborted before."""


class StoreRefusedError(StoreError):
    """The store rejects the request itself: trying again cannot help."""


_BY_CODE: dict[str, type[StoreError]] = {
    "AccessDenied": AccessDeniedError,
    "InternalError": StoreUnavailableError,
    "NoSuchBucket": ObjectNotFoundError,
    "NoSuchKey": ObjectNotFoundError,
    "NoSuchUpload": UploadGoneError,
    "NotImplemented": StoreRefusedError,
    "OperationAborted": StoreUnavailableError,
    "PreconditionFailed": ObjectChangedError,
    "QuotaExceeded": StoreUnavailableError,  # Ceph, with a 403: there may be room again later
    "RequestTimeout": StoreUnavailableError,
    "ServiceUnavailable": StoreUnavailableError,
    "SlowDown": StoreUnavailableError,
}
"""Codes that say what to do whatever status they come with: an error may be told inside a 200."""

_BY_STATUS: dict[int, type[StoreError]] = {
    401: AccessDeniedError,
    403: AccessDeniedError,
    404: ObjectNotFoundError,
    408: StoreUnavailableError,
    412: ObjectChangedError,
    429: StoreUnavailableError,
    501: StoreRefusedError,
}


def error_of(status: int, body: bytes, what: str) -> StoreError:
    """Translate an answer of the store to our errors; ``what`` was asked."""
    try:
        code = text(parsed(body), "Code", "") if body else ""
    except NotXmlError:
        code = ""
    return error_named(code, status, f"{what}: {status} {code}".rstrip())


def error_named(code: str, status: int, message: str) -> StoreError:
    """Return the error for a code of the store, or for the status if the code says nothing to us."""
    other = StoreUnavailableError if status >= 500 else StoreRefusedError  # noqa: PLR2004 - server errors (RFC 9110)
    error = (_BY_CODE.get(code) or _BY_STATUS.get(status, other))(message)
    error.code = code
    return error
