"""The object store: the operations of the S3 API that we use.

How requests are made is in `haulyard_chassis.store_requests`, how they look in `haulyard_chassis.store_wire`. All that
callers need is here.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from itertools import islice

import aiohttp

from haulyard_chassis.logs import get_logger
from haulyard_chassis.settings import ServiceSettings
from haulyard_chassis.store_errors import (
    AccessDeniedError,
    ObjectChangedError,
    ObjectNotFoundError,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
    UploadGoneError,
    error_of,
)
from haulyard_chassis.store_requests import BROKEN, CHUNK, Body, StoreRequests, in_chunks
from haulyard_chassis.store_wire import (
    CopiedPart,
    ObjectInfo,
    ObjectSummary,
    PendingUpload,
    UploadedPart,
    completion,
    content_disposition,
    content_md5,
    copied_part,
    cors_rule,
    deletion,
    encoded_crc32,
    lifecycle_rule,
    location,
    object_info,
    objects_in,
    path_of,
    undeleted_in,
    upload_id_in,
    uploads_in,
)
from haulyard_chassis.store_xml import can_hold

__all__ = [
    "CHUNK",
    "AccessDeniedError",
    "Body",
    "CopiedPart",
    "ObjectChangedError",
    "ObjectInfo",
    "ObjectNotFoundError",
    "ObjectStore",
    "ObjectSummary",
    "PendingUpload",
    "StoreError",
    "StoreRefusedError",
    "StoreUnavailableError",
    "UploadGoneError",
    "UploadedPart",
    "content_disposition",
    "in_chunks",
]

log = get_logger(__name__)

SLOWEST_COPY = 1024 * 1024
"""Bytes a second that a store copies at least, while it has other work: what a copy may take is reckoned by it."""
COPY_GRACE = 60.0
"""Seconds that a copy of any size may take."""
COMPLETION = 300.0
"""Seconds that the store may be silent while it makes an object of its parts: minutes, with many parts."""
_DELETED_AT_ONCE = 1000
"""Keys that one DeleteObjects may name (API Reference)."""


class ObjectStore:
    """An S3-compatible store.

    Args:
        settings: endpoint, region and credentials.
        connections: most requests that are under way at the same time.
    """

    def __init__(self, settings: ServiceSettings, *, connections: int = 64) -> None:
        self._requests = StoreRequests(settings, connections=connections)
        self._region = settings.s3_region

    async def open(self) -> None:
        """Make the session; nothing connects yet."""
        await self._requests.open()

    async def close(self) -> None:
        """Close all connections."""
        await self._requests.close()

    # Objects

    async def head(self, bucket: str, key: str) -> ObjectInfo:
        """Return what the store says of an object.

        Raises:
            ObjectNotFoundError, AccessDeniedError, StoreUnavailableError
        """
        _, headers = await self._requests.call("HEAD", bucket, key, headers={"x-amz-checksum-mode": "ENABLED"})
        return object_info(headers)

    async def get(self, bucket: str, key: str) -> bytes:
        """Return a whole (small) object."""
        body, _ = await self._requests.call("GET", bucket, key)
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
                response = await opened.enter_async_context(self._requests.send("GET", bucket, key, headers=headers))
                if response.status not in (200, 206):
                    raise error_of(response.status, await response.read(), what)
            except BROKEN as error:
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
        headers = {"Content-Type": content_type}
        return await self._requests.upload(bucket, key, body, size=size, query={}, headers=headers)

    async def delete(self, bucket: str, key: str) -> None:
        """Delete an object; one that is not there is no error."""
        await self._requests.call("DELETE", bucket, key)

    async def delete_all(self, bucket: str, keys: Iterable[str]) -> None:
        """Delete objects, a thousand with one request; those that are not there are no error.

        Raises:
            StoreError: the first reason for which an object could not be deleted. All others were tried all the same.
        """
        errors: list[StoreError] = []
        left = iter(keys)
        while batch := list(islice(left, _DELETED_AT_ONCE)):
            speakable = [key for key in batch if can_hold(key)]
            errors += await self._delete_batch(bucket, speakable) if speakable else []
            for key in set(batch).difference(speakable):
                await self.delete(bucket, key)
        if errors:
            errors[0].add_note(f"{len(errors)} objects were not deleted")
            raise errors[0]

    async def _delete_batch(self, bucket: str, keys: Sequence[str]) -> list[StoreError]:
        body, what = deletion(keys), f"POST {bucket}?delete"
        return await self._requests.ask(
            lambda answer: undeleted_in(answer, what),
            "POST",
            bucket,
            "",
            query={"delete": ""},
            body=body,
            headers={"Content-MD5": content_md5(body)},
        )

    async def list_objects(
        self, bucket: str, *, prefix: str, after: str | None = None
    ) -> AsyncGenerator[ObjectSummary, None]:
        """Yield the objects whose keys begin with ``prefix``, in the order of their keys, a page at a time.

        With ``after`` those keys only that come behind it.
        """
        first = {"list-type": "2", "encoding-type": "url", "prefix": prefix}
        query: dict[str, str] | None = first if after is None else {**first, "start-after": after}
        while query is not None:
            found, more = await self._requests.ask(objects_in, "GET", bucket, "", query=query)
            for listed in found:
                yield listed
            query = None if more is None else {**query, **more}

    # Multipart uploads

    async def create_upload(self, bucket: str, key: str, *, content_type: str, crc32: bool = False) -> str:
        """Start a multipart upload and return its id.

        With ``crc32`` the store checks the CRC-32 of each part, and may tell that of a copied one. Each part that is
        written must come with its own then, and some stores refuse copied parts: see `StoreProfile.copy_crc32`.
        """
        headers = {"Content-Type": content_type}
        if crc32:
            headers["x-amz-checksum-algorithm"] = "CRC32"
        return await self._requests.ask(upload_id_in, "POST", bucket, key, query={"uploads": ""}, headers=headers)

    async def upload_part(
        self, bucket: str, key: str, *, upload_id: str, number: int, body: Body, size: int, crc32: int | None = None
    ) -> str:
        """Store one part of ``size`` bytes and return its ETag; see `put`. A part stored twice counts once.

        ``crc32`` is that of the bytes, for the store to check; for an upload that was created with CRC-32.

        Raises:
            UploadGoneError: the upload was completed or aborted.
            StoreRefusedError: the bytes have another CRC-32.
        """
        query = {"partNumber": str(number), "uploadId": upload_id}
        headers = {} if crc32 is None else {"x-amz-checksum-crc32": encoded_crc32(crc32)}
        return await self._requests.upload(bucket, key, body, size=size, query=query, headers=headers)

    async def copy_part(
        self,
        bucket: str,
        key: str,
        *,
        upload_id: str,
        number: int,
        source_bucket: str,
        source_key: str,
        etag: str,
        offset: int,
        length: int,
    ) -> CopiedPart:
        """Make one part of ``length`` bytes of an object that must still have ``etag``; they do not leave the store.

        Not every store checks the ETag: see `StoreProfile.copy_checks_etag`. Some copy from another object if the key
        has certain characters: ask `StoreProfile.can_copy` before.

        Raises:
            ObjectChangedError: the source has another ETag by now.
            ObjectNotFoundError: there is no source.
            UploadGoneError: the upload was completed or aborted.
            StoreRefusedError: the store does not copy, or not this.
            AccessDeniedError, StoreUnavailableError
        """
        if length < 1:  # stores take a range without bytes for no range at all
            raise ValueError("a part is copied from at least one byte")
        patience = COPY_GRACE + length / SLOWEST_COPY
        try:
            async with asyncio.timeout(patience):
                return await self._requests.ask(
                    copied_part,
                    "PUT",
                    bucket,
                    key,
                    query={"partNumber": str(number), "uploadId": upload_id},
                    headers={
                        "x-amz-copy-source": path_of(source_bucket, source_key),
                        "x-amz-copy-source-if-match": etag,
                        "x-amz-copy-source-range": f"bytes={offset}-{offset + length - 1}",
                    },
                    patience=patience,
                    fails_late=True,
                )
        except TimeoutError as error:
            raise StoreUnavailableError(f"PUT {bucket}/{key}: no copy after {patience:.0f} s") from error

    async def complete_upload(self, bucket: str, key: str, *, upload_id: str, parts: Sequence[UploadedPart]) -> None:
        """Make the object out of its parts, which must be in ascending order.

        Raises:
            UploadGoneError: the upload was completed or aborted before; look at the object to tell which. Some stores
                take the same parts a second time instead.
            StoreRefusedError: the parts are not what the store has, or not of sizes that it takes.
        """
        await self._requests.call(
            "POST",
            bucket,
            key,
            query={"uploadId": upload_id},
            body=completion(parts),
            patience=COMPLETION,
            fails_late=True,
        )

    async def abort_upload(self, bucket: str, key: str, *, upload_id: str) -> None:
        """Drop a multipart upload and its parts; one that is gone already is no error."""
        try:
            await self._requests.call("DELETE", bucket, key, query={"uploadId": upload_id})
        except (UploadGoneError, ObjectNotFoundError):
            log.debug("upload already gone", key=key)

    async def pending_uploads(self, bucket: str, *, prefix: str = "") -> list[PendingUpload]:
        """Return the multipart uploads of a bucket that are neither completed nor aborted."""
        found: list[PendingUpload] = []
        query: dict[str, str] | None = {"uploads": "", "prefix": prefix}
        while query is not None:
            page, more = await self._requests.ask(uploads_in, "GET", bucket, "", query=query)
            found += page
            query = None if more is None else {**query, **more}
        return found

    # Links for clients

    def presign_get(self, bucket: str, key: str, *, expires: int, filename: str) -> str:
        """Return a link to download an object under ``filename``, good for ``expires`` seconds."""
        query = {"response-content-disposition": content_disposition(filename)}
        return self._requests.presign("GET", bucket, key, expires=expires, query=query)

    def presign_put(self, bucket: str, key: str, *, expires: int) -> str:
        """Return a link to upload an object with one PUT, good for ``expires`` seconds."""
        return self._requests.presign("PUT", bucket, key, expires=expires, query={})

    # Buckets

    async def ensure_bucket(self, bucket: str) -> None:
        """Create the bucket if we do not have it."""
        try:
            await self.head_bucket(bucket)
        except ObjectNotFoundError:
            try:
                await self._requests.call("PUT", bucket, "", body=location(self._region))
            except StoreRefusedError as refused:
                try:
                    await self.head_bucket(bucket)  # another replica was faster: some stores call that a conflict
                except ObjectNotFoundError:
                    raise refused from None

    async def head_bucket(self, bucket: str) -> None:
        """Return if we have the bucket.

        Raises:
            ObjectNotFoundError, AccessDeniedError, StoreUnavailableError
        """
        await self._requests.call("HEAD", bucket, "")

    async def set_cors(self, bucket: str, *, origins: Sequence[str]) -> None:
        """Let pages of ``origins`` download from and upload to the bucket by presigned links."""
        await self._configure(bucket, "cors", cors_rule(origins))

    async def set_lifecycle(self, bucket: str, *, expire_days: int, abort_upload_days: int) -> None:
        """Let the store itself delete objects and stale multipart uploads after so many days."""
        rule = lifecycle_rule(expire_days=expire_days, abort_upload_days=abort_upload_days)
        await self._configure(bucket, "lifecycle", rule)

    async def _configure(self, bucket: str, what: str, rule: bytes) -> None:
        await self._requests.call(
            "PUT", bucket, "", query={what: ""}, body=rule, headers={"Content-MD5": content_md5(rule)}
        )


async def _exactly(response: aiohttp.ClientResponse, length: int, what: str) -> AsyncGenerator[bytes, None]:
    left = length
    try:
        async for chunk in response.content.iter_any():
            left -= len(chunk)
            if left < 0:
                raise StoreRefusedError(f"{what}: the store sent more than the {length} bytes asked for")
            yield chunk
    except BROKEN as error:
        raise StoreUnavailableError(f"{what}: {error!r}") from error
    if left:
        raise StoreUnavailableError(f"{what}: the store sent {length - left} of {length} bytes")
