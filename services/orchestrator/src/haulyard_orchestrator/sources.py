"""Looks a job's files up: in the catalogue, and where their sources are."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from haulyard_chassis.database import Pool
from haulyard_chassis.egress import UnsafeUrlError
from haulyard_chassis.origin import (
    Origin,
    OriginDeniedError,
    OriginError,
    OriginNotFoundError,
)
from haulyard_chassis.store import (
    AccessDeniedError,
    ObjectNotFoundError,
    ObjectStore,
    StoreError,
    StoreUnavailableError,
)
from haulyard_contracts import ErrorCode, Failure, HttpSource, ObjectSource
from haulyard_orchestrator import catalogue
from haulyard_orchestrator.catalogue import CatalogueFile
from haulyard_orchestrator.file_records import JobFile
from haulyard_orchestrator.planning import FoundFile, LostFile

_NO_DATE = 315_532_800
"""1980-01-01 UTC: an origin need not say when its content was modified."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """What is known of a job's files."""

    found: list[FoundFile] = field(default_factory=list)
    lost: list[LostFile] = field(default_factory=list)

    @property
    def confirmed(self) -> bool:
        """Whether all sources were looked at, and nothing was believed."""
        return all(file.confirmed for file in self.found)


class Sources:
    """Finds out what can be archived.

    Args:
        pool: the database with the catalogue.
        store: holds the objects.
        origin: reads sources that are not in the store.
        check_url: raises `UnsafeUrlError` for a URL that is not, or no longer, one that may be archived.
        lookups: sources of one job that are looked at at the same time.
    """

    def __init__(
        self, pool: Pool, store: ObjectStore, origin: Origin, *, check_url: Callable[[str], None], lookups: int
    ) -> None:
        self._pool = pool
        self._store = store
        self._origin = origin
        self._check_url = check_url
        self._lookups = lookups

    async def resolve(self, files: Sequence[JobFile], *, user_id: str, sure: bool = False) -> Resolved:
        """Return the files that can be archived, and those that cannot.

        What the catalogue knows of an object is believed: every read names the version that it wants, so an object
        that was replaced meanwhile is noticed then. That spares a job one request for each of its files.

        Args:
            files: of the job; none of those that are lost already.
            user_id: whose job it is.
            sure: believe nothing, and look at every source.

        Raises:
            StoreUnavailableError: the store does not answer, so it is not known whether the objects are there.
        """
        known = await catalogue.find(self._pool, [file.file_id for file in files], user_id=user_id)
        gate = asyncio.Semaphore(self._lookups)

        async def look(file: JobFile) -> FoundFile | LostFile:
            row = known.get(file.file_id)
            if row is None:
                return _lost(file, ErrorCode.FILE_NOT_FOUND, f"File {file.file_id} not found", None)
            if not sure and (believed := _believed(file, row)):
                return believed
            async with gate:
                if row.url is not None:
                    return await self._look_at_origin(file, row, row.url)
                return await self._look_at_object(file, row, row.bucket or "", row.key or "")

        resolved = Resolved()
        for outcome in await asyncio.gather(*(look(file) for file in files)):
            if isinstance(outcome, FoundFile):
                resolved.found.append(outcome)
            else:
                resolved.lost.append(outcome)
        return resolved

    async def _look_at_object(self, file: JobFile, row: CatalogueFile, bucket: str, key: str) -> FoundFile | LostFile:
        try:
            info = await self._store.head(bucket, key)
        except ObjectNotFoundError:
            message = f"File {file.file_id} not found: its object is not in the store"
            return _lost(file, ErrorCode.FILE_NOT_FOUND, message, row.name)
        except AccessDeniedError:
            message = f"File {file.file_id} cannot be read: the store denies access"
            return _lost(file, ErrorCode.PERMISSION_DENIED, message, row.name)
        except StoreUnavailableError:
            raise
        except StoreError as error:
            message = f"File {file.file_id} cannot be read: {error}"
            return _lost(file, ErrorCode.SOURCE_UNAVAILABLE, message, row.name)
        source = ObjectSource(bucket=bucket, key=key, etag=info.etag)
        return _found(
            file,
            row,
            source,
            version=info.etag,
            size=info.size,
            mtime=int(info.modified.timestamp()),
            crc32=info.crc32,
        )

    async def _look_at_origin(self, file: JobFile, row: CatalogueFile, url: str) -> FoundFile | LostFile:
        try:
            self._check_url(url)
            info = await self._origin.head(url)
        except OriginNotFoundError:
            message = f"File {file.file_id} not found: its origin does not have it"
            return _lost(file, ErrorCode.FILE_NOT_FOUND, message, row.name)
        except (OriginDeniedError, UnsafeUrlError) as error:
            message = f"File {file.file_id} cannot be read: {error}"
            return _lost(file, ErrorCode.PERMISSION_DENIED, message, row.name)
        except OriginError as error:
            # One origin that is away must not keep the other files of the job waiting.
            message = f"File {file.file_id} cannot be read: {error}"
            return _lost(file, ErrorCode.SOURCE_UNAVAILABLE, message, row.name)
        in_ranges = info.ranges and info.size is not None and info.validator is not None
        source = HttpSource(url=url, validator=info.validator if in_ranges else None)
        return _found(
            file,
            row,
            source,
            version=info.validator or "",
            size=info.size if in_ranges else None,
            mtime=info.modified if info.modified is not None else _NO_DATE,
            crc32=None,
        )


def _believed(file: JobFile, row: CatalogueFile) -> FoundFile | None:
    """Return the file as the catalogue knows it, if it knows enough of its object."""
    if row.facts is None or row.bucket is None or row.key is None:
        return None
    source = ObjectSource(bucket=row.bucket, key=row.key, etag=row.facts.etag)
    return _found(
        file,
        row,
        source,
        version=row.facts.etag,
        size=row.facts.size,
        mtime=row.facts.mtime,
        crc32=None,
        confirmed=False,
    )


def _found(
    file: JobFile,
    row: CatalogueFile,
    origin: ObjectSource | HttpSource,
    *,
    version: str,
    size: int | None,
    mtime: int,
    crc32: int | None,
    confirmed: bool = True,
) -> FoundFile:
    before = file.prepared
    # What has no version was staged: that is what is archived, whatever its origin has by now.
    if before is not None and before.version in ("", version):
        return FoundFile(
            position=file.position,
            file_id=file.file_id,
            name=row.name,
            origin=origin,
            data=before.data,
            version=version,
            size=before.size,
            mtime=mtime,
            crc32=before.crc32,
            packed=before.packed,
            prepared=True,
            confirmed=confirmed,
        )
    return FoundFile(
        position=file.position,
        file_id=file.file_id,
        name=row.name,
        origin=origin,
        data=origin,
        version=version,
        size=size,
        mtime=mtime,
        # A checksum is good for the version of the object that it was computed of, and for no other.
        crc32=row.crc32 if version and row.crc32_etag == version else crc32,
        confirmed=confirmed,
    )


def _lost(file: JobFile, code: ErrorCode, message: str, name: str | None) -> LostFile:
    return LostFile(
        position=file.position, file_id=file.file_id, failure=Failure(code=code, message=message), name=name
    )
