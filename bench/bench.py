"""Measures the whole thing on this machine: ``make bench``. Prints a table and writes ``bench/results/<time>.json``.

Machines differ and are noisy, so each figure stands beside what something else does with the same bytes in the same
run: the bare store, or one worker that streams everything. The ratio is what to compare. docs/performance.md has the
method and the figures.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import shutil
import sys
import time
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from isal import isal_zlib

from haulyard_devstack import running_stack
from others import bare_copies, bare_transfer, gets_and_a_put, streaming_worker
from rig import ARCHIVES, MIB, BenchFile, Figure, Rig, in_parallel, percentile, timed

RESULTS = Path(__file__).parent / "results"
DATA = Path(__file__).parents[1] / ".haulyard" / "bench"
ENVIRONMENT = {
    "HAULYARD_RATE_LIMIT_PER_MINUTE": "0",
    "HAULYARD_MAX_JOBS_PER_USER": "0",
    # The embedded store frees what is deleted hours later; its disk is sparse.
    "HAULYARD_CEPH_OSD_BYTES": str(64 * 1024 * MIB),
}


async def large_files(rig: Rig) -> list[Figure]:
    """10 x 256 MB that are in the store: copied by the store itself, but for headers."""
    files = await rig.add_files(10, 256 * MIB)
    total = sum(file.size for file in files) / 1e6
    ids = [file.file_id for file in files]
    first = await rig.job(ids)  # nobody knows the checksums yet: the bytes are read once
    first_share = await through_share(rig)
    ours: list[float] = []
    bare: list[float] = []
    for _ in range(2):  # by turns, because the machine is not equally fast all the time
        fresh = await rig.register([file.key for file in files])
        await learn(rig, ids, fresh)
        with timed(ours):
            await rig.job(fresh)
        share = await through_share(rig)
        bare.append(await bare_copies(rig.store, files, part=128 * MIB))
        await rig.forget()
    worker = await streaming_worker(rig.store, files)
    await rig.forget(files)
    best, best_bare = min(ours), min(bare)
    what = "one job of 10 x 256 MB"
    return [
        Figure(
            what=f"{what}, checksums known",
            value=total / best,
            unit="MB/s",
            beside=total / best_bare,
            compared_to="bare UploadPartCopy, 8 at a time",
            goal="ratio >= 0.83 (1.2 times its wall time)",
        ),
        Figure(
            what="the same",
            value=total / best,
            unit="MB/s",
            beside=total / worker,
            compared_to="one streaming worker on zipstream-ng",
            goal="ratio >= 3",
        ),
        Figure(
            what="source bytes that went through us", value=100 * share, unit="%", goal="<= 3", bigger_is_better=False
        ),
        Figure(
            what=f"{what}, checksums unknown",
            value=total / first,
            unit="MB/s",
            beside=total / worker,
            compared_to="one streaming worker on zipstream-ng",
        ),
        Figure(
            what="source bytes that went through us, then", value=100 * first_share, unit="%", bigger_is_better=False
        ),
    ]


async def learn(rig: Rig, known: list[int], fresh: list[int]) -> None:
    """Let files that were registered anew have the checksums that are known of the same objects."""
    await rig.pool.executemany(
        "UPDATE files SET crc32 = known.crc32, crc32_etag = known.crc32_etag FROM files known"
        " WHERE files.id = $2 AND known.id = $1",
        list(zip(known, fresh, strict=True)),
    )


async def through_share(rig: Rig) -> float:
    """Return the share of source bytes that went through archivers in the last job."""
    row = await rig.pool.fetchrow("SELECT bytes_through, bytes_total FROM download_jobs WHERE id = $1", rig.made[-1])
    assert row is not None
    return float(row["bytes_through"] / row["bytes_total"])


async def many_files(rig: Rig) -> list[Figure]:
    """100 x 1 MB: packed in memory, read and written once."""
    files = await rig.add_files(100, MIB)
    total = sum(file.size for file in files) / 1e6
    ours: list[float] = []
    bare: list[float] = []
    for _ in range(3):
        fresh = await rig.register([file.key for file in files])
        with timed(ours):
            await rig.job(fresh)
        bare.append(await bare_transfer(rig.store, files))
        await rig.forget()
    await rig.forget(files)
    return [
        Figure(
            what="one job of 100 x 1 MB",
            value=total / min(ours),
            unit="MB/s",
            beside=total / min(bare),
            compared_to="bare GET and PUT of each, 8 at a time",
        )
    ]


async def small_jobs(rig: Rig, jobs: int = 300, at_once: int = 16) -> list[Figure]:
    """Many jobs of 3 x 100 KB, no two alike."""
    files = await rig.add_files(40, 100_000)
    order = random.Random(time.time_ns())
    chosen = [order.sample(files, 3) for _ in range(jobs)]
    seconds: list[float] = []

    def job(three: list[BenchFile]) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            seconds.append(await rig.job([file.file_id for file in three]))

        return run

    def alone(three: list[BenchFile]) -> Callable[[], Awaitable[str]]:
        async def run() -> str:
            return await gets_and_a_put(rig.store, three)

        return run

    before, client = rig.cpu(), time.process_time()
    ours: list[float] = []
    with timed(ours):
        await in_parallel(at_once, [job(three) for three in chosen])
    after, client = rig.cpu(), time.process_time() - client
    theirs: list[float] = []
    store_before = rig.cpu()["s3"]
    with timed(theirs):
        keys = await in_parallel(at_once, [alone(three) for three in chosen])
    store_cpu = rig.cpu()["s3"] - store_before
    await rig.store.delete_all(ARCHIVES, keys)
    await rig.forget(files)
    costs = {name: 1000 * (after[name] - before.get(name, 0.0)) / jobs for name in after}
    costs["client"] = 1000 * client / jobs
    return [
        Figure(
            what=f"jobs of 3 x 100 KB, {at_once} at a time",
            value=jobs / ours[0],
            unit="jobs/s",
            beside=jobs / theirs[0],
            compared_to="bare 3 GETs and 1 PUT each",
            goal="ratio >= 0.8",
        ),
        Figure(
            what="from request to completion, median",
            value=1000 * percentile(seconds, 50),
            unit="ms",
            bigger_is_better=False,
        ),
        Figure(
            what="processor time of a job, all together", value=sum(costs.values()), unit="ms", bigger_is_better=False
        ),
        *(
            Figure(what=f"  of it {name}", value=cost, unit="ms", bigger_is_better=False)
            for name, cost in sorted(costs.items(), key=lambda each: -each[1])
        ),
        Figure(
            what="processor time of the bare store, the same",
            value=1000 * store_cpu / jobs,
            unit="ms",
            bigger_is_better=False,
        ),
    ]


async def first_byte(rig: Rig) -> list[Figure]:
    """How long until the first byte of an archive comes, from the moment that it is asked for."""
    files = await rig.add_files(4, 64 * MIB)
    await rig.job([file.file_id for file in files])  # so that the checksums are known
    waits: list[float] = []
    for count in (1, 2, 3, 4) * 3:
        chosen = random.sample(files, count)
        answer = await rig.http.post("/v1/download/initiate", json={"file_ids": [file.file_id for file in chosen]})
        answer.raise_for_status()
        rig.made.append(answer.json()["job_id"])
        started = time.perf_counter()
        async with rig.http.stream("GET", f"/v1/jobs/{rig.made[-1]}/archive", follow_redirects=True) as stream:
            stream.raise_for_status()
            async for _ in stream.aiter_raw():
                waits.append(1000 * (time.perf_counter() - started))
                break
    await asyncio.sleep(5)
    await rig.forget(files)
    return [
        Figure(
            what=f"first byte of /archive right after the request, p{percent}",
            value=percentile(waits, percent),
            unit="ms",
            bigger_is_better=False,
            goal="< 300",
        )
        for percent in (50, 95)
    ]


async def initiate(rig: Rig, requests: int = 1_000, at_once: int = 64) -> list[Figure]:
    """Latency of accepting a job, while the jobs are worked off on the same machine."""
    (file, *_) = files = await rig.add_files(1, 10)
    took: list[float] = []

    async def one() -> None:
        started = time.perf_counter()
        answer = await rig.http.post("/v1/download/initiate", json={"file_ids": [file.file_id]})
        took.append(1000 * (time.perf_counter() - started))
        answer.raise_for_status()

    await in_parallel(at_once, [one] * requests)
    await rig.forget(files)
    return [
        Figure(
            what=f"POST initiate, {at_once} at a time, p{percent}",
            value=percentile(took, percent),
            unit="ms",
            bigger_is_better=False,
        )
        for percent in (50, 95)
    ]


async def memory(rig: Rig, *, large: bool) -> list[Figure]:
    """Peak memory of an archiver at work on archives of very different sizes."""
    figures = []
    for name, count in (("1 GB", 4), ("20 GB", 80)) if large else (("1 GB", 4),):
        key = await rig.put(256 * MIB)
        ids = await rig.register([key] * count)
        for checksums in ("unknown", "known"):
            rig.forget_peaks()
            await rig.job(ids if checksums == "unknown" else list(reversed(ids)))
            figures.append(
                Figure(
                    what=f"peak memory of an archiver, {name}, checksums {checksums}",
                    value=rig.peak_memory("archiver"),
                    unit="MiB",
                    bigger_is_better=False,
                    goal="flat, <= 150",
                )
            )
            await rig.forget()
        await rig.forget([BenchFile(0, key, 0)])
    rig.forget_peaks()
    files = await rig.add_files(300, MIB)
    await rig.job([file.file_id for file in files[:100]])
    await rig.forget(files)
    figures.append(
        Figure(
            what="peak memory of an archiver, 100 x 1 MB packed",
            value=rig.peak_memory("archiver"),
            unit="MiB",
            bigger_is_better=False,
            goal="<= 150",
        )
    )
    return figures


async def deflate(rig: Rig) -> list[Figure]:
    """An archive of text, deflated in blocks by all archivers."""
    words = [random.randbytes(4).hex() for _ in range(20_000)]
    text = " ".join(random.choices(words, k=30_000_000 // 9)).encode()
    key = f"bench/deflate-{time.time_ns()}"
    body = (text * 9)[: 256 * MIB]
    await rig.store.put("haulyard-files", key, body, size=len(body), content_type="text/plain")
    ids = await rig.register([key] * 4)
    seconds = await rig.job(ids, compression="deflate")
    await rig.forget([BenchFile(0, key, len(body))])
    return [Figure(what="one job of 4 x 256 MB of text, deflated", value=4 * len(body) / 1e6 / seconds, unit="MB/s")]


def codecs() -> list[Figure]:
    """The two implementations that could do our checksums and deflate, on one core."""
    words = [random.randbytes(4).hex() for _ in range(5_000)]
    text = " ".join(random.choices(words, k=4_000_000 // 9)).encode()
    noise = random.randbytes(32 * MIB)

    def speed(step: Callable[[bytes], object], data: bytes) -> float:
        seconds: list[float] = []
        for _ in range(3):
            with timed(seconds):
                step(data)
        return len(data) / 1e6 / min(seconds)

    def deflated(module: object, level: int) -> Callable[[bytes], bytes]:
        def step(data: bytes) -> bytes:
            made = module.compressobj(level, 8, -15)  # type: ignore[attr-defined]
            return bytes(made.compress(data) + made.flush())

        return step

    return [
        Figure(
            what="CRC-32 by ISA-L",
            value=speed(isal_zlib.crc32, noise),
            unit="MB/s",
            beside=speed(zlib.crc32, noise),
            compared_to="zlib",
        ),
        Figure(
            what="deflate by ISA-L, level 1",
            value=speed(deflated(isal_zlib, 1), text),
            unit="MB/s",
            beside=speed(deflated(zlib, 1), text),
            compared_to="zlib, level 1",
        ),
        Figure(
            what="  its output",
            value=100 * len(deflated(isal_zlib, 1)(text)) / len(text),
            unit="% of the input",
            beside=100 * len(deflated(zlib, 1)(text)) / len(text),
            compared_to="zlib, level 1",
            bigger_is_better=False,
        ),
    ]


CASES: dict[str, Callable[[Rig], Awaitable[list[Figure]]]] = {
    "large-files": large_files,
    "many-files": many_files,
    "small-jobs": small_jobs,
    "first-byte": first_byte,
    "initiate": initiate,
    "deflate": deflate,
}


async def measure(chosen: list[str], *, large: bool) -> list[Figure]:
    """Start everything and measure."""
    os.environ.update(ENVIRONMENT)
    shutil.rmtree(DATA, ignore_errors=True)
    figures = codecs() if "codecs" in chosen else []
    async with running_stack(DATA) as stack:
        os.environ.update(stack.environment)
        async with Rig.of(stack) as rig:
            for name, case in CASES.items():
                if name in chosen:
                    print(f"… {name}", flush=True)
                    figures += await case(rig)
            if "memory" in chosen:
                print("… memory", flush=True)
                figures += await memory(rig, large=large)
    return figures


def main() -> int:
    """Measure, print, and keep the figures."""
    every = ["codecs", *CASES, "memory"]
    parser = argparse.ArgumentParser(prog="bench.py", description=__doc__)
    parser.add_argument("cases", nargs="*", help=f"what to measure: {', '.join(every)}; all")
    parser.add_argument("--large", action="store_true", help="also an archive of 20 GB (takes minutes and the space)")
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(every):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    figures = asyncio.run(measure(arguments.cases or every, large=arguments.large))
    print(f"\n{'':<58}{'ours':>10}{'beside':>10}{'ratio':>8}  unit, compared to, goal")
    for figure in figures:
        beside = f"{figure.beside:.1f}" if figure.beside else ""
        ratio = f"{figure.ratio:.2f}" if figure.ratio else ""
        notes = ", ".join(
            note for note in (figure.unit, figure.compared_to, figure.goal and f"goal {figure.goal}") if note
        )
        print(f"{figure.what:<58}{figure.value:>10.1f}{beside:>10}{ratio:>8}  {notes}")
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
