"""Writing an object whose length is not known before its last byte.

The store wants to know the length of everything that it is sent, so bytes are gathered to parts, and each part is sent
while the next one fills. What fits into one part is stored with one PUT.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from haulyard_chassis.logs import get_logger
from haulyard_chassis.store import (
    ObjectStore,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
    UploadedPart,
    UploadGoneError,
    in_chunks,
)
from haulyard_chassis.store_requests import tried
from haulyard_chassis.tasks import cancel_and_wait

log = get_logger(__name__)

STAGED_PART = 8 * 1024 * 1024
"""Bytes of a part; twice as many are in memory at most."""
MIN_PART = 5 * 1024 * 1024
MAX_PARTS = 10_000
"""Limits of the API (Amazon S3 User Guide, "Multipart upload limits")."""


class TooLongError(StoreRefusedError):
    """The object would need more parts than an upload can have. A longer part allows a longer object."""


@dataclass(frozen=True, slots=True)
class StagedObject:
    """An object that is in the store."""

    etag: str
    size: int
    """Bytes."""


@asynccontextmanager
async def staged(
    store: ObjectStore, bucket: str, key: str, *, content_type: str, part_size: int = STAGED_PART
) -> AsyncIterator["StagingWriter"]:
    """Open a writer of one object.

    Unless `StagingWriter.finish` has returned, the object does not count: no upload of it is left, and it is in the
    store only if all its bytes are and just the store's word for that was lost.
    """
    writer = StagingWriter(store, bucket, key, content_type=content_type, part_size=part_size)
    try:
        yield writer
    finally:
        await writer.abandon()


class StagingWriter:
    """Takes the bytes of one object; made by `staged`.

    Args:
        store: where to.
        bucket: where to.
        key: where to.
        content_type: of the object.
        part_size: bytes that are sent at a time, at least 5 MiB. All parts but the last are equal, as some stores ask.
    """

    def __init__(self, store: ObjectStore, bucket: str, key: str, *, content_type: str, part_size: int) -> None:
        if part_size < MIN_PART:
            raise ValueError(f"a part has at least {MIN_PART} bytes")
        self._store = store
        self._bucket = bucket
        self._key = key
        self._content_type = content_type
        self._part_size = part_size
        self._filling = bytearray()
        self._upload_id: str | None = None
        self._sending: asyncio.Task[UploadedPart] | None = None
        self._sent: list[UploadedPart] = []
        self._over = False
        self.position = 0
        """Bytes taken so far."""

    async def write(self, data: bytes | memoryview) -> None:
        """Take more bytes; waits while the store has not taken those before.

        Raises:
            TooLongError: the object is too long for its parts.
            StoreError: the store did not take an earlier part.
        """
        if self._over:
            raise RuntimeError("the object is finished or given up")
        view = memoryview(data)
        while view:
            # A full buffer waits for one more byte: it may be the whole object, or the last part.
            if len(self._filling) == self._part_size:
                await self._send()
            taken = view[: self._part_size - len(self._filling)]
            self._filling += taken
            self.position += len(taken)
            view = view[len(taken) :]

    async def finish(self) -> StagedObject:
        """Make the object, and return its ETag and size.

        Raises:
            StoreError: the store did not take it all.
        """
        if self._over:
            raise RuntimeError("the object is finished or given up")
        if self._upload_id is None:
            made = StagedObject(await tried(self._put), self.position)
        else:
            await self._send()
            await self._settle()
            made = await self._complete(self._upload_id)
        self._over = True
        return made

    async def abandon(self) -> None:
        """Leave nothing of an object that is not finished; the context manager calls it."""
        if self._over:
            return
        self._over = True
        self._filling = bytearray()
        sending, self._sending = self._sending, None
        if sending is not None:
            await cancel_and_wait(sending)
        if self._upload_id is not None:
            try:
                await self._store.abort_upload(self._bucket, self._key, upload_id=self._upload_id)
            except StoreError as error:
                # The bucket's lifecycle rule drops it; why the object was given up matters more.
                log.warning("upload not aborted", key=self._key, error=str(error))

    async def _put(self) -> str:
        size = len(self._filling)
        body = in_chunks(self._filling)
        return await self._store.put(self._bucket, self._key, body, size=size, content_type=self._content_type)

    async def _send(self) -> None:
        """Hand the full buffer over to be sent, as soon as the one before is."""
        await self._settle()
        if len(self._sent) == MAX_PARTS:
            raise TooLongError(f"{self._bucket}/{self._key}: more than {MAX_PARTS} parts of {self._part_size} bytes")
        if self._upload_id is None:
            self._upload_id = await self._store.create_upload(self._bucket, self._key, content_type=self._content_type)
        part, self._filling = self._filling, bytearray()
        self._sending = asyncio.create_task(self._send_part(self._upload_id, len(self._sent) + 1, part))

    async def _send_part(self, upload_id: str, number: int, part: bytearray) -> UploadedPart:
        async def once() -> str:
            return await self._store.upload_part(
                self._bucket, self._key, upload_id=upload_id, number=number, body=in_chunks(part), size=len(part)
            )

        return UploadedPart(number, await tried(once))

    async def _settle(self) -> None:
        """Wait for the part under way."""
        if self._sending is not None:
            part = await self._sending
            self._sending = None
            self._sent.append(part)

    async def _complete(self, upload_id: str) -> StagedObject:
        try:
            await self._store.complete_upload(self._bucket, self._key, upload_id=upload_id, parts=self._sent)
        except UploadGoneError:
            # It was tried twice, and the answer to the first was lost: the object tells.
            log.debug("upload already completed", key=self._key)
        # Not the answer's ETag: some stores leave it empty.
        info = await self._store.head(self._bucket, self._key)
        if info.size != self.position:
            raise StoreUnavailableError(f"{self._bucket}/{self._key} has {info.size} bytes, not {self.position}")
        return StagedObject(info.etag, info.size)
