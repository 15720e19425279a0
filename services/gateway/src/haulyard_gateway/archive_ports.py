"""What streaming archives needs of the world, as narrow as it needs it."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from haulyard_chassis.store import ObjectInfo
from haulyard_contracts import Source
from haulyard_gateway.archive_contents import ArchiveState, Built, LaidOut


class SourceReader(Protocol):
    """Reads sources; `haulyard_chassis.sources_reading.Reader`."""

    def open(self, source: Source, *, offset: int, length: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a range of a source's data."""


class ArchiveStore(Protocol):
    """Holds the archives; `haulyard_chassis.store.ObjectStore`."""

    async def head(self, bucket: str, key: str) -> ObjectInfo:
        """Return what the store says of an object."""

    def read(
        self, bucket: str, key: str, *, etag: str, offset: int, length: int
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a range of an object that must have ``etag``."""


class ArchiveFinder(Protocol):
    """Knows how far archives are; `haulyard_gateway.archive_records.ArchiveRecords`."""

    async def find(self, job_id: str) -> ArchiveState:
        """Return how far the archive of a job is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Bytes of an archive that somebody may have."""

    job_id: str
    user_id: str
    archive: LaidOut | Built
    start: int
    stop: int
    """After the last byte."""


class Archives(Protocol):
    """The bytes of archives; `haulyard_gateway.archive_bytes.Archives`."""

    async def find(self, job_id: str) -> ArchiveState:
        """Return how far the archive of a job is."""

    def open(self, wanted: Wanted) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open bytes of an archive; when this has been entered, the first of them are there."""
