"""Measures a notifier with many WebSockets: ``make bench`` does not, it takes a while; run ``bench/sockets.py --help``.

One notifier process, and as many clients as the limit of open files allows, over loopback. Three figures: how long it
takes until all are connected and have been told their job's state; what a socket costs the notifier in memory that
stays (RSS); and the time from an event's publication to its arrival at a client.

With ``--against DIR`` another version of the services is measured in the same run, turn by turn: machines are noisy,
so only figures of one run can be compared.
"""

import argparse
import asyncio
import base64
import json
import os
import platform
import random
import resource
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import httpx
import uvloop
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg

from haulyard_chassis.broker import Publisher, connect_broker, ensure_topology
from haulyard_chassis.database import connect_database, migrate
from haulyard_chassis.identity import Tickets
from haulyard_chassis.job_state import JobCache, connect_cache
from haulyard_contracts import EventType, JobDocument, JobEvent, JobStatus, Progress, Topology, decode
from haulyard_devstack import Infra
from haulyard_notifier.settings import NotifierSettings

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
SPARE_FILES = 500
"""Open files that a process needs for other things than its sockets."""
CONNECTING = 100
"""Handshakes under way at a time."""
DEADLINE = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one notifier did."""

    version: str
    sockets: int
    jobs: int
    connect_seconds: float
    """Until every client had its snapshot."""
    rss_before: int
    """KiB, with one client that has come and gone."""
    rss_after: int
    """KiB, with all clients at rest."""
    events_per_second: float
    messages: int
    missing: int
    """Messages that had not arrived in the end."""
    latency_ms: dict[str, float]
    broker_ms: dict[str, float]
    """The same for a plain subscriber of the broker in the bench itself: what the notifier cannot be better than."""
    cpu_percent: float
    """Of one core, while events came."""

    @property
    def per_socket(self) -> float:
        """KiB a socket."""
        return (self.rss_after - self.rss_before) / self.sockets


class Client(asyncio.Protocol):
    """A WebSocket client with as little of its own as there can be: no thing in here may be what is measured."""

    def __init__(self, request: bytes, clock: "Clock", job: int) -> None:
        self._request = request
        self._clock = clock
        self._job = job
        self._buffer = b""
        self._open = False
        self.told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade (RFC 6455, section 4.1)."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Take frames as they come; the server's are never masked."""
        self._buffer += data
        if not self._open:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            if b" 101 " not in head.partition(b"\r\n")[0]:
                self._fail(head.decode("latin-1"))
                return
            self._open, self._buffer = True, rest
        while len(self._buffer) >= 2:
            length, start = self._buffer[1], 2
            if length == 126:
                if len(self._buffer) < 4:
                    return
                length, start = int.from_bytes(self._buffer[2:4], "big"), 4
            if len(self._buffer) < start + length:
                return
            opcode, payload = self._buffer[0] & 15, self._buffer[start : start + length]
            self._buffer = self._buffer[start + length :]
            self._frame(opcode, payload)

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == 1:
            if self.told.done():
                self._clock.arrived(self._job, int(payload.rpartition(b'"sequence":')[2].rstrip(b"}")))
            else:
                self.told.set_result(None)
        elif opcode == 9 and self._transport is not None:  # a ping: a pong with a mask of zeroes
            self._transport.write(bytes((0x8A, 0x80 | len(payload))) + bytes(4) + payload)
        elif opcode == 8:
            self._fail(f"closed: {payload!r}")

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever waits."""
        self._fail(f"connection lost: {error}")

    def _fail(self, why: str) -> None:
        if not self.told.done():
            self.told.set_exception(ConnectionError(why))

    def close(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()


@dataclass
class Clock:
    """When events were published, and how long they took to each client."""

    published: dict[tuple[int, int], float] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    broker_seconds: list[float] = field(default_factory=list)

    def arrived(self, job: int, sequence: int) -> None:
        """Note the arrival of an event at a client."""
        self.seconds.append(time.perf_counter() - self.published[job, sequence])

    async def heard(self, message: Msg) -> None:
        """Note the arrival of an event at the bench itself."""
        event = decode(message.data, JobEvent)
        job = int(event.job_id.removeprefix("job_"))
        self.broker_seconds.append(time.perf_counter() - self.published[job, event.sequence])


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Return the percentiles of times, in milliseconds."""
    ordered = sorted(seconds)
    return {
        f"p{percent}": 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
        for percent in (50, 95, 99, 100)
    }


def raise_file_limit() -> int:
    """Raise the limit of open files as far as we may, and return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def rss(pid: int) -> int:
    """Return the resident memory of a process in KiB."""
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1])


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def notifier(environment: dict[str, str], sources: Path) -> AsyncIterator[tuple[int, int]]:
    """Run the notifier of ``sources``; yield its pid and port."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    packages = [sources / "services/notifier/src", sources / "libs/chassis/src", sources / "libs/contracts/src"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "haulyard_notifier",
        env={
            **os.environ,
            **environment,
            "HAULYARD_HTTP_PORT": str(port),
            "HAULYARD_LOG_LEVEL": "warning",
            "HAULYARD_SHUTDOWN_GRACE": "5",
            "HAULYARD_USER_CONNECTIONS": "1000000",
            "HAULYARD_JOB_CONNECTIONS": "1000000",
            "PYTHONPATH": os.pathsep.join(map(str, packages)),
        },
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http, asyncio.timeout(30):
            while True:
                try:
                    if (await http.get("/health/ready")).status_code == 200:
                        break
                except httpx.TransportError:
                    if process.returncode is not None:
                        raise RuntimeError("the notifier did not start") from None
                await asyncio.sleep(0.05)
        yield process.pid, port
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


class Bench:
    """One set of servers, on which notifiers are measured."""

    def __init__(self, environment: dict[str, str], sockets: int, rate: float, seconds: float) -> None:
        self._environment = environment
        self._sockets = sockets
        self._rate = rate
        self._seconds = seconds
        os.environ.update(environment)
        self._settings = NotifierSettings()
        self._topology = Topology(self._settings.namespace)
        self._tickets = Tickets(self._settings.ticket_secret.get_secret_value())
        self._sequence = 1

    def _document(self, job: int) -> JobDocument:
        now = datetime.now(UTC)
        return JobDocument(
            job_id=f"job_{job}",
            user_id=f"user_{job}",
            status=JobStatus.PROCESSING,
            sequence=self._sequence,
            progress=Progress(current=1, total=9, percentage=11, bytes_current=123_456_789, bytes_total=987_654_321),
            files=(),
            created_at=now,
            updated_at=now,
        )

    async def measure(self, version: str, sources: Path, jobs: int) -> Outcome:
        """Start a notifier, connect to it, tell of events, and return what was seen."""
        client = await connect_broker(self._settings, name="bench")
        redis = connect_cache(self._settings.redis_url.get_secret_value())
        pool = await connect_database(self._settings, name="bench")
        try:
            await migrate(pool)
            await ensure_topology(client, self._topology, replicas=1)
            cache = JobCache(redis)
            self._sequence += 1
            for job in range(jobs):
                await cache.put(self._document(job))
            async with notifier(self._environment, sources) as (pid, port):
                return await self._measure(version, jobs, pid, port, client)
        finally:
            await pool.close()
            await client.close()
            await redis.aclose()

    async def _measure(self, version: str, jobs: int, pid: int, port: int, client: NatsClient) -> Outcome:
        clock = Clock()
        (await self._connect(port, 0, clock)).close()
        await asyncio.sleep(0.5)
        before = rss(pid)
        gate = asyncio.Semaphore(CONNECTING)

        async def one(number: int) -> Client:
            async with gate:
                return await self._connect(port, number % jobs, clock)

        begun = time.perf_counter()
        async with asyncio.timeout(DEADLINE):
            clients = await asyncio.gather(*(one(number) for number in range(self._sockets)))
        connected = time.perf_counter() - begun
        await asyncio.sleep(3.0)
        after = rss(pid)
        direct = await client.subscribe(self._topology.events_of("*"), cb=clock.heard)
        cpu, begun = cpu_seconds(pid), time.perf_counter()
        events = await self._tell(jobs, clock, Publisher(client))
        took, used = time.perf_counter() - begun, cpu_seconds(pid) - cpu
        expected = events * (self._sockets // jobs)
        patience = time.perf_counter() + 15.0
        while len(clock.seconds) < expected and time.perf_counter() < patience:  # noqa: ASYNC110 - many, seldom
            await asyncio.sleep(0.1)
        await direct.unsubscribe()
        for each in clients:
            each.close()
        return Outcome(
            version=version,
            sockets=self._sockets,
            jobs=jobs,
            connect_seconds=connected,
            rss_before=before,
            rss_after=after,
            events_per_second=events / took,
            messages=len(clock.seconds),
            missing=expected - len(clock.seconds),
            latency_ms=percentiles(clock.seconds),
            broker_ms=percentiles(clock.broker_seconds),
            cpu_percent=100 * used / took,
        )

    async def _connect(self, port: int, job: int, clock: Clock) -> Client:
        ticket = self._tickets.issue(f"job_{job}", f"user_{job}", ttl_seconds=600)
        request = (
            f"GET /ws/jobs/job_{job}?ticket={ticket} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0\r\n"
            "Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nOrigin: https://example.com\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
            f"{base64.b64encode(random.randbytes(16)).decode()}\r\n\r\n"
        )
        _, made = await asyncio.get_running_loop().create_connection(
            lambda: Client(request.encode(), clock, job), "127.0.0.1", port
        )
        await made.told
        return made

    async def _tell(self, jobs: int, clock: Clock, publisher: Publisher) -> int:
        """Publish events of jobs in turn at an even rate; return how many."""
        order = random.Random(1)
        # No job more often than clients are told, and no more messages a second than `rate`.
        per_event = max(1, self._sockets // jobs)
        pause = per_event / self._rate
        count = max(1, int(self._seconds / pause))
        waiting: set[asyncio.Task[None]] = set()
        begun = time.perf_counter()
        chosen = [*range(jobs)]
        for number in range(count):
            if number % jobs == 0:
                order.shuffle(chosen)
            job = chosen[number % jobs]
            self._sequence += 1
            document = self._document(job)
            event = JobEvent(
                job_id=document.job_id,
                sequence=document.sequence,
                type=EventType.PROGRESS,
                status=document.status,
                progress=document.progress,
                timestamp=document.updated_at,
            )
            await asyncio.sleep(max(0.0, begun + number * pause - time.perf_counter()))
            clock.published[job, event.sequence] = time.perf_counter()
            subject = self._topology.event(event.job_id, event.type)
            task = asyncio.create_task(publisher.publish(subject, event, message_id=event.id))
            waiting.add(task)
            task.add_done_callback(waiting.discard)
        await asyncio.gather(*waiting)
        return count


async def run(arguments: argparse.Namespace) -> list[Outcome]:
    """Measure each version with each number of jobs."""
    versions = {"here": ROOT} | ({"before": arguments.against} if arguments.against else {})
    with tempfile.TemporaryDirectory(prefix="haulyard-bench-") as home:
        # No job is completed, so no link is signed and no S3 is needed.
        given = {**os.environ, "HAULYARD_S3_ENDPOINT": "http://127.0.0.1:1"}
        async with Infra(Path(home) / "servers", env=given) as infra:
            environment = {
                **infra.environment(),
                "HAULYARD_S3_ACCESS_KEY": "none",
                "HAULYARD_S3_SECRET_KEY": "none",
                "HAULYARD_ENVIRONMENT": "development",
                "HAULYARD_NAMESPACE": "bench",
                "HAULYARD_JWT_SECRET": "j" * 32,
                "HAULYARD_TICKET_SECRET": "t" * 32,
            }
            bench = Bench(environment, arguments.sockets, arguments.rate, arguments.seconds)
            outcomes = []
            for jobs in arguments.jobs or (arguments.sockets, max(1, arguments.sockets // 100)):
                for version, sources in reversed(versions.items()):
                    outcomes.append(await bench.measure(version, sources, jobs))
                    print(line(outcomes[-1]), flush=True)
            return outcomes


def line(outcome: Outcome) -> str:
    """Return one line of the table."""

    def told(times: dict[str, float]) -> str:
        return " ".join(f"{name} {value:.1f}" for name, value in times.items())

    return (
        f"{outcome.version:<7} {outcome.sockets} sockets on {outcome.jobs} jobs: connected in"
        f" {outcome.connect_seconds:.1f} s, {outcome.per_socket:.1f} KiB a socket ({outcome.rss_before // 1024} ->"
        f" {outcome.rss_after // 1024} MiB), {outcome.messages} messages ({outcome.missing} missing) in ms:"
        f" {told(outcome.latency_ms)} (the broker alone: {told(outcome.broker_ms)});"
        f" {outcome.cpu_percent:.0f} % of a core"
    )


def main() -> int:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sockets", type=int, default=10_000, help="clients (10,000)")
    parser.add_argument(
        "--jobs", type=int, action="append", help="jobs that they watch; as many as clients, and a 100th"
    )
    parser.add_argument("--rate", type=float, default=500.0, help="messages a second to all clients together (500)")
    parser.add_argument("--seconds", type=float, default=20.0, help="for which events are told (20)")
    parser.add_argument("--against", type=Path, help="a tree with another version of services/ and libs/")
    arguments = parser.parse_args()
    limit = raise_file_limit()
    if arguments.sockets > limit - SPARE_FILES:
        print(f"a process may open {limit} files here: {limit - SPARE_FILES} sockets are the most", file=sys.stderr)
        return 2
    outcomes = uvloop.run(run(arguments))
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    path = RESULTS / f"sockets-{now:%Y%m%dT%H%M%SZ}.json"
    document = {
        "time": now.isoformat(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "median_kib_a_socket": statistics.median(each.per_socket for each in outcomes if each.version == "here"),
        "outcomes": [asdict(each) | {"kib_a_socket": each.per_socket} for each in outcomes],
    }
    path.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    print(f"bench/results/{path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
