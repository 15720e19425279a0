"""What the handlers need of the world, as narrow as they need it; `connections` has the real things."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from haulyard_chassis.dead_letters import DeadLetter, Replayed
from haulyard_chassis.health import Health
from haulyard_chassis.job_state import StateReading
from haulyard_chassis.store import ObjectInfo
from haulyard_chassis.webhook_records import WebhookDelivery, WebhookSecret
from haulyard_contracts import Compression, Failure, JobDocument, JobRequested, JobStatus, OnMissing, Phase
from haulyard_gateway.admission import Admission
from haulyard_gateway.archive_ports import Archives
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

    async def next_after(self, sequence: int) -> int | None:
        """Return the sequence of a state that is newer, as soon as there is one; None if nobody is to wait longer."""


class Changes(Protocol):
    """Lets requests wait for changes; `haulyard_gateway.waiting.JobChanges`."""

    def watch(self, job_id: str) -> AbstractAsyncContextManager[Watch | None]:
        """Hear of the changes of a job from now on; None if too many are waiting already."""

    async def end_all(self) -> None:
        """Have everybody answered who waits, and nobody wait any more."""


@dataclass(frozen=True, slots=True)
class ListedJob:
    """A job as lists have it."""

    document: JobDocument
    """Without its files."""
    failed_files: int
    """How many of them could not be archived."""


class JobRecords(Protocol):
    """The record of jobs; `haulyard_gateway.job_records.JobRecords`."""

    async def page(self, user_id: str, wanted: JobsWanted) -> list[ListedJob]:
        """Return one job more than the page has, if there are more."""

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


class DeadLetters(Protocol):
    """Messages that were given up; `haulyard_chassis.dead_letters.DeadLetters`, which says more."""

    async def page(self, *, limit: int, after: int = 0, stream: str | None = None) -> list[DeadLetter]:
        """Return messages behind one, the oldest first."""

    async def get(self, sequence: int) -> DeadLetter | None:
        """Return one message."""

    async def last(self) -> int:
        """Return the sequence of the message that was given up last."""

    async def replay(self, sequence: int) -> bool:
        """Send a message again; False: it is not there."""

    async def replay_all(self, *, limit: int, until: int, after: int = 0, stream: str | None = None) -> Replayed:
        """Send messages again, from behind one up to another."""

    async def drop(self, sequence: int) -> bool:
        """Delete a message; False: it is not there."""

    async def drop_all(self, *, stream: str | None = None) -> int:
        """Delete all messages; return how many."""


class Webhooks(Protocol):
    """What users see and change of their webhooks; `haulyard_gateway.webhook_access.WebhookAccess`."""

    async def deliveries(self, job_id: str, user_id: str) -> list[WebhookDelivery]:
        """Return the deliveries of a user's job, the newest first."""

    async def redeliver(self, delivery_id: str, user_id: str) -> WebhookDelivery | None:
        """Have a user's delivery made again; None if there is none."""

    async def secrets(self, user_id: str) -> list[WebhookSecret]:
        """Return a user's valid secrets, the current one first."""

    async def rotate(self, user_id: str) -> list[WebhookSecret]:
        """Make a new secret current, and return the valid ones."""


class Inspections(Protocol):
    """What operators may know of jobs; `haulyard_gateway.admin_records.Inspections`."""

    async def job(self, job_id: str) -> "InspectedJob | None":
        """Return anybody's job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedTask:
    """A part or preparation that did not succeed at once."""

    phase: Phase
    number: int
    status: str
    attempts: int
    next_attempt_at: datetime | None
    error: Failure | None
    """Of the last attempt that failed; None: a later one succeeded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedJob:
    """A job with what its users do not see of it."""

    job_id: str
    user_id: str
    status: JobStatus
    sequence: int
    told_sequence: int
    generation: int
    priority: int
    compression: Compression
    on_missing: OnMissing
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    expires_at: datetime | None
    error: Failure | None
    digest: str | None
    follows: str | None
    followers: int
    archive_key: str | None
    files: dict[str, int]
    tasks: dict[Phase, dict[str, int]]
    attempts: int
    tried: tuple[TriedTask, ...]


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
    dead_letters: DeadLetters
    inspections: Inspections
    webhooks: Webhooks
    store: Store
    archives: Archives
    health: Health
