"""Measures the whole thing on this machine: ``make bench``. Prints a table and writes ``bench/results/<time>.json``.

Machines differ and are noisy, so each figure stands beside what the store itself does with the same bytes in the same
run: a plain client that reads the sources and writes them again, without an archive. The ratio is what to compare.
"""

import asyncio
import json
import os
import platform
import random
import secrets
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
from websockets.asyncio.client import connect

from haulyard_chassis.settings import ServiceSettings
from haulyard_chassis.store import ObjectStore, UploadedPart
from haulyard_devstack import Stack, running_stack

MIB = 1024 * 1024
RESULTS = Path(__file__).parent / "results"
DATA = Path(__file__).parents[1] / ".haulyard" / "bench"
JOB_DEADLINE = 300.0
PARALLEL = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table."""

    what: str
    value: float
    unit: str
    store: float | None = None
    """The same by the store alone."""
    bigger_is_better: bool = True

    @property
    def ratio(self) -> float | None:
        """Ours against the store's: 1.0 is as good as the store alone."""
        if not self.store:
            return None
        return self.value / self.store if self.bigger_is_better else self.store / self.value


class Bench:
    """One run."""

    def __init__(self, stack: Stack, http: httpx.AsyncClient, store: ObjectStore) -> None:
        self._stack = stack
        self._http = http
        self._store = store
        self._bucket = "haulyard-files"

    async def add_files(self, count: int, size: int) -> list[tuple[int, str]]:
        """Put files of random bytes into the store and register them; return ids and keys."""
        gate = asyncio.Semaphore(PARALLEL)
        block = random.randbytes(min(size, MIB))

        async def add(number: int) -> tuple[int, str]:
            key = f"bench/{secrets.token_hex(8)}"
            data = (block * (size // len(block) + 1))[:size]
            async with gate:
                await self._store.put(self._bucket, key, data, size=size, content_type="application/octet-stream")
                answer = await self._http.post(
                    "/v1/files", json={"source": f"s3://{self._bucket}/{key}", "name": f"{number}.bin"}
                )
                answer.raise_for_status()
            return int(answer.json()["file_id"]), key

        return list(await asyncio.gather(*(add(number) for number in range(count))))

    async def job(self, file_ids: list[int]) -> float:
        """Make an archive; return the seconds from the request to the message that it is complete."""
        started = time.perf_counter()
        answer = await self._http.post("/v1/download/initiate", json={"file_ids": file_ids})
        answer.raise_for_status()
        async with (
            asyncio.timeout(JOB_DEADLINE),
            connect(answer.json()["websocket_url"], proxy=None, compression=None) as socket,
        ):
            async for message in socket:
                kind = json.loads(message)["type"]
                if kind == "completed":
                    return time.perf_counter() - started
                if kind == "error":
                    raise RuntimeError(f"the job failed: {message!r}")
        raise RuntimeError("the server closed before the job was over")

    async def copy(self, keys: list[str], size: int) -> float:
        """Read and write the same bytes with a plain client, as many at a time as an archiver has slots."""
        gate = asyncio.Semaphore(2 * PARALLEL)
        part = min(size, 64 * MIB)

        async def one(key: str, offset: int, upload: tuple[str, str, int] | None) -> UploadedPart | None:
            async with gate:
                etag = (await self._store.head(self._bucket, key)).etag
                length = min(part, size - offset)
                async with self._store.read(self._bucket, key, etag=etag, offset=offset, length=length) as chunks:
                    if upload is None:
                        await self._store.put(self._bucket, f"{key}.copy", chunks, size=length, content_type="a/b")
                        return None
                    target, upload_id, number = upload
                    made = await self._store.upload_part(
                        self._bucket, target, upload_id=upload_id, number=number, body=chunks, size=length
                    )
                    return UploadedPart(number, made)

        started = time.perf_counter()
        if size <= part:
            await asyncio.gather(*(one(key, 0, None) for key in keys))
            return time.perf_counter() - started
        target = f"bench/{secrets.token_hex(8)}.copy"
        upload_id = await self._store.create_upload(self._bucket, target, content_type="a/b")
        slices = [(key, offset) for key in keys for offset in range(0, size, part)]
        parts = await asyncio.gather(
            *(one(key, offset, (target, upload_id, n)) for n, (key, offset) in enumerate(slices, start=1))
        )
        await self._store.complete_upload(
            self._bucket, target, upload_id=upload_id, parts=[made for made in parts if made]
        )
        return time.perf_counter() - started

    async def throughput(self, count: int, size: int) -> Figure:
        """One archive of ``count`` files; the second time, when all checksums are known, counts too."""
        files = await self.add_files(count, size)
        ids, keys = [file_id for file_id, _ in files], [key for _, key in files]
        alone = await self.copy(keys, size)
        first = await self.job(ids)
        again = await self.job(ids)
        total = count * size / 1e6
        return Figure(
            what=f"one job of {count} x {size / 1e6:.0f} MB",
            value=total / statistics.mean((first, again)),
            unit="MB/s",
            store=total / alone,
        )

    async def small_jobs(self, jobs: int, at_once: int) -> list[Figure]:
        """Many jobs of 3 x 100 KB."""
        files = await self.add_files(30, 100_000)
        gate = asyncio.Semaphore(at_once)
        seconds: list[float] = []

        async def bounded(
            step: Callable[[list[tuple[int, str]]], Awaitable[float]], three: list[tuple[int, str]]
        ) -> None:
            async with gate:
                seconds.append(await step(three))

        async def one_job(three: list[tuple[int, str]]) -> float:
            return await self.job([file_id for file_id, _ in three])

        order = random.Random(1)
        chosen = [order.sample(files, 3) for _ in range(jobs)]
        started = time.perf_counter()
        await asyncio.gather(*(bounded(one_job, three) for three in chosen))
        ours = time.perf_counter() - started
        by_jobs = sorted(seconds)

        async def three_gets_and_a_put(three: list[tuple[int, str]]) -> float:
            parts = [await self._store.get(self._bucket, key) for _, key in three]
            body = b"".join(parts)
            await self._store.put(
                self._bucket, f"bench/{secrets.token_hex(8)}", body, size=len(body), content_type="a/b"
            )
            return 0.0

        started = time.perf_counter()
        await asyncio.gather(*(bounded(three_gets_and_a_put, three) for three in chosen))
        alone = time.perf_counter() - started
        return [
            Figure(
                what=f"jobs of 3 x 100 KB, {at_once} at a time", value=jobs / ours, unit="jobs/s", store=jobs / alone
            ),
            Figure(
                what="the same, from request to completion, median",
                value=1000 * by_jobs[len(by_jobs) // 2],
                unit="ms",
                bigger_is_better=False,
            ),
        ]

    async def initiate(self, requests: int, at_once: int) -> list[Figure]:
        """Latency of accepting a job."""
        (file_id, _), *_ = await self.add_files(1, 10)
        gate = asyncio.Semaphore(at_once)
        took: list[float] = []

        async def one() -> None:
            async with gate:
                started = time.perf_counter()
                (await self._http.post("/v1/download/initiate", json={"file_ids": [file_id]})).raise_for_status()
                took.append(1000 * (time.perf_counter() - started))

        await asyncio.gather(*(one() for _ in range(requests)))
        took.sort()
        return [
            Figure(
                what=f"POST initiate, {at_once} at a time, p{percent}",
                value=took[len(took) * percent // 100],
                unit="ms",
                bigger_is_better=False,
            )
            for percent in (50, 95)
        ]

    def memory(self) -> list[Figure]:
        """Peak resident memory of each service."""
        figures = []
        for name, process in sorted(self._stack.processes.items()):
            status = Path(f"/proc/{process.pid}/status").read_text("utf-8")
            (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
            figures.append(
                Figure(
                    what=f"peak memory of {name}", value=int(line.split()[1]) / 1024, unit="MiB", bigger_is_better=False
                )
            )
        return figures


async def measure() -> list[Figure]:
    """Start everything and measure."""
    async with running_stack(DATA) as stack:
        os.environ.update(stack.environment)
        store = ObjectStore(ServiceSettings())
        await store.open()
        headers = {"Authorization": f"Bearer {stack.token('bench')}"}
        limits = httpx.Limits(max_connections=100)
        try:
            async with httpx.AsyncClient(
                base_url=stack.api_url, headers=headers, timeout=60, trust_env=False, limits=limits
            ) as http:
                bench = Bench(stack, http, store)
                return [
                    await bench.throughput(4, 256 * MIB),
                    await bench.throughput(100, MIB),
                    *await bench.small_jobs(200, 16),
                    *await bench.initiate(1000, 64),
                    *bench.memory(),
                ]
        finally:
            await store.close()


def main() -> int:
    """Measure, print, and keep the figures."""
    figures = asyncio.run(measure())
    print(f"\n{'':<52}{'ours':>10}{'store':>10}{'ratio':>8}")
    for figure in figures:
        store = f"{figure.store:.1f}" if figure.store else ""
        ratio = f"{figure.ratio:.2f}" if figure.ratio else ""
        print(f"{figure.what + ', ' + figure.unit:<52}{figure.value:>10.1f}{store:>10}{ratio:>8}")
    now = datetime.now(UTC)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{now:%Y%m%dT%H%M%SZ}.json"
    document = {
        "time": now.isoformat(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "figures": [asdict(figure) | {"ratio": figure.ratio} for figure in figures],
    }
    path.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    print(f"\nbench/results/{path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
