"""What kind of store this is, found out by trying: stores that all speak S3 differ in what they really do.

Asked once, when an orchestrator starts; the answer says which plans work.
"""

import asyncio
import secrets
import zlib
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from haulyard_chassis.logs import get_logger
from haulyard_chassis.store import (
    AccessDeniedError,
    ObjectChangedError,
    ObjectNotFoundError,
    ObjectStore,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
    UploadedPart,
)

log = get_logger(__name__)

Result = TypeVar("Result")

PROBE_PREFIX = ".haulyard-probe/"
"""Where the objects are kept that a probe makes, for as long as it runs."""

MIB = 1024 * 1024
API_MIN_PART = 5 * MIB
"""Bytes that each part but the last must have (Amazon S3 User Guide, "Multipart upload limits")."""
PATIENCE = 120.0
"""Seconds that a probe may take."""

_SOURCE = 6 * MIB
"""Bytes of the object to copy from: more than 5 MiB, as Amazon S3 does not copy ranges of smaller ones."""
_OFFSET = 12_345
"""Where a range begins that lies inside of the source."""
_COPIED = 5 * MIB + 512 * 1024
"""Bytes that are copied from there: more than 5 MiB again, so that they can be copied once more."""
_NAME = "a source: ä+&=#"
"""Its name has to be encoded, and decoded once to be found."""
_ENCODED = "copy%41"
"""The name of what is copied, to be copied from in turn. A store that decodes it once too often finds no "copyA"."""
_AMBIGUOUS = frozenset("%?")
_TYPE = "application/octet-stream"
_WRONG_ETAG = f'"{"0" * 32}"'
_REFUSALS = (StoreRefusedError, AccessDeniedError, ObjectNotFoundError)
"""How stores say that they cannot do something that others can."""


@dataclass(frozen=True, slots=True)
class StoreProfile:
    """What a store does, as far as plans depend on it."""

    copy: bool
    """It makes a part of a byte range of another object, and the bytes are right.

    Amazon S3, MinIO, R2, Ceph, SeaweedFS, Garage, VersityGW do. Google's S3 interface does not, and there are servers
    that take the request and store nothing, or do not find an object whose key has spaces.
    """
    copy_checks_etag: bool
    """It copies only from an object that still has the ETag asked for; else the source is looked at before and after.

    Amazon S3, MinIO and R2 do. Ceph (16) ignores the condition.
    """
    copy_crc32: bool
    """It tells the right CRC-32 of a part copied into an upload that was created with CRC-32, and completes the upload.

    Amazon S3 does. MinIO refuses copied parts in such an upload, Ceph (16) has no checksums.
    """
    equal_parts: bool
    """All parts but the last must have the same size.

    With Cloudflare R2.
    """
    min_part: int
    """Bytes that each part but the last must have; 0 if it takes any.

    5 MiB with all of those above.
    """
    copy_any_key: bool = False
    """It copies from the object that was named, whatever characters its key has; ask `can_copy`.

    Amazon S3 does. Ceph (16) decodes the name twice: it takes "a%41" for "aA" and copies that, takes what follows
    "?versionId=" for a version, and ends, for all that use it, at a name that cannot be decoded twice, such as "100%".
    """

    def can_copy(self, key: str) -> bool:
        """Whether parts can be copied from the object with this key; else its bytes have to go through us."""
        return self.copy and (self.copy_any_key or not _AMBIGUOUS.intersection(key))

    def describe(self) -> dict[str, bool | int]:
        """Return what to log."""
        return asdict(self)


async def probe(store: ObjectStore, bucket: str) -> StoreProfile:
    """Find out what the store does, with a few temporary objects in the bucket.

    About 35 small requests, 6 MiB written and 5 MiB read; 17 MiB written if it does not copy. What was made is removed
    again.

    Raises:
        StoreUnavailableError: the store is away, or too slow; try again later.
        AccessDeniedError: our credentials may not write into the bucket.
        ObjectNotFoundError: there is no such bucket.
        StoreRefusedError: this is no store that archives can be made in.
    """
    questions = _Questions(store, bucket, f"{PROBE_PREFIX}{secrets.token_hex(8)}/")
    try:
        async with asyncio.timeout(PATIENCE):
            return await questions.ask()
    except TimeoutError as error:
        raise StoreUnavailableError(f"the store did not answer all questions within {PATIENCE:.0f} s") from error
    finally:
        await questions.clear()


class _Upload:
    """One multipart upload of a probe."""

    def __init__(self, store: ObjectStore, bucket: str, key: str, upload_id: str, source: "_Source") -> None:
        self._store = store
        self._where = (bucket, key)
        self._upload_id = upload_id
        self._source = source
        self._parts: list[UploadedPart] = []
        self.completed = False

    async def write(self, data: bytes, *, crc32: bool = False) -> None:
        """Add a part."""
        number, checksum = len(self._parts) + 1, zlib.crc32(data) if crc32 else None
        etag = await self._store.upload_part(
            *self._where, upload_id=self._upload_id, number=number, body=data, size=len(data), crc32=checksum
        )
        self._parts.append(UploadedPart(number, etag, checksum))

    async def copy(self, offset: int, length: int, *, etag: str = "") -> int | None:
        """Add a part of the source, and return its CRC-32 if the store tells it."""
        number, (bucket, key) = len(self._parts) + 1, self._where
        copied = await self._store.copy_part(
            bucket,
            key,
            upload_id=self._upload_id,
            number=number,
            source_bucket=bucket,
            source_key=self._source.key,
            etag=etag or self._source.etag,
            offset=offset,
            length=length,
        )
        self._parts.append(UploadedPart(number, copied.etag, copied.crc32))
        return copied.crc32

    async def complete(self) -> None:
        """Make the object."""
        await self._store.complete_upload(*self._where, upload_id=self._upload_id, parts=self._parts)
        self.completed = True

    async def abort(self) -> None:
        """Drop it, unless it is an object by now."""
        if not self.completed:
            await self._store.abort_upload(*self._where, upload_id=self._upload_id)


@dataclass(frozen=True, slots=True)
class _Source:
    """The object that a probe copies from."""

    key: str
    etag: str
    data: bytes

    def range(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


class _Questions:
    """The questions of one probe, each with an upload of its own."""

    def __init__(self, store: ObjectStore, bucket: str, prefix: str) -> None:
        self._store = store
        self._bucket = bucket
        self._prefix = prefix
        self._keys: list[str] = []

    async def ask(self) -> StoreProfile:
        """Ask all."""
        source = await self._put_source()
        copy, checks_etag, crc32, any_size = await _together(
            self._copies(source), self._checks_etag(source), self._tells_crc32(source), self._takes_small_parts(source)
        )
        return StoreProfile(
            copy=copy,
            copy_checks_etag=copy and checks_etag,
            copy_crc32=copy and crc32,
            copy_any_key=copy and await self._copies_any_key(source),
            equal_parts=not await self._takes_parts(source, API_MIN_PART, _SOURCE, copy=copy)
            and await self._takes_equal_parts(source, copy=copy),
            min_part=0 if any_size else API_MIN_PART,
        )

    async def clear(self) -> None:
        """Remove all objects; uploads are gone by now."""
        try:
            await _together(*(self._store.delete(self._bucket, key) for key in self._keys))
        except StoreError as error:
            log.warning("objects of a probe are left", prefix=self._prefix, error=str(error))

    async def _put_source(self) -> _Source:
        # Random, so that a range which begins at a wrong place is not taken for the right one.
        data, key = secrets.token_bytes(_SOURCE), self._key(_NAME)
        return _Source(key, await self._store.put(self._bucket, key, data, size=_SOURCE, content_type=_TYPE), data)

    async def _copies(self, source: _Source) -> bool:
        key = self._key(_ENCODED)
        try:
            async with self._upload(key, source) as upload:
                await upload.copy(_OFFSET, _COPIED)
                await upload.complete()
            right = await self._store.get(self._bucket, key) == source.range(_OFFSET, _COPIED)
        except _REFUSALS as error:
            log.info("the store does not copy parts", reason=str(error))
            return False
        if not right:
            log.warning("the store copies parts wrongly: its copies are not used")
        return right

    async def _copies_any_key(self, source: _Source) -> bool:
        """Whether it finds what was copied before, whose name has a percent sign."""
        key = self._key(_ENCODED)
        etag = (await self._store.head(self._bucket, key)).etag
        copy = _Source(key, etag, source.range(_OFFSET, _COPIED))
        try:
            async with self._upload(self._key("again"), copy) as upload:
                await upload.copy(0, API_MIN_PART)
        except (*_REFUSALS, ObjectChangedError) as error:
            log.info("the store does not copy from keys with a percent sign", reason=str(error))
            return False
        return True

    async def _checks_etag(self, source: _Source) -> bool:
        try:
            async with self._upload(self._key("etag"), source) as upload:
                await upload.copy(_OFFSET, API_MIN_PART, etag=_WRONG_ETAG)
        except ObjectChangedError:
            return True
        except _REFUSALS:
            return False
        return False

    async def _tells_crc32(self, source: _Source) -> bool:
        """Whether the whole way works, with a copied part and a written one."""
        try:
            async with self._upload(self._key("crc32"), source, crc32=True) as upload:
                if await upload.copy(_OFFSET, API_MIN_PART) != zlib.crc32(source.range(_OFFSET, API_MIN_PART)):
                    return False
                await upload.write(b"end", crc32=True)
                await upload.complete()
        except _REFUSALS as error:
            log.info("the store does not tell the checksums of copied parts", reason=str(error))
            return False
        return True

    async def _takes_small_parts(self, source: _Source) -> bool:
        try:
            async with self._upload(self._key("small"), source) as upload:
                await upload.write(b"a")
                await upload.write(b"b")
                await upload.complete()
        except StoreRefusedError:
            return False
        return True

    async def _takes_parts(self, source: _Source, *sizes: int, copy: bool) -> bool:
        """Whether it makes an object of parts of these sizes and a short last one."""
        try:
            async with self._upload(self._key("sizes"), source) as upload:
                for size in sizes:
                    await (upload.copy(0, size) if copy else upload.write(source.range(0, size)))
                await upload.write(b"end")
                await upload.complete()
        except StoreRefusedError as error:
            log.info("the store does not take these parts", sizes=sizes, reason=str(error))
            return False
        return True

    async def _takes_equal_parts(self, source: _Source, *, copy: bool) -> bool:
        if not await self._takes_parts(source, API_MIN_PART, API_MIN_PART, copy=copy):
            raise StoreRefusedError("the store makes no object of parts of 5 MiB, whether they are equal or not")
        return True

    def _key(self, name: str) -> str:
        key = f"{self._prefix}{name}"
        if key not in self._keys:
            self._keys.append(key)
        return key

    @asynccontextmanager
    async def _upload(self, key: str, source: _Source, *, crc32: bool = False) -> AsyncIterator[_Upload]:
        upload_id = await self._store.create_upload(self._bucket, key, content_type=_TYPE, crc32=crc32)
        upload = _Upload(self._store, self._bucket, key, upload_id, source)
        try:
            yield upload
        finally:
            try:
                await upload.abort()
            except StoreError as error:
                log.warning("an upload of a probe is left", key=key, error=str(error))


async def _together(*coroutines: Coroutine[Any, Any, Result]) -> list[Result]:
    """Run all at the same time and return their results; one that fails ends the others, and its error comes out."""
    failures: tuple[Exception, ...] = ()
    tasks: list[asyncio.Task[Result]] = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks += [group.create_task(coroutine) for coroutine in coroutines]
    except ExceptionGroup as group_of:
        failures = group_of.exceptions
    if failures:  # raised out here: without the group as its context
        raise failures[0]
    return [task.result() for task in tasks]
