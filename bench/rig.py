"""What all measurements need: the running stack, files in the store, jobs, and what they cost the machine."""

import asyncio
import json
import os
import random
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
from websockets.asyncio.client import connect

from haulyard_chassis.database import Pool, open_pool
from haulyard_chassis.settings import ServiceSettings
from haulyard_chassis.store import ObjectStore
from haulyard_devstack import Stack
from haulyard_devstack.identity import descendants

MIB = 1024 * 1024
FILES = "haulyard-files"
ARCHIVES = "haulyard-archives"
JOB_DEADLINE = 900.0
SLOTS = 8
"""Parts that the two archivers of the stack make at a time."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table."""

    what: str
    value: float
    unit: str
    beside: float | None = None
    """The same by what it is compared to."""
    compared_to: str = ""
    bigger_is_better: bool = True
    goal: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours against the other's: 1.0 is as good, more is better."""
        if not self.beside:
            return None
        return self.value / self.beside if self.bigger_is_better else self.beside / self.value


@dataclass(frozen=True, slots=True)
class BenchFile:
    """A file that is in the store and in the catalogue."""

    file_id: int
    key: str
    size: int


@dataclass
class Rig:
    """The stack, and clients of it."""

    stack: Stack
    http: httpx.AsyncClient
    store: ObjectStore
    pool: Pool
    made: list[str] = field(default_factory=list)
    """Jobs, to be deleted at the end of a case: archives are large."""

    @classmethod
    @asynccontextmanager
    async def of(cls, stack: Stack) -> AsyncIterator["Rig"]:
        """Connect to a stack whose addresses are in the environment."""
        settings = ServiceSettings()
        async with AsyncExitStack() as opened:
            store = ObjectStore(settings)
            await store.open()
            opened.push_async_callback(store.close)
            pool = await open_pool(settings, name="bench")
            opened.push_async_callback(pool.close)
            http = httpx.AsyncClient(
                base_url=stack.api_url,
                headers={"Authorization": f"Bearer {stack.token('bench')}"},
                timeout=60,
                trust_env=False,
                limits=httpx.Limits(max_connections=100),
            )
            await opened.enter_async_context(http)
            yield cls(stack, http, store, pool)

    async def put(self, size: int) -> str:
        """Put an object of random bytes into the store; return its key."""
        key = f"bench/{secrets.token_hex(8)}"
        block = random.randbytes(min(size, 4 * MIB))
        data = (block * (size // max(len(block), 1) + 1))[:size]
        await self.store.put(FILES, key, data, size=size, content_type="application/octet-stream")
        return key

    async def register(self, keys: Iterable[str]) -> list[int]:
        """Register objects; return the files' ids."""
        ids = []
        for number, key in enumerate(keys):
            body = {"source": f"s3://{FILES}/{key}", "name": f"{number}-{secrets.token_hex(3)}.bin"}
            answer = await self.http.post("/v1/files", json=body)
            answer.raise_for_status()
            ids.append(int(answer.json()["file_id"]))
        return ids

    async def add_files(self, count: int, size: int) -> list[BenchFile]:
        """Put files into the store and register them."""
        keys = await in_parallel(4, [self.put for _ in range(count)], size)
        return [BenchFile(file_id, key, size) for file_id, key in zip(await self.register(keys), keys, strict=True)]

    async def job(self, file_ids: list[int], **options: Any) -> float:
        """Make an archive; return the seconds from the request to the message that it is complete."""
        started = time.perf_counter()
        answer = await self.http.post("/v1/download/initiate", json={"file_ids": file_ids, **options})
        answer.raise_for_status()
        accepted = answer.json()
        self.made.append(accepted["job_id"])
        async with (
            asyncio.timeout(JOB_DEADLINE),
            connect(accepted["websocket_url"], proxy=None, compression=None) as socket,
        ):
            async for message in socket:
                kind = json.loads(message)["type"]
                if kind == "completed":
                    return time.perf_counter() - started
                if kind == "error":
                    raise RuntimeError(f"the job failed: {message!r}")
        raise RuntimeError("the server closed before the job was over")

    async def status(self, job_id: str) -> dict[str, Any]:
        """Return a job's status."""
        answer = await self.http.get(f"/v1/jobs/{job_id}/status")
        answer.raise_for_status()
        status: dict[str, Any] = answer.json()
        return status

    async def forget(self, files: Iterable[BenchFile] = ()) -> None:
        """Delete the archives that were made, and the objects."""
        for job_id in self.made:
            (await self.http.delete(f"/v1/jobs/{job_id}")).raise_for_status()
        self.made.clear()
        await self.store.delete_all(FILES, [file.key for file in files])

    # What it costs

    def cpu(self) -> dict[str, float]:
        """Return the seconds of processor time that each part of the stack has used."""
        parts = {process.pid: name.rstrip("-0123456789") for name, process in self.stack.processes.items()}
        used: dict[str, float] = {}
        for pid, (seconds, command) in _processes().items():
            name = parts.get(pid) or next((name for mark, name in _SERVERS.items() if mark in command), None)
            if name:
                used[name] = used.get(name, 0.0) + seconds
        return used

    def peak_memory(self, prefix: str) -> float:
        """Return the largest resident memory that any process of a service had, in MiB."""
        return max(
            _status(process.pid, "VmHWM") / 1024
            for name, process in self.stack.processes.items()
            if name.startswith(prefix)
        )

    def peaks(self) -> dict[str, float]:
        """Return the largest resident memory of each service and server, in MiB; of several, of the largest one."""
        parts = {process.pid: name.rstrip("-0123456789") for name, process in self.stack.processes.items()}
        peaks: dict[str, float] = {}
        for pid, (_, command) in _processes().items():
            name = parts.get(pid) or next((name for mark, name in _SERVERS.items() if mark in command), None)
            if name:
                peaks[name] = max(peaks.get(name, 0.0), _status(pid, "VmHWM") / 1024)
        return peaks

    def forget_peaks(self) -> None:
        """Let peaks of memory begin anew (proc(5), clear_refs)."""
        for process in self.stack.processes.values():
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")


_SERVERS = {
    "nats-server": "nats",
    "postgres": "postgres",
    "valkey-server": "valkey",
    "radosgw": "s3",
    "ceph-osd": "s3",
    "ceph-mon": "s3",
}
_TICKS = os.sysconf("SC_CLK_TCK")


def _processes() -> dict[int, tuple[float, str]]:
    """Return processor seconds and command of each process that we, or those whom we started, have started."""
    found = {}
    for folder in (Path(f"/proc/{pid}") for pid in descendants(os.getpid())):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has just ended
            continue
        found[int(folder.name)] = ((int(fields[11]) + int(fields[12])) / _TICKS, command)
    return found


def _status(pid: int | None, name: str) -> int:
    """Return a line of a process's status, in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise RuntimeError(f"process {pid} has no {name}")


async def in_parallel(at_once: int, steps: Iterable[Callable[..., Awaitable[T]]], *arguments: Any) -> list[T]:
    """Run steps, so many at a time; return what they return, in order."""
    gate = asyncio.Semaphore(at_once)

    async def bounded(step: Callable[..., Awaitable[T]]) -> T:
        async with gate:
            return await step(*arguments)

    return list(await asyncio.gather(*(bounded(step) for step in steps)))


@contextmanager
def timed(into: list[float]) -> Iterator[None]:
    """Append the seconds that the block takes."""
    started = time.perf_counter()
    yield
    into.append(time.perf_counter() - started)


def percentile(values: list[float], percent: int) -> float:
    """Return the value below which so many percent are."""
    ordered = sorted(values)
    return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)]
