"""The object store: one small S3 client for the hot path.

Requests are signed by miniopy-async's signer (AWS Signature Version 4) and sent through one aiohttp session of our
own, because that library's own uploads buffer, reorder and, after an exception, complete truncated objects.
Bodies stream in both directions with a known length; nothing here holds more than one chunk.

Sources: Amazon S3 API Reference (2006-03-01); AWS General Reference, "Signing AWS API requests".
"""

import asyncio
import base64
import hashlib
import re
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlencode, urlsplit
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

import aiohttp
from miniopy_async.credentials.credentials import Credentials
from miniopy_async.signer import presign_v4, sign_v4_s3
from yarl import URL

from haulyard_chassis.logs import get_logger
from haulyard_chassis.outgoing import Outgoing
from haulyard_chassis.settings import ServiceSettings

log = get_logger(__name__)

CHUNK = 256 * 1024
"""Bytes that a body is read and written in."""

Body = bytes | AsyncIterator[bytes | memoryview]
"""What is written: bytes, or chunks whose total length is given beside them."""

_UNSIGNED = "UNSIGNED-PAYLOAD"
_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_BROKEN = (aiohttp.ClientError, TimeoutError, OSError)
"""What the HTTP client raises when the store does not answer, or not to the end."""
_FIRST_REGION = "us-east-1"
_TRIES = 4
_FIRST_PAUSE = 0.2
_TRY_AGAIN = ("SlowDown", "RequestTimeout", "OperationAborted")
"""Error codes that ask for another try, whatever their status."""


class StoreError(Exception):
    """The store did not do what was asked; the subclasses say what a caller can do about it."""


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
class UploadedPart:
    """One part of a multipart upload."""

    number: int
    etag: str


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """A multipart upload that is neither completed nor aborted."""

    key: str
    upload_id: str
    initiated: datetime


def content_disposition(filename: str) -> str:
    """Return a ``Content-Disposition`` that saves under ``filename`` (RFC 6266, with RFC 8187 for non-ASCII names)."""
    plain = re.sub(r'[^\x20-\x7e]|["\\%]', "_", filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='', errors='replace')}"


class ObjectStore:
    """An S3-compatible store.

    Args:
        settings: endpoint, region and credentials.
        connections: most requests that are under way at the same time.
    """

    def __init__(self, settings: ServiceSettings, *, connections: int = 64) -> None:
        self._endpoint = settings.s3_endpoint.rstrip("/")
        self._public_endpoint = (settings.s3_public_endpoint or settings.s3_endpoint).rstrip("/")
        self._region = settings.s3_region
        self._credentials = Credentials(
            settings.s3_access_key.get_secret_value(), settings.s3_secret_key.get_secret_value()
        )
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the session; nothing connects yet."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=30),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60),
            auto_decompress=False,  # an object stored with Content-Encoding is archived as it is
            read_bufsize=CHUNK,
            # Not among the signed headers: proxies on the way may change it.
            headers={"Accept-Encoding": "identity"},
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    # Objects

    async def head(self, bucket: str, key: str) -> ObjectInfo:
        """Return what the store says of an object.

        Raises:
            ObjectNotFoundError, AccessDeniedError, StoreUnavailableError
        """
        _, headers = await self._call("HEAD", bucket, key, headers={"x-amz-checksum-mode": "ENABLED"})
        return _object_info(headers)

    async def get(self, bucket: str, key: str) -> bytes:
        """Return a whole (small) object."""
        body, _ = await self._call("GET", bucket, key)
        return body

    @asynccontextmanager
    async def read(
        self, bucket: str, key: str, *, etag: str, offset: int, length: int
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a byte range of an object that must still have ``etag``, and yield its chunks.

        The iterator yields exactly ``length`` bytes, or raises.

        Raises:
            ObjectChangedError: the object has another ETag by now.
            ObjectNotFoundError, AccessDeniedError, StoreUnavailableError
        """
        what = f"GET {bucket}/{key}"
        headers = {"If-Match": etag}
        if length:  # no range has no bytes
            headers["Range"] = f"bytes={offset}-{offset + length - 1}"
        async with AsyncExitStack() as opened:
            try:
                response = await opened.enter_async_context(self._send("GET", bucket, key, headers=headers))
                if response.status not in (200, 206):
                    raise _error(response.status, await response.read(), what)
            except _BROKEN as error:
                raise StoreUnavailableError(f"{what}: {error!r}") from error
            if response.status == 200 and response.content_length != length:  # noqa: PLR2004
                raise StoreRefusedError(f"{what}: the store ignores ranges")
            # What the caller raises from here on is the caller's, and not translated.
            yield await opened.enter_async_context(aclosing(_exactly(response, length, what)))

    async def put(self, bucket: str, key: str, body: Body, *, size: int, content_type: str) -> str:
        """Store an object of ``size`` bytes and return its ETag.

        If a body's source raises, the same exception comes out here, and nothing is stored. A source with an
        ``aclose`` method is closed in any case.

        Raises:
            haulyard_chassis.outgoing.BodyLengthError: the body does not have ``size`` bytes; nothing is stored.
            AccessDeniedError, StoreUnavailableError
        """
        return await self._upload(bucket, key, body, size=size, query={}, headers={"Content-Type": content_type})

    async def delete(self, bucket: str, key: str) -> None:
        """Delete an object; one that is not there is no error."""
        await self._call("DELETE", bucket, key)

    # Multipart uploads

    async def create_upload(self, bucket: str, key: str, *, content_type: str) -> str:
        """Start a multipart upload and return its id.

        No checksum algorithm is asked for: some stores then refuse copied parts.
        """
        body, _ = await self._call("POST", bucket, key, query={"uploads": ""}, headers={"Content-Type": content_type})
        return _text(_parse(body), "UploadId")

    async def upload_part(self, bucket: str, key: str, *, upload_id: str, number: int, body: Body, size: int) -> str:
        """Store one part of ``size`` bytes and return its ETag; see `put`. A part stored twice counts once.

        Raises:
            UploadGoneError: the upload was completed or aborted.
        """
        query = {"partNumber": str(number), "uploadId": upload_id}
        return await self._upload(bucket, key, body, size=size, query=query, headers={})

    async def complete_upload(self, bucket: str, key: str, *, upload_id: str, parts: Sequence[UploadedPart]) -> None:
        """Make the object out of its parts, which must be in ascending order.

        Raises:
            UploadGoneError: the upload was completed or aborted before; look at the object to tell which. Some stores
                take the same parts a second time instead.
        """
        listed = "".join(
            f"<Part><PartNumber>{part.number}</PartNumber><ETag>{escape(part.etag)}</ETag></Part>" for part in parts
        )
        body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        answer, _ = await self._call("POST", bucket, key, query={"uploadId": upload_id}, body=body)
        # The store may begin its answer with 200 and fail later (API Reference, CompleteMultipartUpload).
        if answer and _local(_parse(answer).tag) == "Error":
            raise _error(500, answer, f"POST {bucket}/{key}")

    async def abort_upload(self, bucket: str, key: str, *, upload_id: str) -> None:
        """Drop a multipart upload and its parts; one that is gone already is no error."""
        try:
            await self._call("DELETE", bucket, key, query={"uploadId": upload_id})
        except (UploadGoneError, ObjectNotFoundError):
            log.debug("upload already gone", key=key)

    async def pending_uploads(self, bucket: str, *, prefix: str = "") -> list[PendingUpload]:
        """Return the multipart uploads of a bucket that are neither completed nor aborted."""
        found: list[PendingUpload] = []
        marker: dict[str, str] = {}
        while True:
            body, _ = await self._call("GET", bucket, "", query={"uploads": "", "prefix": prefix, **marker})
            root = _parse(body)
            found += [
                PendingUpload(
                    _text(upload, "Key"), _text(upload, "UploadId"), datetime.fromisoformat(_text(upload, "Initiated"))
                )
                for upload in root
                if _local(upload.tag) == "Upload"
            ]
            if _text(root, "IsTruncated", "false") != "true":
                return found
            marker = {
                "key-marker": _text(root, "NextKeyMarker"),
                "upload-id-marker": _text(root, "NextUploadIdMarker"),
            }

    # Links for clients

    def presign_get(self, bucket: str, key: str, *, expires: int, filename: str) -> str:
        """Return a link to download an object under ``filename``, good for ``expires`` seconds."""
        return self._presign(
            "GET", bucket, key, expires, {"response-content-disposition": content_disposition(filename)}
        )

    def presign_put(self, bucket: str, key: str, *, expires: int) -> str:
        """Return a link to upload an object with one PUT, good for ``expires`` seconds."""
        return self._presign("PUT", bucket, key, expires, {})

    def _presign(self, method: str, bucket: str, key: str, expires: int, query: Mapping[str, str]) -> str:
        url = urlsplit(_url(self._public_endpoint, bucket, key, query))
        return presign_v4(method, url, self._region, self._credentials, datetime.now(UTC), expires).geturl()

    # Buckets

    async def ensure_bucket(self, bucket: str) -> None:
        """Create the bucket if we do not have it."""
        try:
            await self.head_bucket(bucket)
        except ObjectNotFoundError:
            try:
                await self._call("PUT", bucket, "", body=self._bucket_location())
            except StoreRefusedError as refused:
                try:
                    await self.head_bucket(bucket)  # another replica was faster: some stores call that a conflict
                except ObjectNotFoundError:
                    raise refused from None

    def _bucket_location(self) -> bytes:
        if self._region == _FIRST_REGION:  # the API refuses to be told its default
            return b""
        constraint = f"<LocationConstraint>{escape(self._region)}</LocationConstraint>"
        return f"<CreateBucketConfiguration>{constraint}</CreateBucketConfiguration>".encode()

    async def head_bucket(self, bucket: str) -> None:
        """Return if we have the bucket.

        Raises:
            ObjectNotFoundError, AccessDeniedError, StoreUnavailableError
        """
        await self._call("HEAD", bucket, "")

    async def set_cors(self, bucket: str, *, origins: Sequence[str]) -> None:
        """Let pages of ``origins`` download from and upload to the bucket by presigned links."""
        allowed = "".join(f"<AllowedOrigin>{escape(origin)}</AllowedOrigin>" for origin in origins)
        rule = (
            f"<CORSConfiguration><CORSRule>{allowed}<AllowedMethod>GET</AllowedMethod><AllowedMethod>HEAD</AllowedMethod>"
            "<AllowedMethod>PUT</AllowedMethod><AllowedHeader>*</AllowedHeader><ExposeHeader>ETag</ExposeHeader>"
            "<MaxAgeSeconds>3600</MaxAgeSeconds></CORSRule></CORSConfiguration>"
        )
        await self._configure(bucket, "cors", rule)

    async def set_lifecycle(self, bucket: str, *, expire_days: int, abort_upload_days: int) -> None:
        """Let the store itself delete objects and stale multipart uploads after so many days."""
        rule = (
            "<LifecycleConfiguration><Rule><ID>haulyard</ID><Filter><Prefix></Prefix></Filter><Status>Enabled</Status>"
            f"<Expiration><Days>{expire_days}</Days></Expiration><AbortIncompleteMultipartUpload>"
            f"<DaysAfterInitiation>{abort_upload_days}</DaysAfterInitiation></AbortIncompleteMultipartUpload>"
            "</Rule></LifecycleConfiguration>"
        )
        await self._configure(bucket, "lifecycle", rule)

    async def _configure(self, bucket: str, what: str, rule: str) -> None:
        body = rule.encode()
        digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()  # the API asks for MD5
        await self._call("PUT", bucket, "", query={what: ""}, body=body, headers={"Content-MD5": digest})

    # Requests

    async def _upload(
        self,
        bucket: str,
        key: str,
        body: Body,
        *,
        size: int,
        query: Mapping[str, str],
        headers: Mapping[str, str],
    ) -> str:
        what = f"PUT {bucket}/{key}"
        source = in_chunks(body) if isinstance(body, bytes) else body
        outgoing: Outgoing | None = None
        try:
            async with asyncio.timeout(None) as deadline:
                outgoing = Outgoing(source, size, deadline)
                async with (
                    aclosing(outgoing),
                    self._send(
                        "PUT", bucket, key, query=query, body=outgoing, headers={**headers, "Content-Length": str(size)}
                    ) as response,
                ):
                    # Not response.read(): it would wait until the rest of the body is sent, and a store that refuses
                    # it may never take it.
                    answer = await response.content.read()
                    if not outgoing.finished:
                        response.close()
        except _BROKEN as error:
            if outgoing is not None and outgoing.error is not None:
                raise outgoing.error from error
            raise StoreUnavailableError(f"{what}: {error!r}") from error
        if outgoing.error is not None:
            raise outgoing.error
        if response.status != 200:  # noqa: PLR2004
            raise _error(response.status, answer, what)
        if not outgoing.finished or "ETag" not in response.headers:
            raise StoreUnavailableError(f"{what}: the store answered before it had the whole body")
        return str(response.headers["ETag"])

    async def _call(
        self,
        method: str,
        bucket: str,
        key: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> tuple[bytes, Mapping[str, str]]:
        """Send a short request that may be sent twice; try again while the store is unavailable."""
        what = f"{method} {bucket}/{key}"
        for attempt in range(1, _TRIES + 1):
            try:
                async with self._send(method, bucket, key, query=query, headers=headers, body=body) as response:
                    answer = await response.read()
                    if response.status < 300:  # noqa: PLR2004
                        return answer, response.headers
                    error: StoreError = _error(response.status, answer, what)
            except _BROKEN as broken:
                error = StoreUnavailableError(f"{what}: {broken!r}")
                error.__cause__ = broken
            if attempt == _TRIES or not isinstance(error, StoreUnavailableError):
                raise error
            await asyncio.sleep(_FIRST_PAUSE * 2 ** (attempt - 1))
        raise AssertionError("unreachable")

    def _send(
        self,
        method: str,
        bucket: str,
        key: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body = b"",
    ) -> Any:  # aiohttp's request context manager has no public name
        if self._session is None:
            raise RuntimeError("the store is not open")
        url = _url(self._endpoint, bucket, key, query or {})
        now = datetime.now(UTC)
        if not isinstance(body, bytes):
            digest = _UNSIGNED
        elif body:
            digest = hashlib.sha256(body).hexdigest()
        else:
            digest = _EMPTY_SHA256
        split = urlsplit(url)
        signed = sign_v4_s3(
            method,
            split,
            self._region,
            {
                **(headers or {}),
                "Host": split.netloc,
                "x-amz-content-sha256": digest,
                "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ"),
            },
            self._credentials,
            digest,
            now,
        )
        return self._session.request(
            method, URL(url, encoded=True), headers=signed, data=body or None, allow_redirects=False
        )


async def in_chunks(data: bytes | memoryview) -> AsyncIterator[memoryview]:
    """Yield ``data`` in pieces that do not hold the event loop up."""
    view = memoryview(data)
    for start in range(0, len(view), CHUNK):
        yield view[start : start + CHUNK]


def _url(endpoint: str, bucket: str, key: str, query: Mapping[str, str]) -> str:
    path = quote(f"/{bucket}/{key}" if key else f"/{bucket}", safe="/~")
    return f"{endpoint}{path}" + (f"?{urlencode(query, quote_via=quote, safe='~')}" if query else "")


async def _exactly(response: aiohttp.ClientResponse, length: int, what: str) -> AsyncGenerator[bytes, None]:
    left = length
    try:
        async for chunk in response.content.iter_any():
            left -= len(chunk)
            if left < 0:
                raise StoreRefusedError(f"{what}: the store sent more than the {length} bytes asked for")
            yield chunk
    except _BROKEN as error:
        raise StoreUnavailableError(f"{what}: {error!r}") from error
    if left:
        raise StoreUnavailableError(f"{what}: the store sent {length - left} of {length} bytes")


def _object_info(headers: Mapping[str, str]) -> ObjectInfo:
    crc32 = None
    # A composite checksum ("…-12") is one of checksums of parts, and of no use here.
    if headers.get("x-amz-checksum-type", "FULL_OBJECT") == "FULL_OBJECT":
        encoded = headers.get("x-amz-checksum-crc32", "-")
        if "-" not in encoded:
            (crc32,) = struct.unpack(">I", base64.b64decode(encoded))
    return ObjectInfo(
        size=int(headers["Content-Length"]),
        etag=headers["ETag"],
        modified=parsedate_to_datetime(headers["Last-Modified"]),
        content_type=headers.get("Content-Type", "application/octet-stream"),
        crc32=crc32,
    )


def _parse(body: bytes) -> ET.Element:
    try:
        return ET.fromstring(body)  # noqa: S314 - the answer of our own store; expat limits entity expansion
    except ET.ParseError as error:
        raise StoreUnavailableError(f"the store's answer is not XML: {error}") from error


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _text(element: ET.Element, name: str, default: str | None = None) -> str:
    for child in element:
        if _local(child.tag) == name:
            return child.text or ""
    if default is None:
        raise StoreUnavailableError(f"the store's answer has no {name}")
    return default


def _error(status: int, body: bytes, what: str) -> StoreError:
    """Translate an answer of the store to our errors."""
    code = ""
    if body:
        try:
            code = _text(_parse(body), "Code", "")
        except StoreUnavailableError:
            code = ""
    message = f"{what}: {status} {code}".rstrip()
    if code == "NoSuchUpload":
        return UploadGoneError(message)
    if status >= 500 or status in (408, 429) or code in _TRY_AGAIN:  # noqa: PLR2004
        return StoreUnavailableError(message)
    by_status: dict[int, type[StoreError]] = {
        401: AccessDeniedError,
        403: AccessDeniedError,
        404: ObjectNotFoundError,
        412: ObjectChangedError,
    }
    return by_status.get(status, StoreRefusedError)(message)
