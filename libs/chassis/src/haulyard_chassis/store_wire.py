"""The object store's wire format: our words into requests, answers into our words. Pure functions.

Sources: Amazon S3 API Reference (2006-03-01); RFC 6266 and RFC 8187 for file names.
"""

import base64
import hashlib
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote, unquote_plus

from haulyard_chassis.store_errors import StoreError, error_named
from haulyard_chassis.store_xml import children, name, parsed, text, written

# What the store says


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What the store says of an object."""

    size: int
    """Bytes."""
    etag: str
    """As the store quotes it, with its quotation marks."""
    modified: datetime
    content_type: str
    crc32: int | None
    """CRC-32 of the whole object, where the store keeps one."""


@dataclass(frozen=True, slots=True)
class ObjectSummary:
    """What a listing says of an object."""

    key: str
    size: int
    """Bytes."""
    modified: datetime


@dataclass(frozen=True, slots=True)
class UploadedPart:
    """One part of a multipart upload."""

    number: int
    etag: str
    crc32: int | None = None
    """Must be given for every part of an upload that was created with CRC-32, and for none of another."""


@dataclass(frozen=True, slots=True)
class CopiedPart:
    """A part that the store copied from an object of its own."""

    etag: str
    crc32: int | None
    """CRC-32 of the part's bytes, if the upload was created with CRC-32 and the store tells it."""


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """A multipart upload that is neither completed nor aborted."""

    key: str
    upload_id: str
    initiated: datetime


# Requests


def path_of(bucket: str, key: str) -> str:
    """Return the encoded path of an object, or of a bucket if the key is empty."""
    return quote(f"/{bucket}/{key}" if key else f"/{bucket}", safe="/~")


def query_of(query: Mapping[str, str]) -> str:
    """Return a query as it is both sent and signed: encoded, and sorted by name."""
    return "&".join(f"{name}={quote(value, safe='~')}" for name, value in sorted(query.items()))


def url_of(endpoint: str, path: str, query: str) -> str:
    """Return a URL from its encoded components."""
    return f"{endpoint}{path}?{query}" if query else f"{endpoint}{path}"


def content_disposition(filename: str) -> str:
    """Return a ``Content-Disposition`` that saves under ``filename`` (RFC 6266, with RFC 8187 for non-ASCII names)."""
    plain = re.sub(r'[^\x20-\x7e]|["\\%]', "_", filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='', errors='replace')}"


def encoded_crc32(crc32: int) -> str:
    """Return a CRC-32 as the API writes it: base64 of its four bytes, the most significant first."""
    return base64.b64encode(struct.pack(">I", crc32)).decode()


def decoded_crc32(encoded: str) -> int | None:
    """Return the CRC-32; None if there is none, or a composite one ("…-12"): one of checksums of parts, of no use."""
    if not encoded or "-" in encoded:
        return None
    (crc32,) = struct.unpack(">I", base64.b64decode(encoded))
    return int(crc32)


def content_md5(body: bytes) -> str:
    """Return the value of ``Content-MD5``, which the API asks for where a body must not be damaged."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def completion(parts: Sequence[UploadedPart]) -> bytes:
    """Return the body of CompleteMultipartUpload."""
    return f"<CompleteMultipartUpload>{''.join(map(_listed, parts))}</CompleteMultipartUpload>".encode()


def _listed(part: UploadedPart) -> str:
    checksum = "" if part.crc32 is None else f"<ChecksumCRC32>{encoded_crc32(part.crc32)}</ChecksumCRC32>"
    return f"<Part><PartNumber>{part.number}</PartNumber><ETag>{written(part.etag)}</ETag>{checksum}</Part>"


def deletion(keys: Sequence[str]) -> bytes:
    """Return the body of DeleteObjects, which is answered with what could not be deleted only."""
    listed = "".join(f"<Object><Key>{written(key)}</Key></Object>" for key in keys)
    return f"<Delete><Quiet>true</Quiet>{listed}</Delete>".encode()


def location(region: str) -> bytes:
    """Return the body of CreateBucket; the API refuses to be told its default region."""
    if region == "us-east-1":
        return b""
    constraint = f"<LocationConstraint>{written(region)}</LocationConstraint>"
    return f"<CreateBucketConfiguration>{constraint}</CreateBucketConfiguration>".encode()


def cors_rule(origins: Sequence[str]) -> bytes:
    """Return the body of PutBucketCors that lets pages of ``origins`` use presigned links."""
    allowed = "".join(f"<AllowedOrigin>{written(origin)}</AllowedOrigin>" for origin in origins)
    return (
        f"<CORSConfiguration><CORSRule>{allowed}<AllowedMethod>GET</AllowedMethod><AllowedMethod>HEAD</AllowedMethod>"
        "<AllowedMethod>PUT</AllowedMethod><AllowedHeader>*</AllowedHeader><ExposeHeader>ETag</ExposeHeader>"
        "<MaxAgeSeconds>3600</MaxAgeSeconds></CORSRule></CORSConfiguration>"
    ).encode()


def lifecycle_rule(*, expire_days: int, abort_upload_days: int) -> bytes:
    """Return the body of PutBucketLifecycleConfiguration."""
    return (
        "<LifecycleConfiguration><Rule><ID>haulyard</ID><Filter><Prefix></Prefix></Filter><Status>Enabled</Status>"
        f"<Expiration><Days>{expire_days}</Days></Expiration><AbortIncompleteMultipartUpload>"
        f"<DaysAfterInitiation>{abort_upload_days}</DaysAfterInitiation></AbortIncompleteMultipartUpload>"
        "</Rule></LifecycleConfiguration>"
    ).encode()


# Answers


def object_info(headers: Mapping[str, str]) -> ObjectInfo:
    """Read the headers of an object."""
    whole = headers.get("x-amz-checksum-type", "FULL_OBJECT") == "FULL_OBJECT"
    return ObjectInfo(
        size=int(headers["Content-Length"]),
        etag=headers["ETag"],
        modified=parsedate_to_datetime(headers["Last-Modified"]),
        content_type=headers.get("Content-Type", "application/octet-stream"),
        crc32=decoded_crc32(headers.get("x-amz-checksum-crc32", "")) if whole else None,
    )


def upload_id_in(body: bytes) -> str:
    """Read the answer to CreateMultipartUpload."""
    return text(parsed(body), "UploadId")


def copied_part(body: bytes) -> CopiedPart:
    """Read the answer to UploadPartCopy."""
    root = parsed(body)
    return CopiedPart(etag=text(root, "ETag"), crc32=decoded_crc32(text(root, "ChecksumCRC32", "")))


def tells_an_error(body: bytes) -> bool:
    """Whether an answer that began with 200 tells of an error all the same: some work ends after the status was sent.

    (API Reference, CompleteMultipartUpload and UploadPartCopy.)
    """
    return bool(body) and name(parsed(body)) == "Error"


def uploads_in(body: bytes) -> tuple[list[PendingUpload], dict[str, str] | None]:
    """Read a page of ListMultipartUploads: the uploads, and the query for the next page if there is one."""
    root = parsed(body)
    found = [
        PendingUpload(text(upload, "Key"), text(upload, "UploadId"), datetime.fromisoformat(text(upload, "Initiated")))
        for upload in children(root, "Upload")
    ]
    if text(root, "IsTruncated", "false") != "true":
        return found, None
    return found, {"key-marker": text(root, "NextKeyMarker"), "upload-id-marker": text(root, "NextUploadIdMarker")}


def objects_in(body: bytes) -> tuple[list[ObjectSummary], dict[str, str] | None]:
    """Read a page of ListObjectsV2: the objects, and the query for the next page if there is one."""
    root = parsed(body)
    encoded = text(root, "EncodingType", "") == "url"
    found = [
        ObjectSummary(
            key=unquote_plus(text(listed, "Key")) if encoded else text(listed, "Key"),
            size=int(text(listed, "Size")),
            modified=datetime.fromisoformat(text(listed, "LastModified")),
        )
        for listed in children(root, "Contents")
    ]
    if text(root, "IsTruncated", "false") != "true":
        return found, None
    return found, {"continuation-token": text(root, "NextContinuationToken")}


def undeleted_in(body: bytes, what: str) -> list[StoreError]:
    """Read the answer to DeleteObjects: an error for each object that is still there."""
    if not body:
        return []
    return [
        error_named(code, 200, f"{what}: {text(failed, 'Key', '?')}: {code}")
        for failed in children(parsed(body), "Error")
        if (code := text(failed, "Code", "")) != "NoSuchKey"
    ]
