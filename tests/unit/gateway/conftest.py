"""The gateway with ports that live in memory, so that every answer can be seen without a network."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import pytest
from litestar import Litestar
from litestar.testing import AsyncTestClient

from haulyard_chassis.dead_letters import DeadLetter, NotReplayableError, Replayed
from haulyard_chassis.health import Health
from haulyard_chassis.identity import mint_token
from haulyard_chassis.job_state import StateReading
from haulyard_chassis.limits import Decision
from haulyard_chassis.store import ObjectInfo, ObjectNotFoundError
from haulyard_chassis.webhook_records import WebhookDelivery, WebhookSecret
from haulyard_contracts import FileState, FileStatus, JobDocument, JobRequested, JobStatus, Progress
from haulyard_gateway.admission import Claim, Verdict
from haulyard_gateway.app import create_app
from haulyard_gateway.archive_contents import ArchiveState, Awaited
from haulyard_gateway.archive_ports import Wanted
from haulyard_gateway.context import make_context
from haulyard_gateway.file_validation import ObjectAt
from haulyard_gateway.ports import AddedFile, CatalogueFile, Erasure, InspectedJob, ListedJob, Ports
from haulyard_gateway.queries import FilesWanted, JobsWanted
from haulyard_gateway.settings import GatewaySettings
from haulyard_gateway.validation import MAX_FILE_ID

JWT_SECRET = "jwt-secret-of-at-least-thirty-two-bytes"
TICKET_SECRET = "ticket-secret-of-at-least-32-bytes-too"
CREATED = datetime(2025, 12, 12, 10, 0, 0, 123456, tzinfo=UTC)
JOB_ID = "job_01KC8ZB0J0W8G3R5Q2T7V9X4YZ"


@dataclass
class MemoryBroker:
    """Keeps what was published; raises ``broken`` instead when it is set."""

    sent: list[tuple[str, Any, str, dict[str, str]]] = field(default_factory=list)
    broken: Exception | None = None

    async def publish(
        self, subject: str, message: msgspec.Struct, *, message_id: str, headers: Mapping[str, str] | None = None
    ) -> None:
        if self.broken:
            raise self.broken
        self.sent.append((subject, message, message_id, dict(headers or {})))


@dataclass
class MemoryJobs:
    """Cache, state and record of jobs in one."""

    documents: dict[str, JobDocument] = field(default_factory=dict)
    state_broken: Exception | None = None
    record_broken: Exception | None = None
    away: tuple[str, ...] = ()
    webhooks: dict[str, str] = field(default_factory=dict)
    parked: list[JobRequested] = field(default_factory=list)
    deleted: set[str] = field(default_factory=set)
    tombstones_possible: bool = True
    asked_at_least: list[int] = field(default_factory=list)
    wanted: JobsWanted | None = None

    async def look_up(self, job_id: str, *, at_least: int = 0, sure: bool = False) -> StateReading:
        if self.state_broken:
            raise self.state_broken
        self.asked_at_least.append(at_least)
        document = self.documents.get(job_id)
        return StateReading(None if job_id in self.deleted else document, self.away)

    async def page(self, user_id: str, wanted: JobsWanted) -> list[ListedJob]:
        if self.record_broken:
            raise self.record_broken
        self.wanted = wanted
        own = [job for job in self.documents.values() if job.user_id == user_id]
        newest = sorted(own, key=lambda job: (job.created_at, job.job_id), reverse=True)
        later = [job for job in newest if wanted.before is None or (job.created_at, job.job_id) < wanted.before]
        return [ListedJob(job, len(job.failed_files)) for job in later[: wanted.limit + 1]]

    async def webhook_of(self, job_id: str) -> str | None:
        if self.record_broken:
            raise self.record_broken
        return self.webhooks.get(job_id)

    async def park(self, request: JobRequested, *, traceparent: str) -> None:
        if self.record_broken:
            raise self.record_broken
        self.parked.append(request)

    async def put(self, job_id: str) -> bool:
        if self.tombstones_possible:
            self.deleted.add(job_id)
        return self.tombstones_possible

    async def among(self, job_ids: Sequence[str]) -> set[str]:
        return self.deleted.intersection(job_ids)


@dataclass
class MemoryAdmission:
    """Says what it is told to say; a job that is admitted is known from then on."""

    jobs: MemoryJobs
    decision: Decision | None = None
    verdict: Verdict | None = None
    taken: int = 0
    admitted: list[tuple[JobDocument, Claim | None]] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)

    async def take(self, user_id: str) -> Decision | None:
        self.taken += 1
        return self.decision

    async def admit(self, document: JobDocument, claim: Claim | None, *, charged: bool = False) -> Verdict:
        self.taken += not charged
        self.admitted.append((document, claim))
        verdict = self.verdict or Verdict(requests=self.decision)
        if verdict == Verdict():
            self.jobs.documents[document.job_id] = document
        return verdict

    async def withdraw(self, document: JobDocument, claim: Claim | None) -> None:
        self.withdrawn.append(document.job_id)


class MemoryWatch:
    """Hears of one change, when a test makes it."""

    def __init__(self) -> None:
        self._changed: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def next_after(self, sequence: int) -> int:
        return await asyncio.shield(self._changed)

    def change(self, sequence: int) -> None:
        self._changed.set_result(sequence)


@dataclass
class MemoryChanges:
    """Lets tests see who waits, and make them hear of something."""

    full: bool = False
    watches: asyncio.Queue[MemoryWatch] = field(default_factory=asyncio.Queue)

    async def next_watch(self) -> MemoryWatch:
        async with asyncio.timeout(10):
            return await self.watches.get()

    @asynccontextmanager
    async def watch(self, job_id: str) -> AsyncIterator[MemoryWatch | None]:
        if self.full:
            yield None
            return
        watch = MemoryWatch()
        self.watches.put_nowait(watch)
        yield watch

    async def end_all(self) -> None:
        self.full = True


@dataclass
class MemoryCatalogue:
    """Files with their owners."""

    files: dict[int, CatalogueFile] = field(default_factory=dict)
    broken: Exception | None = None

    async def add(self, owner_id: str, files: Sequence[AddedFile]) -> list[CatalogueFile]:
        if self.broken:
            raise self.broken
        return [self.put(owner_id, file) for file in files]

    def put(self, owner_id: str | None, added: AddedFile) -> CatalogueFile:
        found = added.found
        file = CatalogueFile(
            file_id=70000 + len(self.files),
            owner_id=owner_id,
            source=added.source,
            name=added.name,
            created_at=CREATED,
            size_bytes=found.size if found else None,
            etag=found.etag if found else None,
            crc32=found.crc32 if found else None,
        )
        self.files[file.file_id] = file
        return file

    async def get(self, file_id: int, *, user_id: str) -> CatalogueFile | None:
        if self.broken:
            raise self.broken
        file = self.files.get(file_id)
        return file if file and file.owner_id in (user_id, None) else None

    async def page(self, user_id: str, wanted: FilesWanted) -> list[CatalogueFile]:
        if self.broken:
            raise self.broken
        own = [file for file in self.files.values() if file.owner_id in (user_id, None)]
        before = wanted.before or MAX_FILE_ID
        return [file for file in sorted(own, key=lambda file: -file.file_id) if file.file_id < before][
            : wanted.limit + 1
        ]

    async def complete(self, file_id: int, found: ObjectInfo) -> CatalogueFile | None:
        if file_id not in self.files:
            return None
        self.files[file_id] = replace(self.files[file_id], size_bytes=found.size, etag=found.etag, crc32=found.crc32)
        return self.files[file_id]

    async def is_used_elsewhere(self, file_id: int, source: ObjectAt, *, owner_id: str) -> bool:
        return any(file.source == source and file.file_id != file_id for file in self.files.values())

    async def delete(self, file_id: int, *, owner_id: str) -> None:
        self.files.pop(file_id, None)


@dataclass
class MemoryStore:
    """Objects by bucket and key."""

    objects: dict[tuple[str, str], ObjectInfo] = field(default_factory=dict)
    broken: Exception | None = None

    def put(self, bucket: str, key: str, *, size: int = 3, crc32: int | None = None) -> None:
        self.objects[bucket, key] = ObjectInfo(
            size=size, etag='"e"', modified=CREATED, content_type="text/plain", crc32=crc32
        )

    async def head(self, bucket: str, key: str) -> ObjectInfo:
        if self.broken:
            raise self.broken
        if (bucket, key) not in self.objects:
            raise ObjectNotFoundError(key)
        return self.objects[bucket, key]

    async def delete(self, bucket: str, key: str) -> None:
        if self.broken:
            raise self.broken
        self.objects.pop((bucket, key), None)

    def presign_get(self, bucket: str, key: str, *, expires: int, filename: str) -> str:
        return f"https://store.test/{bucket}/{key}?expires={expires}&filename={filename}"

    def presign_put(self, bucket: str, key: str, *, expires: int) -> str:
        return f"https://store.test/{bucket}/{key}?expires={expires}"


@dataclass
class MemoryPersonalData:
    """Receipts, and what is to be exported."""

    batches: list[tuple[str, list[bytes]]] = field(default_factory=lambda: [("jobs", []), ("files", [])])
    erasures: dict[str, Erasure] = field(default_factory=dict)
    broken: Exception | None = None

    async def export(self, user_id: str) -> AsyncIterator[tuple[str, list[bytes]]]:
        if self.broken:
            raise self.broken
        for batch in self.batches:
            yield batch

    async def begin_erasure(self, erasure_id: str, user_hash: str, requested_at: datetime) -> None:
        self.erasures[erasure_id] = Erasure(
            erasure_id=erasure_id, user_hash=user_hash, requested_at=requested_at, completed_at=None, counts={}
        )

    async def drop_erasure(self, erasure_id: str) -> None:
        del self.erasures[erasure_id]

    async def erasure(self, erasure_id: str) -> Erasure | None:
        return self.erasures.get(erasure_id)


@dataclass
class MemoryDeadLetters:
    """Messages that were given up; those without a subject cannot be sent again."""

    letters: dict[int, DeadLetter] = field(default_factory=dict)
    sent: list[int] = field(default_factory=list)
    broken: Exception | None = None

    async def page(self, *, limit: int, after: int = 0, stream: str | None = None) -> list[DeadLetter]:
        if self.broken:
            raise self.broken
        return [each for each in self.letters.values() if each.sequence > after and stream in (None, each.stream)][
            :limit
        ]

    async def get(self, sequence: int) -> DeadLetter | None:
        return self.letters.get(sequence)

    async def last(self) -> int:
        return max(self.letters, default=0)

    async def replay(self, sequence: int) -> bool:
        letter = self.letters.get(sequence)
        if letter is None:
            return False
        if letter.subject is None:
            raise NotReplayableError("the subject that the message had is not known")
        self.sent.append(sequence)
        return await self.drop(sequence)

    async def replay_all(self, *, limit: int, until: int, after: int = 0, stream: str | None = None) -> Replayed:
        due = [each for each in await self.page(limit=limit + 1, after=after, stream=stream) if each.sequence <= until]
        for letter in due[:limit]:
            await self.replay(letter.sequence)
        last = due[limit - 1].sequence if len(due) > limit else None
        return Replayed(replayed=len(due[:limit]), kept=0, last=last)

    async def drop(self, sequence: int) -> bool:
        return self.letters.pop(sequence, None) is not None

    async def drop_all(self, *, stream: str | None = None) -> int:
        found = await self.page(limit=len(self.letters), stream=stream)
        return sum([await self.drop(letter.sequence) for letter in found])


@dataclass
class MemoryInspections:
    """What operators may know of jobs."""

    jobs: dict[str, InspectedJob] = field(default_factory=dict)

    async def job(self, job_id: str) -> InspectedJob | None:
        return self.jobs.get(job_id)


@dataclass
class MemoryArchives:
    """How far archives are, and what they hold."""

    states: dict[str, ArchiveState] = field(default_factory=dict)
    content: bytes = b""
    opened: list[Wanted] = field(default_factory=list)
    broken: Exception | None = None

    async def find(self, job_id: str) -> ArchiveState:
        if self.broken:
            raise self.broken
        return self.states.get(job_id, Awaited())

    @asynccontextmanager
    async def open(self, wanted: Wanted) -> AsyncIterator[AsyncIterator[bytes]]:
        self.opened.append(wanted)

        async def chunks() -> AsyncGenerator[bytes, None]:
            for start in range(wanted.start, wanted.stop, 100):
                yield self.content[start : min(start + 100, wanted.stop)]

        async with aclosing(chunks()) as found:
            yield found


@dataclass
class MemoryWebhooks:
    """Users' secrets and deliveries."""

    found: dict[str, tuple[str, WebhookDelivery]] = field(default_factory=dict)
    """Of each delivery the user."""
    secrets_of: dict[str, list[WebhookSecret]] = field(default_factory=dict)
    broken: Exception | None = None

    async def deliveries(self, job_id: str, user_id: str) -> list[WebhookDelivery]:
        self._check()
        return [each for user, each in self.found.values() if (user, each.job_id) == (user_id, job_id)]

    async def redeliver(self, delivery_id: str, user_id: str) -> WebhookDelivery | None:
        self._check()
        user, delivery = self.found.get(delivery_id, (None, None))
        if delivery is None or user != user_id:
            return None
        return replace(delivery, status="pending", next_attempt_at=CREATED)

    async def secrets(self, user_id: str) -> list[WebhookSecret]:
        self._check()
        made = WebhookSecret(secret="whsec_Zmlyc3Q=", created_at=CREATED, expires_at=None)
        return self.secrets_of.setdefault(user_id, [made])

    async def rotate(self, user_id: str) -> list[WebhookSecret]:
        before, *_ = await self.secrets(user_id)
        made = WebhookSecret(secret="whsec_c2Vjb25k", created_at=CREATED, expires_at=None)
        self.secrets_of[user_id] = [made, replace(before, expires_at=CREATED)]
        return self.secrets_of[user_id]

    def _check(self) -> None:
        if self.broken:
            raise self.broken


@dataclass
class World:
    """All that the gateway of a test can see."""

    broker: MemoryBroker = field(default_factory=MemoryBroker)
    jobs: MemoryJobs = field(default_factory=MemoryJobs)
    admission: MemoryAdmission = field(init=False)
    changes: MemoryChanges = field(default_factory=MemoryChanges)
    catalogue: MemoryCatalogue = field(default_factory=MemoryCatalogue)
    personal_data: MemoryPersonalData = field(default_factory=MemoryPersonalData)
    dead_letters: MemoryDeadLetters = field(default_factory=MemoryDeadLetters)
    inspections: MemoryInspections = field(default_factory=MemoryInspections)
    webhooks: MemoryWebhooks = field(default_factory=MemoryWebhooks)
    store: MemoryStore = field(default_factory=MemoryStore)
    archives: MemoryArchives = field(default_factory=MemoryArchives)

    def __post_init__(self) -> None:
        self.admission = MemoryAdmission(self.jobs)

    def add_job(self, **changes: Any) -> JobDocument:
        """Put a job of alice's into the cache."""
        document = JobDocument(
            job_id=JOB_ID,
            user_id="alice",
            status=JobStatus.PROCESSING,
            sequence=3,
            progress=Progress(current=2, total=3, percentage=66),
            files=(
                FileState(file_id=70000, status=FileStatus.COMPLETED, size_bytes=1048576, name="a.txt"),
                FileState(file_id=70001, status=FileStatus.PROCESSING),
                FileState(file_id=70002, status=FileStatus.QUEUED),
            ),
            created_at=CREATED,
            updated_at=CREATED,
            filename="photos.zip",
        )
        document = msgspec.structs.replace(document, **changes)
        self.jobs.documents[document.job_id] = document
        return document

    @asynccontextmanager
    async def connect(self, _: GatewaySettings) -> AsyncIterator[Ports]:
        async def broker_check() -> None:
            if self.broker.broken:
                raise self.broker.broken

        yield Ports(
            publisher=self.broker,
            state=self.jobs,
            admission=self.admission,
            changes=self.changes,
            records=self.jobs,
            tombstones=self.jobs,
            catalogue=self.catalogue,
            personal_data=self.personal_data,
            dead_letters=self.dead_letters,
            inspections=self.inspections,
            webhooks=self.webhooks,
            store=self.store,
            archives=self.archives,
            health=Health(required={}, either={"broker": broker_check}),
        )


@pytest.fixture(scope="session")
def settings() -> GatewaySettings:
    return GatewaySettings.model_validate(
        {
            "environment": "production",
            "nats_url": "nats://nowhere",
            "postgres_dsn": "postgresql://nowhere",
            "redis_url": "redis://nowhere",
            "s3_endpoint": "http://nowhere",
            "s3_access_key": "key",
            "s3_secret_key": "secret",
            "jwt_secret": JWT_SECRET,
            "ticket_secret": TICKET_SECRET,
            "public_api_url": "https://api.example.com/",
            "public_notifier_url": "https://live.example.com",
            "source_buckets": "haulyard-files, sources",
            "source_hosts": "origin.example.com",
            "cors_origins": "https://app.example.com",
        }
    )


class Stage:
    """Where the world of the present test is: making an application takes longer than most tests."""

    world: World

    def connect(self, settings: GatewaySettings) -> AbstractAsyncContextManager[Ports]:
        return self.world.connect(settings)


@pytest.fixture(scope="session")
def stage() -> Stage:
    return Stage()


@pytest.fixture(scope="session")
def app(settings: GatewaySettings, stage: Stage) -> Litestar:
    return create_app(settings, stage.connect)


@pytest.fixture
def world(stage: Stage) -> World:
    stage.world = World()
    return stage.world


@pytest.fixture
async def patient(app: Litestar, settings: GatewaySettings, world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A client of ``alice`` in the same loop: it can wait for an answer while the test goes on."""
    async with world.connect(settings) as ports:
        app.state.context = make_context(settings, ports)
        transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]  # the same, typed by hand twice
        headers = {"Authorization": f"Bearer {mint_token(JWT_SECRET, 'alice')}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway.test", headers=headers) as found:
            yield found


@pytest.fixture
async def client(app: Litestar, world: World) -> AsyncIterator[AsyncTestClient[Litestar]]:
    """A client of the user ``alice``."""
    async with AsyncTestClient(app, raise_server_exceptions=False) as found:
        found.headers["Authorization"] = f"Bearer {mint_token(JWT_SECRET, 'alice')}"
        yield found
