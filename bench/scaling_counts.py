"""Counts what jobs of several kinds use up: messages, statements, requests to the store, bytes; see docs/scaling.md.

Counts do not depend on how busy the machine is, so any machine will do. Processor time does: docs/performance.md and
docs/load.md have it.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nats.aio.client import Client
from nats.aio.msg import Msg
from redis.asyncio import Redis

from bench import learn
from haulyard_chassis.broker import connect_broker
from haulyard_chassis.settings import ServiceSettings
from haulyard_contracts import Topology
from haulyard_devstack import Infra, Stack, running_stack
from haulyard_devstack.logs import MergedLog
from load import LIMITS, Setup, environment, say
from load_costs import calls, costs, count_statements
from rig import MIB, Rig

METHODS = ("GET", "PUT", "COPY", "POST", "HEAD", "DELETE")
_PIECE = 256 * 1024
_IDLE = 20.0
_SETTLE = 3.0
"""Seconds after the end of the last job in which what follows from it is done, too."""
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass
class StoreGate:
    """A proxy before the store that counts requests by their method, and bytes both ways."""

    upstream: tuple[str, int]
    requests: Counter[str] = field(default_factory=Counter)
    received: int = 0
    """Bytes that the store took, heads of requests included."""
    sent: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        with suppress(OSError, asyncio.IncompleteReadError):
            from_store, to_store = await asyncio.open_connection(*self.upstream)
            back = asyncio.create_task(self._answers(from_store, writer))
            try:
                await self._requests(reader, to_store)
            finally:
                to_store.close()
                await back
        writer.close()

    async def _requests(self, reader: asyncio.StreamReader, to_store: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            method = head.partition(b" ")[0].decode()
            copies = method == "PUT" and b"\r\nx-amz-copy-source:" in head.lower()
            self.requests["COPY" if copies else method] += 1
            length = _LENGTH.search(head)
            left = int(length[1]) if length else 0
            self.received += len(head) + left
            to_store.write(head)
            while left:
                piece = await reader.readexactly(min(left, _PIECE))
                left -= len(piece)
                to_store.write(piece)
                await to_store.drain()

    async def _answers(self, from_store: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await from_store.read(_PIECE):
                self.sent += len(piece)
                writer.write(piece)
                await writer.drain()


@dataclass
class Tap:
    """Hears every message that is published."""

    messages: Counter[str] = field(default_factory=Counter)
    size: int = 0
    """Bytes of payloads and headers."""

    async def hear(self, message: Msg) -> None:
        """Count a message."""
        self.messages[message.subject.split(".")[1]] += 1
        self.size += len(message.data) + sum(len(k) + len(v) + 4 for k, v in (message.headers or {}).items())


COUNTED = (
    "messages",
    "bytes of messages",
    "SQL statements",
    "bytes of WAL",
    "bytes of record",
    "cache commands",
    "bytes of cache",
    "store GET",
    "store PUT",
    "store COPY",
    "store POST",
    "store HEAD",
    "store DELETE",
    "bytes into store",
    "bytes out of store",
)
"""What is counted, in the order of the table; processor time comes after it."""
_BY_THE_CLOCK = ("SQL statements", "cache commands", "CPU ms")
"""What is also used while there is no job."""
_TABLES = ("download_jobs", "download_job_files", "download_job_parts", "archives")


@dataclass
class Ground:
    """The stack, and everything that counts."""

    rig: Rig
    gate: StoreGate
    tap: Tap
    client: Client
    cache: Redis
    topology: Topology

    async def used(self) -> dict[str, float]:
        """Return what was used up so far."""
        fetch = self.rig.pool.fetchval
        so_far = await costs(self.rig, self.client.jetstream(timeout=10), self.topology)
        stats: dict[str, Any] = await self.cache.info("stats")
        memory: dict[str, Any] = await self.cache.info("memory")
        return {
            "messages": self.tap.messages.total(),
            "bytes of messages": self.tap.size,
            "SQL statements": calls(so_far.statements),
            "bytes of WAL": int(await fetch("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')")),
            "bytes of record": int(
                await fetch("SELECT sum(pg_total_relation_size(name::regclass)) FROM unnest($1::text[]) name", _TABLES)
            ),
            "cache commands": stats["total_commands_processed"],
            "bytes of cache": memory["used_memory"],
            **{f"store {method}": self.gate.requests[method] for method in METHODS},
            "bytes into store": self.gate.received,
            "bytes out of store": self.gate.sent,
            **{f"CPU ms, {name}": 1000 * seconds for name, seconds in so_far.cpu.items()},
        }


@asynccontextmanager
async def ground(root: Path) -> AsyncIterator[Ground]:
    """Start an installation of its own whose store is reached through a gate."""
    async with AsyncExitStack() as opened:
        infra = await opened.enter_async_context(Infra(root))
        addresses = infra.environment()
        await count_statements(Stack(infra, addresses, {}, MergedLog()))
        upstream = urlsplit(addresses["HAULYARD_S3_ENDPOINT"])
        gate = StoreGate((upstream.hostname or "", upstream.port or 0))
        server = await opened.enter_async_context(await asyncio.start_server(gate.serve, "127.0.0.1", 0, limit=MIB))
        addresses["HAULYARD_S3_ENDPOINT"] = "http://{}:{}".format(*server.sockets[0].getsockname())
        given = {**addresses, **LIMITS}
        opened.enter_context(environment(given))
        stack = await opened.enter_async_context(
            running_stack(root / "services", env=given, services=Setup().services())
        )
        opened.enter_context(environment(stack.environment))
        rig = await opened.enter_async_context(Rig.of(stack))
        settings = ServiceSettings()
        topology = Topology(settings.namespace)
        client = await connect_broker(settings, name="scaling")
        opened.push_async_callback(client.close)
        tap = Tap()
        await client.subscribe(f"{settings.namespace}.>", cb=tap.hear)
        cache = Redis.from_url(settings.redis_url.get_secret_value())
        opened.push_async_callback(cache.aclose)
        yield Ground(rig, gate, tap, client, cache, topology)


@dataclass(frozen=True, slots=True)
class Kind:
    """Jobs of one kind."""

    name: str
    jobs: int
    files: int
    size: int
    """Bytes of each file."""
    known: bool = False
    """The catalogue has the files' checksums."""


KINDS = (
    Kind("3 x 100 KB", 40, 3, 100_000),
    Kind("10 x 600 KB", 20, 10, 600_000),
    Kind("100 x 1 MB", 3, 100, MIB),
    Kind("2 x 256 MB, known", 3, 2, 256 * MIB, known=True),
)


async def measure(root: Path) -> dict[str, dict[str, float]]:
    """Return what a job of each kind used up; what is used by the clock, jobs or not, is taken off and told apart."""
    found: dict[str, dict[str, float]] = {}
    async with ground(root) as at:
        await at.rig.job(await at.rig.register([await at.rig.put(1_000)]))  # everything is connected
        await asyncio.sleep(_SETTLE)
        before = await at.used()
        await asyncio.sleep(_IDLE)
        idle = {name: (count - before[name]) / _IDLE for name, count in (await at.used()).items()}
        found["a minute without jobs"] = {name: 60 * rate for name, rate in idle.items()}
        for kind in KINDS:
            say(kind.name)
            found[kind.name] = await per_job(at, kind, idle)
    return found


async def per_job(at: Ground, kind: Kind, idle: dict[str, float]) -> dict[str, float]:
    """Return what a job of this kind uses up; no two share an archive, and each is watched over a WebSocket."""
    rig = at.rig
    files = await rig.add_files(kind.files, kind.size)
    keys = [file.key for file in files]
    lists = [await rig.register(keys) for _ in range(kind.jobs)]
    if kind.known:
        first = [file.file_id for file in files]
        await rig.job(first)
        for ids in lists:
            await learn(rig, first, ids)
        await asyncio.sleep(_SETTLE)
    before, began = await at.used(), time.monotonic()
    for ids in lists:
        await rig.job(ids)
    await asyncio.sleep(_SETTLE)
    after, seconds = await at.used(), time.monotonic() - began
    await rig.forget(files)
    return {
        name: (after[name] - before[name] - (seconds * idle[name] if name.startswith(_BY_THE_CLOCK) else 0)) / kind.jobs
        for name in after
    }
