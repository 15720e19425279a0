"""A notifier on real NATS, PostgreSQL and Valkey, and an orchestrator's hand to write states and publish events."""

import asyncio
import os
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from litestar import Litestar
from nats.aio.client import Client

from haulyard_chassis.broker import Publisher, connect_broker, ensure_topology
from haulyard_chassis.database import Pool, migrate
from haulyard_chassis.identity import Tickets, mint_token
from haulyard_chassis.job_state import JobCache, connect_cache
from haulyard_chassis.serve import listen, make_server
from haulyard_contracts import (
    ArchiveLocation,
    ErrorCode,
    EventType,
    Failure,
    FileState,
    FileStatus,
    JobDocument,
    JobEvent,
    JobRequested,
    JobStatus,
    Progress,
    Topology,
    cloud_event_headers,
)
from haulyard_notifier.app import create_app
from haulyard_notifier.live.lean_socket import LeanSocket
from haulyard_notifier.settings import NotifierSettings

JWT_SECRET, TICKET_SECRET = "j" * 32, "t" * 32
OWNER = "alice"


@pytest.fixture
def settings(infra_env: dict[str, str]) -> NotifierSettings:
    """Settings of a notifier in development, in a namespace that no other test has."""
    values: dict[str, Any] = {name.removeprefix("HAULYARD_").lower(): value for name, value in infra_env.items()}
    values["namespace"] = f"n{secrets.token_hex(6)}"
    return NotifierSettings(
        **{name: value for name, value in values.items() if name in NotifierSettings.model_fields}
        | {
            "environment": "development",
            "jwt_secret": JWT_SECRET,
            "ticket_secret": TICKET_SECRET,
            "max_updates_per_second": 1000.0,
            "heartbeat": 0.2,
            "shutdown_grace": 5.0,
            "http_port": 0,
            "drain": 0.2,
        }
    )


@pytest.fixture
async def record(settings: NotifierSettings) -> AsyncIterator[Pool]:
    """The migrated record, without deliveries of other tests."""
    async with asyncpg.create_pool(settings.postgres_dsn.get_secret_value(), min_size=1, max_size=3) as pool:
        await migrate(pool)
        await pool.execute("TRUNCATE webhook_deliveries, webhook_secrets, webhook_hosts")
        yield pool


@dataclass
class Orchestrator:
    """Does what the orchestrator does to be heard: writes the state, then publishes the event."""

    topology: Topology
    cache: JobCache
    client: Client
    publisher: Publisher
    record: Pool
    job_id: str = field(default_factory=lambda: f"job_{secrets.token_hex(8)}")

    def document(self, sequence: int, status: JobStatus = JobStatus.PROCESSING) -> JobDocument:
        now = datetime.now(UTC)
        completed = status is JobStatus.COMPLETED
        return JobDocument(
            job_id=self.job_id,
            user_id=OWNER,
            status=status,
            sequence=sequence,
            progress=Progress(current=0, total=2, percentage=0, bytes_current=sequence, bytes_total=100),
            files=(
                FileState(file_id=70000, status=FileStatus.QUEUED),
                FileState(file_id=70001, status=FileStatus.FAILED),
            ),
            created_at=now,
            updated_at=now,
            filename="träume.zip",
            size_bytes=1234 if completed else None,
            archive=ArchiveLocation(bucket="archives", key=f"{self.job_id}.zip") if completed else None,
            error=Failure(code=ErrorCode.PROCESSING_FAILED, message="no file") if status is JobStatus.FAILED else None,
        )

    def event(self, document: JobDocument) -> JobEvent:
        kinds = {JobStatus.PROCESSING: EventType.PROGRESS}
        return JobEvent(
            job_id=document.job_id,
            sequence=document.sequence,
            type=kinds.get(document.status) or EventType(document.status.value),
            status=document.status,
            progress=document.progress,
            timestamp=document.updated_at,
            error=document.error,
            filename=document.filename,
            size_bytes=document.size_bytes,
            failed_files=(70001,),
        )

    async def publish(self, event: JobEvent) -> None:
        await self.publisher.publish(
            self.topology.event(event.job_id, event.type),
            event,
            message_id=event.id,
            headers=cloud_event_headers(event, source=f"/{self.topology.namespace}"),
        )

    async def reach(self, sequence: int, status: JobStatus = JobStatus.PROCESSING) -> JobDocument:
        """Bring the job into a state, and tell of it."""
        document = self.document(sequence, status)
        await self.cache.put(document)
        await self.publish(self.event(document))
        return document

    async def request(self) -> None:
        """Ask for the job, as the gateway does."""
        request = JobRequested(job_id=self.job_id, user_id=OWNER, file_ids=(70000, 70001), created_at=datetime.now(UTC))
        await self.publisher.publish(
            self.topology.job_requested(request.priority, self.job_id), request, message_id=self.job_id
        )

    async def handled(self, events: int) -> None:
        """Wait until the webhooks' consumer has acknowledged so many events."""
        consumer = self.topology.webhooks_consumer
        async with asyncio.timeout(20):
            while True:
                info = await self.client.jetstream().consumer_info(consumer.stream, consumer.durable)
                if info.ack_floor is not None and info.ack_floor.consumer_seq >= events:
                    return
                await asyncio.sleep(0.02)

    async def insert_job(self, status: JobStatus, *, webhook_url: str | None, sequence: int = 9) -> None:
        """Put the job into the record as it is in the end."""
        await self.record.execute(
            "INSERT INTO download_jobs (id, user_id, status, file_ids, total_files, filename, webhook_url,"
            " archive_bucket, archive_key, completed_at, error_code, sequence)"
            " VALUES ($1, $2, $3::varchar, '[70000, 70001]', 2, 'träume.zip', $4, 'archives', $5, now(),"
            " CASE $3::varchar WHEN 'failed' THEN 'PROCESSING_FAILED' END, $6)",
            self.job_id,
            OWNER,
            status.value,
            webhook_url,
            f"{self.job_id}.zip",
            sequence,
        )


@pytest.fixture
async def orchestrator(settings: NotifierSettings, record: Pool) -> AsyncIterator[Orchestrator]:
    """An orchestrator with one job."""
    topology = Topology(settings.namespace)
    cache = connect_cache(settings.redis_url.get_secret_value())
    client = await connect_broker(settings, name="test")
    await ensure_topology(client, topology, replicas=1)
    yield Orchestrator(topology, JobCache(cache), client, Publisher(client), record)
    for stream in topology.streams:
        await client.jetstream().delete_stream(stream.name)
    await client.close()
    await cache.aclose()


@asynccontextmanager
async def _running(settings: NotifierSettings, app: Litestar | None = None) -> AsyncIterator[str]:
    """Run a notifier in this process, as `haulyard_chassis.serve` does, and yield its ``host:port``."""
    server = make_server(app or create_app(settings), settings, ws=LeanSocket)
    listening = listen(server)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:
        await asyncio.wait({serving}, timeout=0.01)
        if serving.done():
            await serving
            raise AssertionError("the notifier did not start")
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving
        listening.close()


@pytest.fixture
def app(settings: NotifierSettings) -> Litestar:
    """The application that `notifier` runs."""
    return create_app(settings)


@pytest.fixture
async def notifier(settings: NotifierSettings, orchestrator: Orchestrator, app: Litestar) -> AsyncIterator[str]:
    """``host:port`` of a running notifier."""
    async with _running(settings, app) as address:
        yield address


@pytest.fixture
def running() -> Callable[[NotifierSettings], AbstractAsyncContextManager[str]]:
    """Runs a notifier with other settings."""
    return _running


@dataclass
class Program:
    """A notifier that runs as it does in earnest: ``python -m haulyard_notifier``."""

    process: asyncio.subprocess.Process
    address: str
    output: bytes = b""

    async def ended(self) -> int | None:
        """Wait for its end, and return how it ended."""
        out, _ = await asyncio.wait_for(self.process.communicate(), 15)
        self.output += out
        return self.process.returncode


@pytest.fixture
async def program(settings: NotifierSettings) -> AsyncIterator[Callable[..., Awaitable[Program]]]:
    """Starts notifiers as programs, with settings that differ in what is given."""
    started: list[Program] = []
    secret = type(settings.nats_url)

    async def start(**changes: str) -> Program:
        with socket.create_server(("127.0.0.1", 0)) as found:
            port = found.getsockname()[1]
        variables = {
            f"HAULYARD_{name.upper()}": str(value.get_secret_value() if isinstance(value, secret) else value)
            for name, value in settings.model_dump().items()
            if value is not None and value != ()
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "haulyard_notifier",
            env={
                **os.environ,
                **variables,
                "HAULYARD_HTTP_PORT": str(port),
                "HAULYARD_SHUTDOWN_GRACE": "20",
                **changes,
            },
            stdout=asyncio.subprocess.PIPE,
        )
        made = Program(process, f"127.0.0.1:{port}")
        started.append(made)
        async with httpx.AsyncClient(timeout=10, trust_env=False) as http:

            async def ready() -> bool:
                assert process.returncode is None
                try:
                    return (await http.get(f"http://{made.address}/health/ready")).status_code == 200
                except httpx.TransportError:
                    return False

            await _until(ready)
        return made

    yield start
    for each in started:
        if each.process.returncode is None:
            each.process.kill()
            await each.process.communicate()


@pytest.fixture
def ticket() -> Callable[[str], str]:
    """Returns a ticket for a job."""
    return lambda job_id: Tickets(TICKET_SECRET).issue(job_id, OWNER, ttl_seconds=60)


@pytest.fixture
def bearer() -> Callable[[str], dict[str, str]]:
    """Returns the header of a user, whose token has the usual scopes."""
    return lambda user: {"Authorization": f"Bearer {mint_token(JWT_SECRET, user)}"}


@pytest.fixture
def narrow_bearer() -> dict[str, str]:
    """The header of the owner, whose token grants only writing."""
    return {"Authorization": f"Bearer {mint_token(JWT_SECRET, OWNER, scopes=['jobs:write'])}"}


class Gate:
    """A TCP proxy whose connections can be cut, and which lets nobody through while it is shut."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._open = True
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def shut(self) -> None:
        self._open = False
        for writer in self._writers:
            writer.transport.abort()

    def open(self) -> None:
        self._open = True

    async def stop(self) -> None:
        self.shut()
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            writer.transport.abort()
            return
        other_reader, other_writer = await asyncio.open_connection(*self._target)
        both = {writer, other_writer}
        self._writers |= both
        try:
            await asyncio.gather(self._copy(reader, other_writer), self._copy(other_reader, writer))
        finally:
            self._writers -= both

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def nats_gate(settings: NotifierSettings) -> AsyncIterator[Gate]:
    """A gate in front of NATS."""
    url = urlsplit(settings.nats_url.get_secret_value())
    gate = Gate((url.hostname or "", url.port or 4222))
    await gate.start()
    yield gate
    await gate.stop()


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await holds():  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(0.02)


@pytest.fixture
def until() -> Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]:
    """Waits for something that another process brings about and that gives no signal."""
    return _until
