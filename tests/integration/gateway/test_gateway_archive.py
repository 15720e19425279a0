"""Archives as they are streamed, on the real store and database and over real connections.

The orchestrator's steps are called by the tests, so that they decide when an archive is laid out and when it is built.
"""

import asyncio
import random
import socket
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import httpx
import pytest
import uvicorn
from aiohttp import web
from ulid import ULID

from haulyard_chassis.identity import mint_token
from haulyard_contracts import Compression, JobRequested, JobStatus
from haulyard_gateway import archive_bytes
from haulyard_gateway.app import create_app
from haulyard_gateway.settings import GatewaySettings
from haulyard_zipline import crc32
from support.origin import serving
from support.world import MIB, World

USER = "user"


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(f"{seed}:{size}").randbytes(size)


def text(size: int, seed: int = 0) -> bytes:
    words = [noise(6, each).hex().encode() for each in range(300)]
    return b" ".join(random.Random(seed).choices(words, k=size // 12 + 1))[:size]


@dataclass
class Gateway:
    """A gateway that listens on a port, and a client of it."""

    http: httpx.AsyncClient
    port: int
    token: str

    async def get(self, job: JobRequested, **headers: str) -> httpx.Response:
        return await self.http.get(
            path_of(job), headers={name.replace("_", "-"): value for name, value in headers.items()}
        )


async def requested(world: World, *file_ids: int, **wishes: Any) -> JobRequested:
    """Accept a job with an id as the gateway makes them."""
    request = JobRequested(
        job_id=f"job_{ULID()}", user_id=USER, file_ids=file_ids, created_at=datetime.now(UTC), **wishes
    )
    await world.jobs.accept(request, traceparent=None)
    return request


def path_of(job: JobRequested) -> str:
    return f"/v1/jobs/{job.job_id}/archive"


@asynccontextmanager
async def listening(settings: GatewaySettings) -> AsyncIterator[Gateway]:
    """Serve a gateway as `haulyard_chassis.serve` does."""
    assert settings.jwt_secret is not None
    app: Any = create_app(settings)
    config = uvicorn.Config(
        app, http="httptools", ws="none", lifespan="on", log_config=None, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    running = asyncio.create_task(server.serve(sockets=[listener]))
    token = mint_token(settings.jwt_secret.get_secret_value(), USER)
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
            trust_env=False,
        ) as client:
            async with asyncio.timeout(30):
                while not server.started:  # noqa: ASYNC110 - nothing tells us
                    await asyncio.sleep(0.01)
            yield Gateway(client, port, token)
    finally:
        server.should_exit = True
        await running


@pytest.fixture(scope="module")
async def patient_settings(settings: GatewaySettings) -> GatewaySettings:
    return settings.model_copy(update={"archive_patience": 0.05, "archive_probe_bytes": 4 * MIB})


@pytest.fixture(scope="module")
async def gateway(patient_settings: GatewaySettings, world: World) -> AsyncIterator[Gateway]:
    async with listening(patient_settings) as found:
        yield found


async def streamed_and_built(world: World, gateway: Gateway, job: JobRequested) -> tuple[httpx.Response, bytes]:
    """Return what is streamed before a job is built, and what is built then."""
    answer = await gateway.get(job)
    assert answer.status_code == 200, answer.text
    assert (await world.document(job.job_id)).status is JobStatus.PROCESSING
    await world.work(job.job_id)
    return answer, await world.archive(job.job_id)


# The same bytes


async def test_small_files_of_which_nobody_knows_the_checksums(world: World, gateway: Gateway) -> None:
    contents = {"empty.txt": b"", "写真/夏 1.jpg": noise(70_000), "a.txt": b"a", "b.bin": noise(900_000, 1)}
    ids = [await world.add_file(data, name=name) for name, data in contents.items()]
    job = await requested(world, *ids, filename="写真.zip")
    answer, archive = await streamed_and_built(world, gateway, job)
    assert answer.content == archive
    assert answer.headers["content-length"] == str(len(archive))
    assert answer.headers["content-disposition"].endswith("filename*=UTF-8''%E5%86%99%E7%9C%9F.zip")
    with zipfile.ZipFile(BytesIO(archive)) as opened:
        assert {name: opened.read(name) for name in opened.namelist()} == contents


async def test_large_files_and_a_missing_one(world: World, gateway: Gateway) -> None:
    data = [noise(12 * MIB, each) for each in range(3)]
    ids = [await world.add_file(each, name=f"{n}.bin", crc32=crc32(each)) for n, each in enumerate(data)]
    job = await requested(world, *ids, 999_999_999)
    answer, archive = await streamed_and_built(world, gateway, job)
    assert answer.content == archive
    with zipfile.ZipFile(BytesIO(archive)) as opened:
        assert opened.namelist() == ["0.bin", "1.bin", "2.bin", "MISSING-FILES.txt"]


async def test_deflated_files_once_they_are_prepared(world: World, gateway: Gateway) -> None:
    contents = {"large.txt": text(26 * MIB), "noise.bin": noise(30_000), "small.txt": text(9_000), "empty": b""}
    ids = [await world.add_file(data, name=name) for name, data in contents.items()]
    job = await requested(world, *ids, compression=Compression.DEFLATE)
    early = await gateway.get(job)
    assert (early.status_code, early.headers["retry-after"]) == (409, "2")
    while (await gateway.get(job)).status_code == 409:
        for task in await world.tasks(job.job_id):
            result = await world.make(task)
            await world.take(task)
            await world.report(result)
    answer, archive = await streamed_and_built(world, gateway, job)
    assert answer.content == archive
    with zipfile.ZipFile(BytesIO(archive)) as opened:
        assert {name: opened.read(name) for name in opened.namelist()} == contents


async def test_a_source_that_an_origin_serves(world: World, gateway: Gateway) -> None:
    data = noise(2 * MIB, 9)

    async def origin(request: web.Request) -> web.Response:
        part = data[request.http_range]
        headers = {"ETag": '"v1"', "Accept-Ranges": "bytes"}
        if "Range" not in request.headers:
            return web.Response(body=data, headers=headers)
        start = request.http_range.start or 0
        headers["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{len(data)}"
        return web.Response(status=206, body=part, headers=headers)

    async with serving({"/a.bin": origin}) as address:
        job = await requested(world, await world.add_url(f"{address}/a.bin", name="a.bin"))
        answer, archive = await streamed_and_built(world, gateway, job)
    assert answer.content == archive


async def test_a_job_that_follows_another_has_the_same_archive(world: World, gateway: Gateway) -> None:
    data = noise(8 * MIB, 4)
    file_id = await world.add_file(data, name="a.bin", crc32=crc32(data))
    leader, follower = await requested(world, file_id), await requested(world, file_id)
    first, second = await gateway.get(leader), await gateway.get(follower)
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.content == second.content
    assert first.headers["etag"] == second.headers["etag"]
    await world.work(leader.job_id)
    assert await world.archive(follower.job_id) == first.content
    after = await gateway.get(follower, range="bytes=5-", if_range=first.headers["etag"])
    assert (after.status_code, after.content) == (206, first.content[5:])


async def test_any_range_is_the_slice_before_and_after(world: World, gateway: Gateway) -> None:
    data = [noise(size, size) for size in (6 * MIB, 10, 0, 70_000)]
    ids = [await world.add_file(each, name=f"{n}.bin", crc32=crc32(each)) for n, each in enumerate(data)]
    job = await requested(world, *ids)
    whole = await gateway.get(job)
    size, etag = len(whole.content), whole.headers["etag"]
    chance = random.Random(7)
    ranges = [sorted(chance.choices(range(size), k=2)) for _ in range(20)] + [[0, 0], [size - 1, size - 1]]
    for is_built in (False, True):
        if is_built:
            await world.work(job.job_id)
        for first, last in ranges:
            answer = await gateway.get(job, range=f"bytes={first}-{last}", if_range=etag)
            assert answer.status_code == 206
            assert answer.content == whole.content[first : last + 1]
            assert answer.headers["content-range"] == f"bytes {first}-{last}/{size}"
            assert answer.headers["etag"] == etag
    beyond = await gateway.get(job, range=f"bytes={size}-", if_range=etag)
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")


# Once it is built


async def test_once_it_is_built_the_store_has_it(world: World, gateway: Gateway) -> None:
    job = await requested(world, await world.add_file(noise(100_000), name="a.bin"))
    streamed = await gateway.get(job)
    await world.work(job.job_id)
    answer = await gateway.get(job)
    assert answer.status_code == 307
    async with httpx.AsyncClient(trust_env=False) as plain:
        stored = await plain.get(answer.headers["location"])
        assert (stored.status_code, stored.content) == (200, streamed.content)
        # As curl -C - does: a range, and nothing about what it is of.
        rest = await gateway.get(job, range="bytes=500-")
        assert rest.status_code == 307
        ranged = await plain.get(rest.headers["location"], headers={"Range": "bytes=500-"})
        assert (ranged.status_code, ranged.content) == (206, streamed.content[500:])
        # As a client does that was led to the store, and names the store's ETag.
        theirs = await gateway.get(job, range="bytes=500-", if_range=stored.headers["etag"])
        assert theirs.status_code == 307


async def test_an_interrupted_download_goes_on_although_the_archive_is_built_meanwhile(
    world: World, gateway: Gateway
) -> None:
    data = [noise(12 * MIB, 20 + each) for each in range(3)]
    ids = [await world.add_file(each, name=f"{n}.bin", crc32=crc32(each)) for n, each in enumerate(data)]
    job = await requested(world, *ids)
    got = bytearray()
    async with gateway.http.stream("GET", path_of(job)) as answer:
        etag, size = answer.headers["etag"], int(answer.headers["content-length"])
        async for chunk in answer.aiter_raw():
            got += chunk
            if len(got) > 5 * MIB:
                break
    await world.work(job.job_id)
    rest = await gateway.get(job, range=f"bytes={len(got)}-", if_range=etag)
    assert (rest.status_code, rest.headers["etag"]) == (206, etag)
    assert bytes(got) + rest.content == await world.archive(job.job_id)
    assert len(got) + len(rest.content) == size


async def test_a_stream_goes_on_when_what_was_staged_is_gone_because_it_is_built(
    world: World, gateway: Gateway
) -> None:
    data = [text(16 * MIB, 30), text(16 * MIB, 31)]
    ids = [await world.add_file(each, name=f"{n}.txt") for n, each in enumerate(data)]
    job = await requested(world, *ids, compression=Compression.DEFLATE)
    while (await gateway.http.head(path_of(job))).status_code == 409:
        for task in await world.tasks(job.job_id):
            result = await world.make(task)
            await world.take(task)
            await world.report(result)
    got = bytearray()
    async with gateway.http.stream("GET", path_of(job)) as answer:
        async for chunk in answer.aiter_raw():
            if not got:
                await world.work(job.job_id)
                assert await world.staged(job.job_id) == []
            got += chunk
    assert bytes(got) == await world.archive(job.job_id)


# When a source is not what it was


async def test_a_source_that_is_replaced_midway_ends_the_connection(world: World, gateway: Gateway) -> None:
    data = [noise(12 * MIB, 40 + each) for each in range(2)]
    ids = [await world.add_file(each, name=f"{n}.bin", crc32=crc32(each)) for n, each in enumerate(data)]
    job = await requested(world, *ids)
    got = bytearray()
    async with gateway.http.stream("GET", path_of(job)) as answer:
        etag = answer.headers["etag"]
        stream = answer.aiter_raw()
        got += await anext(stream)
        await world.replace_file(ids[1], noise(12 * MIB, 50))
        with pytest.raises(httpx.RemoteProtocolError):
            await take_all(stream, got)
    assert 12 * MIB < len(got) < 13 * MIB
    # The archiver notices, too, and the archive becomes another one: the part is of no use.
    await world.work(job.job_id)
    assert (await world.document(job.job_id)).status is JobStatus.COMPLETED
    answer = await gateway.get(job, range=f"bytes={len(got)}-", if_range=etag)
    assert answer.status_code == 307
    head = await gateway.http.head(path_of(job), headers={"If-Match": etag})
    assert head.status_code == 412


async def take_all(chunks: AsyncIterator[bytes], got: bytearray) -> None:
    async for chunk in chunks:
        got += chunk


async def test_a_source_that_was_replaced_before_is_told_at_once(world: World, gateway: Gateway) -> None:
    file_id = await world.add_file(noise(50_000), name="a.bin")
    job = await requested(world, file_id)
    await world.replace_file(file_id, noise(50_000, 1))
    answer = await gateway.get(job)
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/job-not-ready")


# How much, and how many


async def test_checksums_that_are_too_much_to_read_are_left_to_the_archivers(world: World, gateway: Gateway) -> None:
    data = noise(9 * MIB, 60)
    small = noise(1_000, 61)
    ids = [await world.add_file(small, name="small.bin"), await world.add_file(data, name="large.bin")]
    job = await requested(world, *ids)
    answer = await gateway.get(job)
    assert (answer.status_code, answer.headers["retry-after"]) == (409, "2")
    # What lies before it can be had, and its data too: only its header and the directory say its checksum.
    first = await gateway.get(job, range="bytes=0-500")
    inside = await gateway.get(job, range=f"bytes={MIB}-{2 * MIB}")
    assert (first.status_code, inside.status_code) == (206, 206)
    for task in await world.parts(job.job_id):
        result = await world.make(task)
        await world.take(task)
        await world.report(result)
    await world.work(job.job_id)
    archive = await world.archive(job.job_id)
    assert archive[:501] == first.content
    assert archive[MIB : 2 * MIB + 1] == inside.content


async def test_who_asks_right_away_gets_it_as_soon_as_it_is_laid_out(world: World, settings: GatewaySettings) -> None:
    data = noise(6 * MIB, 70)
    file_id = await world.add_file(data, name="a.bin", crc32=crc32(data))
    async with listening(settings.model_copy(update={"archive_patience": 20.0})) as gateway:
        accepted = await gateway.http.post("/v1/download/initiate", json={"file_ids": [file_id]})
        assert accepted.status_code == 202
        body = accepted.json()
        request = JobRequested(
            job_id=body["job_id"],
            user_id=USER,
            file_ids=(file_id,),
            created_at=datetime.fromisoformat(body["created_at"]),
        )
        asking = asyncio.create_task(gateway.get(request))
        await world.jobs.accept(request, traceparent=None)
        answer = await asking
    assert answer.status_code == 200
    await world.work(body["job_id"])
    assert answer.content == await world.archive(body["job_id"])


async def test_a_client_that_reads_slowly_or_goes_away_costs_next_to_nothing(
    world: World, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = noise(40 * MIB, 80)
    job = await requested(world, *[await world.add_file(data, name="a.bin", crc32=crc32(data))])
    sent = archive_bytes.STREAMED_BYTES.labels("sources")
    before = sent._value.get()
    ended: asyncio.Event = asyncio.Event()
    slots = archive_bytes.STREAMS

    decrease = slots.dec

    def told() -> None:
        decrease()
        ended.set()

    monkeypatch.setattr(slots, "dec", told)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1024)
    head = f"GET {path_of(job)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.token}\r\n\r\n"
    writer.write(head.encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    # It takes nothing more. What was read of the source meanwhile is what fits into buffers on the way.
    writer.transport.abort()
    async with asyncio.timeout(30):
        await ended.wait()
    assert sent._value.get() - before < 20 * MIB


async def test_there_are_only_so_many_streams(world: World, settings: GatewaySettings) -> None:
    data = noise(20 * MIB, 90)
    job = await requested(world, await world.add_file(data, name="a.bin", crc32=crc32(data)))
    update = {"archive_streams": 1, "archive_streams_per_user": 1}
    async with listening(settings.model_copy(update=update)) as gateway:
        async with gateway.http.stream("GET", path_of(job)) as answer:
            assert answer.status_code == 200
            refused = await gateway.get(job)
            assert (refused.status_code, refused.json()["type"]) == (429, "/problems/too-many-downloads")
            assert refused.headers["retry-after"]
            assert (await gateway.http.head(path_of(job))).status_code == 200
            await answer.aread()
        again = await gateway.get(job, range="bytes=0-9")
        assert again.status_code == 206


async def test_another_users_archive_is_not_there(world: World, gateway: Gateway, settings: GatewaySettings) -> None:
    assert settings.jwt_secret is not None
    job = await requested(world, await world.add_file(b"mine", name="a.txt"))
    token = mint_token(settings.jwt_secret.get_secret_value(), "somebody-else")
    answer = await gateway.get(job, authorization=f"Bearer {token}")
    assert answer.status_code == 404
