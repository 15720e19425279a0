"""What the API answers about files, field by field; times are UTC, to the second."""

from datetime import datetime
from typing import Literal

import msgspec

from haulyard_gateway.bodies import in_seconds
from haulyard_gateway.file_validation import ObjectAt
from haulyard_gateway.ports import CatalogueFile


class UploadLink(msgspec.Struct, frozen=True, kw_only=True):
    """Where to send a file's bytes, with one request."""

    method: Literal["PUT"]
    url: str
    expires_at: datetime


class FileBody(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the catalogue."""

    file_id: int
    name: str
    """Its path inside an archive, before it is made safe and unique there."""
    source: str
    status: Literal["available", "pending"]
    """``pending``: the object has not been uploaded yet."""
    size_bytes: int | None
    """Of a file that has a URL as its source: null until it was archived once."""
    etag: str | None
    crc32: str | None
    """Eight hexadecimal digits, if it is known."""
    created_at: datetime
    upload: UploadLink | None
    """Only in the answer that creates a file to be uploaded."""


class FileList(msgspec.Struct, frozen=True, kw_only=True):
    """The files that were added, in the order in which they were asked for."""

    files: tuple[FileBody, ...]


class FilePage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of files, the newest first."""

    files: tuple[FileBody, ...]
    next_cursor: str | None
    """Give it as ``cursor`` for the next page; null on the last one."""


class Availability(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a file can be archived now."""

    file_id: int
    available: bool
    name: str | None
    size_bytes: int | None
    reason: str | None
    """Why it cannot."""


def file_body(file: CatalogueFile, upload: UploadLink | None = None) -> FileBody:
    """Return the body that tells of a file."""
    source = file.source
    return FileBody(
        file_id=file.file_id,
        name=file.name,
        source=f"s3://{source.bucket}/{source.key}" if isinstance(source, ObjectAt) else source.url,
        status="pending" if file.is_awaited else "available",
        size_bytes=file.size_bytes,
        etag=file.etag,
        crc32=None if file.crc32 is None else f"{file.crc32:08x}",
        created_at=in_seconds(file.created_at),
        upload=upload,
    )
