"""What the handlers need of the world, as narrow as they need it; `connections` has the real things."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from haulyard_chassis.health import Health
from haulyard_chassis.job_state import StateReading
from haulyard_chassis.store import ObjectInfo
from haulyard_contracts import JobDocument


class RequestPublisher(Protocol):
    """Hands a job request to the broker; `haulyard_chassis.broker.Publisher`."""

    async def publish(
        self, subject: str, message: Struct, *, message_id: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Return when the message is safe."""


class StatusCache(Protocol):
    """Takes a job's first state; `haulyard_chassis.job_state.JobCache`."""

    async def put(self, document: JobDocument) -> None:
        """Store a state, unless a newer one is there already."""


class StatusReader(Protocol):
    """Reads a job's state; `haulyard_chassis.job_state.JobState`."""

    async def look_up(self, job_id: str, *, sure: bool = False) -> StateReading:
        """Return the state, and which places could not be asked; ``sure`` asks the record if the job is not over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueFile:
    """A file of the catalogue, as its owner may see it."""

    file_id: int
    bucket: str
    key: str
    name: str
    created_at: datetime
    size_bytes: int | None
    """None until the object is there."""
    etag: str | None
    crc32: int | None
    """Of the object with this etag; None if it is not known."""


class FileCatalogue(Protocol):
    """The catalogue; `haulyard_gateway.catalogue.Catalogue`."""

    async def add(self, *, owner_id: str, bucket: str, key: str, name: str, found: ObjectInfo | None) -> CatalogueFile:
        """Add a file, of an object that is there, or of one that is yet to be uploaded."""

    async def get(self, file_id: int, *, user_id: str) -> CatalogueFile | None:
        """Return a file that is the user's own or everybody's."""

    async def complete(self, file_id: int, found: ObjectInfo) -> CatalogueFile | None:
        """Note that an uploaded object has arrived; None if the file is gone."""


class Store(Protocol):
    """The object store; `haulyard_chassis.store.ObjectStore`."""

    async def head(self, bucket: str, key: str) -> ObjectInfo:
        """Return what the store says of an object."""

    def presign_get(self, bucket: str, key: str, *, expires: int, filename: str) -> str:
        """Return a link to download."""

    def presign_put(self, bucket: str, key: str, *, expires: int) -> str:
        """Return a link to upload."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """All of it."""

    publisher: RequestPublisher
    cache: StatusCache
    state: StatusReader
    catalogue: FileCatalogue
    store: Store
    health: Health
