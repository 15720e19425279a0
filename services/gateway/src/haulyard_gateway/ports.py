"""What the handlers need of the world, as narrow as they need it; `connections` has the real things."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from haulyard_chassis.health import Health
from haulyard_chassis.job_state import StateReading
from haulyard_chassis.store import ObjectInfo
from haulyard_contracts import JobDocument, JobRequested
from haulyard_gateway.admission import Admission
from haulyard_gateway.file_validation import ObjectAt, OriginAt
from haulyard_gateway.queries import FilesWanted, JobsWanted


class RequestPublisher(Protocol):
    """Hands a request to the broker; `haulyard_chassis.broker.Publisher`."""

    async def publish(
        self, subject: str, message: Struct, *, message_id: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Return when the message is safe."""


class StatusReader(Protocol):
    """Reads a job's state; `haulyard_chassis.job_state.JobState`."""

    async def look_up(self, job_id: str, *, at_least: int = 0, sure: bool = False) -> StateReading:
        """Return the state, and which places could not be asked; ``sure`` asks the record if the job is not over."""


class Watch(Protocol):
    """Hears of the changes of one job."""

    async def next_after(self, sequence: int) -> int:
        """Return the sequence of a state that is newer, as soon as there is one."""


class Changes(Protocol):
    """Lets requests wait for changes; `haulyard_gateway.waiting.JobChanges`."""

    def watch(self, job_id: str) -> AbstractAsyncContextManager[Watch | None]:
        """Hear of the changes of a job from now on; None if too many are waiting already."""


class JobRecords(Protocol):
    """The record of jobs; `haulyard_gateway.job_records.JobRecords`."""

    async def page(self, user_id: str, wanted: JobsWanted) -> list[JobDocument]:
        """Return one job more than the page has, if there are more; without their files."""

    async def webhook_of(self, job_id: str) -> str | None:
        """Return a job's webhook."""

    async def park(self, request: JobRequested, *, traceparent: str) -> None:
        """Record a job whose request the broker does not take now."""


class Tombstones(Protocol):
    """Remembers deleted jobs until everybody has heard; `haulyard_gateway.tombstones.Tombstones`."""

    async def put(self, job_id: str) -> bool:
        """Make a job disappear; whether that was possible."""

    async def among(self, job_ids: Sequence[str]) -> Collection[str]:
        """Return those that were deleted."""


class PersonalData(Protocol):
    """What is held of a user, and wishes to be forgotten; `haulyard_gateway.personal_data.PersonalDataRecords`."""

    def export(self, user_id: str) -> AsyncIterator[tuple[str, list[bytes]]]:
        """Yield names of lists, and the next of their items as JSON."""

    async def begin_erasure(self, erasure_id: str, user_hash: str, requested_at: datetime) -> None:
        """Record that a user wishes to be forgotten."""

    async def drop_erasure(self, erasure_id: str) -> None:
        """Take back what could not be handed over."""

    async def erasure(self, erasure_id: str) -> "Erasure | None":
        """Return how far it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """A receipt: that somebody wished to be forgotten, and what was done. It does not say who."""

    erasure_id: str
    user_hash: str
    requested_at: datetime
    completed_at: datetime | None
    counts: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedFile:
    """A file that is to be in the catalogue."""

    source: ObjectAt | OriginAt
    name: str
    found: ObjectInfo | None = None
    """None: the object is yet to be uploaded, or an origin has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueFile:
    """A file of the catalogue, as its owner may see it."""

    file_id: int
    owner_id: str | None
    """None: it is everybody's."""
    source: ObjectAt | OriginAt
    name: str
    created_at: datetime
    size_bytes: int | None
    """None until the object is there; of an origin's, until it was archived once."""
    etag: str | None
    crc32: int | None
    """Of the object with this etag; None if it is not known."""

    @property
    def is_awaited(self) -> bool:
        """Whether it has to be uploaded yet."""
        return self.size_bytes is None and isinstance(self.source, ObjectAt)


class FileCatalogue(Protocol):
    """The catalogue; `haulyard_gateway.catalogue.Catalogue`."""

    async def add(self, owner_id: str, files: Sequence[AddedFile]) -> list[CatalogueFile]:
        """Add files, all or none, and return them in the same order."""

    async def get(self, file_id: int, *, user_id: str) -> CatalogueFile | None:
        """Return a file that is the user's own or everybody's."""

    async def page(self, user_id: str, wanted: FilesWanted) -> list[CatalogueFile]:
        """Return one file more than the page has, if there are more."""

    async def complete(self, file_id: int, found: ObjectInfo) -> CatalogueFile | None:
        """Note that an uploaded object has arrived; None if the file is gone."""

    async def is_used_elsewhere(self, file_id: int, source: ObjectAt, *, owner_id: str) -> bool:
        """Whether another file of the owner is the same object."""

    async def delete(self, file_id: int, *, owner_id: str) -> None:
        """Delete a file of the owner's; one that is gone is no error."""


class Store(Protocol):
    """The object store; `haulyard_chassis.store.ObjectStore`."""

    async def head(self, bucket: str, key: str) -> ObjectInfo:
        """Return what the store says of an object."""

    async def delete(self, bucket: str, key: str) -> None:
        """Delete an object; one that is not there is no error."""

    def presign_get(self, bucket: str, key: str, *, expires: int, filename: str) -> str:
        """Return a link to download."""

    def presign_put(self, bucket: str, key: str, *, expires: int) -> str:
        """Return a link to upload."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """All of it."""

    publisher: RequestPublisher
    state: StatusReader
    admission: Admission
    changes: Changes
    records: JobRecords
    tombstones: Tombstones
    catalogue: FileCatalogue
    personal_data: PersonalData
    store: Store
    health: Health
