"""The gateway with ports that live in memory, so that every answer can be seen without a network."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from litestar import Litestar
from litestar.testing import AsyncTestClient

from haulyard_chassis.health import Health
from haulyard_chassis.identity import mint_token
from haulyard_chassis.job_state import StateReading
from haulyard_chassis.store import ObjectInfo, ObjectNotFoundError
from haulyard_contracts import FileState, FileStatus, JobDocument, JobRequested, JobStatus, Progress
from haulyard_gateway.app import create_app
from haulyard_gateway.ports import CatalogueFile, Ports
from haulyard_gateway.settings import GatewaySettings

JWT_SECRET = "jwt-secret-of-at-least-thirty-two-bytes"
TICKET_SECRET = "ticket-secret-of-at-least-32-bytes-too"
CREATED = datetime(2025, 12, 12, 10, 0, 0, 123456, tzinfo=UTC)
JOB_ID = "job_01KC8ZB0J0W8G3R5Q2T7V9X4YZ"


@dataclass
class MemoryBroker:
    """Keeps what was published; raises ``broken`` instead when it is set."""

    sent: list[tuple[str, JobRequested, str, dict[str, str]]] = field(default_factory=list)
    broken: Exception | None = None

    async def publish(
        self, subject: str, message: msgspec.Struct, *, message_id: str, headers: Mapping[str, str] | None = None
    ) -> None:
        if self.broken:
            raise self.broken
        assert isinstance(message, JobRequested)
        self.sent.append((subject, message, message_id, dict(headers or {})))


@dataclass
class MemoryJobs:
    """Cache and state of jobs in one."""

    documents: dict[str, JobDocument] = field(default_factory=dict)
    cache_broken: Exception | None = None
    state_broken: Exception | None = None
    away: tuple[str, ...] = ()

    async def put(self, document: JobDocument) -> None:
        if self.cache_broken:
            raise self.cache_broken
        self.documents[document.job_id] = document

    async def look_up(self, job_id: str, *, sure: bool = False) -> StateReading:
        if self.state_broken:
            raise self.state_broken
        return StateReading(self.documents.get(job_id), self.away)


@dataclass
class MemoryCatalogue:
    """Files with their owners."""

    files: dict[int, tuple[str | None, CatalogueFile]] = field(default_factory=dict)
    broken: Exception | None = None

    async def add(self, *, owner_id: str, bucket: str, key: str, name: str, found: ObjectInfo | None) -> CatalogueFile:
        if self.broken:
            raise self.broken
        file = CatalogueFile(
            file_id=70000 + len(self.files),
            bucket=bucket,
            key=key,
            name=name,
            created_at=CREATED,
            size_bytes=found.size if found else None,
            etag=found.etag if found else None,
            crc32=found.crc32 if found else None,
        )
        self.files[file.file_id] = (owner_id, file)
        return file

    async def get(self, file_id: int, *, user_id: str) -> CatalogueFile | None:
        if self.broken:
            raise self.broken
        owner, file = self.files.get(file_id, (None, None))
        return file if owner in (user_id, None) else None

    async def complete(self, file_id: int, found: ObjectInfo) -> CatalogueFile | None:
        owner, file = self.files[file_id]
        self.files[file_id] = owner, replace(file, size_bytes=found.size, etag=found.etag, crc32=found.crc32)
        return self.files[file_id][1]


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

    def presign_get(self, bucket: str, key: str, *, expires: int, filename: str) -> str:
        return f"https://store.test/{bucket}/{key}?expires={expires}&filename={filename}"

    def presign_put(self, bucket: str, key: str, *, expires: int) -> str:
        return f"https://store.test/{bucket}/{key}?expires={expires}"


@dataclass
class World:
    """All that the gateway of a test can see."""

    broker: MemoryBroker = field(default_factory=MemoryBroker)
    jobs: MemoryJobs = field(default_factory=MemoryJobs)
    catalogue: MemoryCatalogue = field(default_factory=MemoryCatalogue)
    store: MemoryStore = field(default_factory=MemoryStore)

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
            cache=self.jobs,
            state=self.jobs,
            catalogue=self.catalogue,
            store=self.store,
            health=Health(required={"broker": broker_check}),
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
            "cors_origins": "https://app.example.com",
        }
    )


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def client(settings: GatewaySettings, world: World) -> AsyncIterator[AsyncTestClient[Litestar]]:
    """A client of the user ``alice``."""
    app = create_app(settings, world.connect)
    async with AsyncTestClient(app, raise_server_exceptions=False) as found:
        found.headers["Authorization"] = f"Bearer {mint_token(JWT_SECRET, 'alice')}"
        yield found
