"""Looks a job's files up: in the catalogue, and in the store that holds the objects."""

import asyncio
from collections.abc import Sequence

from haulyard_chassis.database import Pool
from haulyard_chassis.store import (
    AccessDeniedError,
    ObjectNotFoundError,
    ObjectStore,
    StoreError,
    StoreUnavailableError,
)
from haulyard_contracts import ErrorCode, Failure
from haulyard_orchestrator import catalogue
from haulyard_orchestrator.catalogue import CatalogueFile
from haulyard_orchestrator.job_records import JobFile
from haulyard_orchestrator.planning import FoundFile, LostFile


class Sources:
    """Finds out what can be archived.

    Args:
        pool: the database with the catalogue.
        store: holds the objects.
        lookups: objects of one job that are looked up at the same time.
    """

    def __init__(self, pool: Pool, store: ObjectStore, *, lookups: int) -> None:
        self._pool = pool
        self._store = store
        self._lookups = lookups

    async def resolve(self, files: Sequence[JobFile], *, user_id: str) -> tuple[list[FoundFile], list[LostFile]]:
        """Return the files whose objects are there as they are now, and those that cannot be archived.

        Raises:
            StoreUnavailableError: the store does not answer, so it is not known whether the objects are there.
        """
        async with self._pool.acquire() as connection:
            known = await catalogue.find(connection, [file.file_id for file in files], user_id=user_id)
        gate = asyncio.Semaphore(self._lookups)

        async def look(file: JobFile) -> FoundFile | LostFile:
            row = known.get(file.file_id)
            if row is None:
                return _lost(file, ErrorCode.FILE_NOT_FOUND, f"File {file.file_id} not found", None)
            async with gate:
                return await self._look_at_object(file, row)

        outcomes = await asyncio.gather(*(look(file) for file in files))
        return (
            [outcome for outcome in outcomes if isinstance(outcome, FoundFile)],
            [outcome for outcome in outcomes if isinstance(outcome, LostFile)],
        )

    async def _look_at_object(self, file: JobFile, row: CatalogueFile) -> FoundFile | LostFile:
        try:
            info = await self._store.head(row.bucket, row.key)
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
        # A checksum is good for the version of the object that it was computed of, and for no other.
        checksum = row.crc32 if row.crc32_etag == info.etag else info.crc32
        return FoundFile(
            position=file.position,
            file_id=file.file_id,
            name=row.name,
            bucket=row.bucket,
            key=row.key,
            etag=info.etag,
            size=info.size,
            mtime=int(info.modified.timestamp()),
            crc32=checksum,
        )


def _lost(file: JobFile, code: ErrorCode, message: str, name: str | None) -> LostFile:
    return LostFile(
        position=file.position, file_id=file.file_id, failure=Failure(code=code, message=message), name=name
    )
