"""The archive engine on the real servers: copies, deflate, sources that are elsewhere, archives that jobs share."""

import random
import zipfile
import zlib
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO

import pytest
from aiohttp import web

from haulyard_chassis.broker import Publisher
from haulyard_contracts import (
    Compression,
    ErrorCode,
    Failure,
    FileStatus,
    JobRequested,
    JobStatus,
    OnMissing,
    PartDone,
    PrepareDone,
    PrepareTask,
    TaskKind,
)
from haulyard_orchestrator.dispatch import Window
from haulyard_zipline import crc32
from support.origin import serving
from support.world import MIB, World

FAILURE = Failure(code=ErrorCode.STORE_UNAVAILABLE, message="it broke")


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(f"{seed}:{size}").randbytes(size)


def text(size: int, seed: int = 0) -> bytes:
    """Something that deflate makes a good deal smaller."""
    words = [noise(6, each).hex().encode() for each in range(300)]
    return b" ".join(random.Random(seed).choices(words, k=size // 12 + 1))[:size]


async def members(world: World, job_id: str) -> dict[str, bytes]:
    """Return what the archive of a completed job holds."""
    document = await world.document(job_id)
    assert (document.status, document.error) == (JobStatus.COMPLETED, None)
    archive = await world.archive(job_id)
    assert document.size_bytes == len(archive)
    assert await world.pending(job_id) == []
    assert await world.staged(job_id) == []
    with zipfile.ZipFile(BytesIO(archive)) as opened:
        assert opened.testzip() is None
        return {name: opened.read(name) for name in opened.namelist()}


# Copies


async def test_what_has_a_known_checksum_is_copied_and_hardly_anything_goes_through(world: World) -> None:
    data = [noise(26 * MIB, each) for each in range(3)]
    ids = [await world.add_file(each, name=f"{n}.bin", crc32=crc32(each)) for n, each in enumerate(data)]
    request = await world.request(*ids)
    tasks = await world.parts(request.job_id)
    assert TaskKind.COPY in {task.kind for task in tasks}
    results = await world.work(request.job_id)
    assert await members(world, request.job_id) == {f"{n}.bin": each for n, each in enumerate(data)}
    through = sum(result.bytes_through for result in results if isinstance(result, PartDone))
    copied = sum(result.bytes_copied for result in results if isinstance(result, PartDone))
    assert through + copied == sum(map(len, data))
    assert through <= len(data) * 5 * MIB
    document = await world.document(request.job_id)
    assert (document.bytes_copied, document.bytes_through) == (copied, through)


async def test_what_has_no_known_checksum_is_copied_and_read_once(world: World) -> None:
    data = noise(26 * MIB, 7)
    file_id = await world.add_file(data, name="a.bin")
    request = await world.request(file_id)
    results = await world.work(request.job_id)
    assert await members(world, request.job_id) == {"a.bin": data}
    done = [result for result in results if isinstance(result, PartDone)]
    assert sum(result.bytes_through for result in done) == len(data)
    assert sum(result.bytes_copied for result in done) > len(data) // 2
    assert await world.pool.fetchval("SELECT crc32 FROM files WHERE id = $1", file_id) == crc32(data)


async def test_a_source_that_is_replaced_before_it_is_copied_fails_that_file(world: World) -> None:
    first, second = noise(16 * MIB, 1), noise(16 * MIB, 2)
    changed = await world.add_file(first, name="changed.bin", crc32=crc32(first))
    kept = await world.add_file(second, name="kept.bin", crc32=crc32(second))
    request = await world.request(changed, kept)
    tasks = await world.parts(request.job_id)
    copies = [task for task in tasks if task.kind is TaskKind.COPY]
    await world.replace_file(changed, noise(16 * MIB, 3))
    result = await world.make(copies[0])
    await world.take(copies[0])
    await world.report(result)
    await world.work(request.job_id)
    found = await members(world, request.job_id)
    assert found["kept.bin"] == second
    assert set(found) == {"kept.bin", "MISSING-FILES.txt"}
    document = await world.document(request.job_id)
    assert [file.error.code if file.error else None for file in document.files] == [ErrorCode.SOURCE_CHANGED, None]


async def test_what_the_catalogue_believes_is_not_looked_at_and_yet_never_wrong(world: World) -> None:
    ids = [await world.add_file(noise(1_000, each), name=f"{each}.bin", is_believed=True) for each in range(3)]
    await world.replace_file(ids[1], b"something else")
    await world.store.delete(world.files_bucket, await world.key_of(ids[2]))
    request = await world.request(*ids)
    await world.work(request.job_id)
    found = await members(world, request.job_id)
    assert found["0.bin"] == world.contents[ids[0]]
    assert found["1.bin"] == b"something else"
    assert set(found) == {"0.bin", "1.bin", "MISSING-FILES.txt"}


async def test_a_store_that_wants_equal_parts_gets_them(world: World) -> None:
    data = [noise(size, 5) for size in (13 * MIB, 100, 11 * MIB, 0, 3 * MIB)]
    ids = [await world.add_file(each, name=f"{n}.bin") for n, each in enumerate(data)]
    limits = replace(world.rules.limits, equal_parts=True)
    with world.other_rules(limits=limits, store=replace(world.rules.store, equal_parts=True)):
        request = await world.request(*ids)
        assert {task.kind for task in await world.tasks(request.job_id)} == {TaskKind.PREPARE}
        await world.work(request.job_id)
    assert await members(world, request.job_id) == {f"{n}.bin": each for n, each in enumerate(data)}
    sizes = await world.pool.fetch(
        "SELECT size_bytes FROM download_job_parts WHERE job_id = $1 AND phase = 'build' ORDER BY number",
        request.job_id,
    )
    assert len({row["size_bytes"] for row in sizes[:-1]}) == 1


# Deflate


async def test_entries_are_deflated_in_blocks_and_stored_when_that_is_smaller(world: World) -> None:
    contents = {"large.txt": text(40 * MIB), "small.txt": text(9_000), "noise.bin": noise(30_000), "empty": b""}
    ids = [await world.add_file(data, name=name) for name, data in contents.items()]
    request = await world.request(*ids, compression=Compression.DEFLATE)
    tasks = await world.tasks(request.job_id)
    assert len([task for task in tasks if isinstance(task, PrepareTask)]) >= 4, "40 MiB in blocks of 12 MiB"
    await world.work(request.job_id)
    assert await members(world, request.job_id) == contents
    archive = await world.archive(request.job_id)
    with zipfile.ZipFile(BytesIO(archive)) as opened:
        methods = {info.filename: info.compress_type for info in opened.infolist()}
    deflated, stored = zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED
    assert methods == {"large.txt": deflated, "small.txt": deflated, "noise.bin": stored, "empty": stored}
    assert len(archive) < sum(map(len, contents.values())) // 2
    document = await world.document(request.job_id)
    assert document.progress.bytes_current == document.progress.bytes_total == sum(map(len, contents.values()))


async def test_the_same_files_deflated_are_the_same_bytes(world: World) -> None:
    ids = [await world.add_file(text(size), name=f"{size}.txt") for size in (14 * MIB, 500)]
    archives = []
    for _ in range(2):
        with world.other_rules(reuse=False):
            request = await world.request(*ids, compression=Compression.DEFLATE)
            await world.work(request.job_id)
        archives.append(await world.archive(request.job_id))
    assert archives[0] == archives[1]


async def test_a_source_that_is_gone_while_it_is_deflated_fails_that_file(world: World) -> None:
    gone = await world.add_file(text(20 * MIB, 1), name="gone.txt")
    kept = await world.add_file(text(1_000, 2), name="kept.txt")
    request = await world.request(gone, kept, compression=Compression.DEFLATE)
    await world.store.delete(world.files_bucket, await world.key_of(gone))
    await world.work(request.job_id)
    found = await members(world, request.job_id)
    assert found["kept.txt"] == world.contents[kept]
    assert set(found) == {"kept.txt", "MISSING-FILES.txt"}


async def test_a_preparation_that_is_done_twice_counts_once(world: World) -> None:
    file_id = await world.add_file(text(26 * MIB), name="a.txt")
    request = await world.request(file_id, compression=Compression.DEFLATE)
    for task in await world.tasks(request.job_id):
        results = [await world.make(task), await world.make(task)]
        await world.take(task)
        for result in results:
            assert isinstance(result, PrepareDone)
            await world.report(result)
    await world.work(request.job_id)
    assert await members(world, request.job_id) == {"a.txt": world.contents[file_id]}


async def test_a_cancelled_job_leaves_nothing_of_what_was_staged(world: World) -> None:
    file_id = await world.add_file(text(26 * MIB))
    request = await world.request(file_id, compression=Compression.DEFLATE)
    (task, *_) = await world.tasks(request.job_id)
    await world.report(await world.make(task))
    assert await world.staged(request.job_id) != []
    await world.jobs.cancel(request.job_id)
    assert (await world.document(request.job_id)).status is JobStatus.CANCELLED
    assert await world.tasks(request.job_id) == []
    assert await world.staged(request.job_id) == []


# Sources that are elsewhere


@pytest.mark.parametrize("compression", Compression)
async def test_sources_come_from_origins_with_ranges_and_without(world: World, compression: Compression) -> None:
    ranged, plain, chunked = noise(13 * MIB, 1), text(13 * MIB, 2), b"short"

    async def with_ranges(request: web.Request) -> web.Response:
        part = request.http_range
        body = ranged[part]
        start = part.start or 0
        headers = {"ETag": '"v1"', "Accept-Ranges": "bytes"}
        if part.start is None:
            return web.Response(body=BytesIO(ranged), headers=headers)
        headers["Content-Range"] = f"bytes {start}-{start + len(body) - 1}/{len(ranged)}"
        return web.Response(status=206, body=BytesIO(body), headers=headers)

    async def without_ranges(_: web.Request) -> web.Response:
        return web.Response(body=BytesIO(plain))

    async def without_length(request: web.Request) -> web.StreamResponse:
        if request.method == "HEAD":
            return web.Response()
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(chunked)
        return response

    routes = {"/ranged": with_ranges, "/plain": without_ranges, "/chunked": without_length}
    async with serving(routes) as address:
        ids = [await world.add_url(f"{address}{path}", name=path[1:]) for path in routes]
        ids.append(await world.add_file(b"from the store", name="stored"))
        request = await world.request(*ids, compression=compression)
        await world.work(request.job_id)
    expected = {"ranged": ranged, "plain": plain, "chunked": chunked, "stored": b"from the store"}
    assert await members(world, request.job_id) == expected


async def test_an_origin_whose_content_changes_midway_fails_that_file(world: World) -> None:
    etags = iter(['"v1"'] * 3)

    async def changing(request: web.Request) -> web.Response:
        etag = next(etags, '"v2"')
        body = noise(13 * MIB)
        part = request.http_range
        if part.start is None or request.headers.get("If-Range", etag) != etag:
            return web.Response(body=BytesIO(body), headers={"ETag": etag, "Accept-Ranges": "bytes"})
        stop = part.stop or len(body)
        content_range = f"bytes {part.start}-{stop - 1}/{len(body)}"
        headers = {"ETag": etag, "Accept-Ranges": "bytes", "Content-Range": content_range}
        return web.Response(status=206, body=BytesIO(body[part]), headers=headers)

    async with serving({"/a": changing}) as address:
        ids = [await world.add_url(f"{address}/a", name="a"), await world.add_file(b"kept", name="kept")]
        request = await world.request(*ids)
        await world.work(request.job_id)
    assert set(await members(world, request.job_id)) == {"kept", "MISSING-FILES.txt"}
    document = await world.document(request.job_id)
    assert document.files[0].error is not None
    assert document.files[0].error.code is ErrorCode.SOURCE_CHANGED


# on_missing


async def test_a_job_can_fail_instead_of_leaving_files_out(world: World) -> None:
    file_id = await world.add_file(b"here")
    request = await world.request(file_id, 999_999_999, on_missing=OnMissing.FAIL)
    document = await world.document(request.job_id)
    assert document.status is JobStatus.FAILED
    assert document.error is not None
    assert document.error.code is ErrorCode.FILE_NOT_FOUND
    assert await world.tasks(request.job_id) == []


async def test_a_job_can_fail_when_a_file_drops_out_midway(world: World) -> None:
    ids = [await world.add_file(noise(12 * MIB, each)) for each in range(2)]
    request = await world.request(*ids, on_missing=OnMissing.FAIL)
    await world.store.delete(world.files_bucket, await world.key_of(ids[1]))
    await world.work(request.job_id)
    document = await world.document(request.job_id)
    assert document.status is JobStatus.FAILED
    assert await world.pending(request.job_id) == []


# Archives that jobs share


async def archive_ids(world: World, *job_ids: str) -> list[int | None]:
    rows = await world.pool.fetch("SELECT id, archive_id FROM download_jobs WHERE id = ANY($1)", list(job_ids))
    found = {row["id"]: row["archive_id"] for row in rows}
    return [found.get(job_id) for job_id in job_ids]


async def test_an_equal_job_gets_the_finished_archive_at_once(world: World) -> None:
    ids = [await world.add_file(noise(size), is_believed=True, owner=None) for size in (100, 13 * MIB)]
    first = await world.request(*ids)
    await world.work(first.job_id)
    second = await world.request(*ids, user="another")
    assert await world.tasks(second.job_id) == []
    document = await world.document(second.job_id)
    assert document.status is JobStatus.COMPLETED
    assert document.progress == (await world.document(first.job_id)).progress
    assert document.progress.bytes_total == 100 + 13 * MIB
    assert {file.status for file in document.files} == {FileStatus.COMPLETED}
    assert await world.archive(second.job_id) == await world.archive(first.job_id)
    one, other = await archive_ids(world, first.job_id, second.job_id)
    assert one == other is not None


async def test_a_job_that_differs_in_anything_gets_its_own(world: World) -> None:
    ids = [await world.add_file(text(size), is_believed=True) for size in (100, 200)]
    jobs = [
        await world.request(*ids),
        await world.request(*reversed(ids)),
        await world.request(ids[0]),
        await world.request(*ids, compression=Compression.DEFLATE),
        await world.request(*ids, 999_999_999),
    ]
    for job in jobs:
        await world.work(job.job_id)
    found = await archive_ids(world, *(job.job_id for job in jobs))
    assert None not in found
    assert len(set(found)) == len(jobs)


async def test_a_replaced_source_is_noticed_though_the_catalogue_believes_the_old_one(world: World) -> None:
    file_id = await world.add_file(b"first", name="a", is_believed=True)
    first = await world.request(file_id)
    await world.work(first.job_id)
    await world.replace_file(file_id, b"second")
    second = await world.request(file_id)
    await world.work(second.job_id)
    assert await members(world, second.job_id) == {"a": b"second"}
    assert await members(world, first.job_id) == {"a": b"first"}


@pytest.mark.parametrize("size", [1_000, 13 * MIB], ids=["whole", "parts"])
async def test_equal_jobs_in_flight_are_built_once(world: World, size: int) -> None:
    file_id = await world.add_file(noise(size), is_believed=True)
    jobs = [await world.request(file_id) for _ in range(4)]
    tasks = [await world.tasks(job.job_id) for job in jobs]
    assert [bool(each) for each in tasks] == [True, False, False, False]
    assert [(await world.document(job.job_id)).status for job in jobs] == [JobStatus.PROCESSING] * 4
    await world.work(jobs[0].job_id)
    found = await archive_ids(world, *(job.job_id for job in jobs))
    assert len(set(found)) == 1
    for job in jobs:
        document = await world.document(job.job_id)
        assert (document.status, document.progress.percentage) == (JobStatus.COMPLETED, 100)
        assert [event.type.value for event in await world.events(job.job_id)][-1] == "completed"


async def test_jobs_that_wait_see_the_progress_of_the_one_that_builds(world: World) -> None:
    ids = [await world.add_file(noise(11 * MIB, each), is_believed=True) for each in range(3)]
    leader, follower = await world.request(*ids), await world.request(*ids)
    for task in await world.parts(leader.job_id):
        await world.report(await world.make(task))
        await world.take(task)
    seen, ours = await world.document(leader.job_id), await world.document(follower.job_id)
    assert seen.progress.bytes_current > 0
    assert ours.progress == seen.progress
    assert [file.status for file in ours.files] == [file.status for file in seen.files]


@pytest.mark.parametrize("end", ["cancel", "delete", "fail"])
async def test_jobs_that_wait_go_on_when_the_one_that_builds_does_not(world: World, end: str) -> None:
    file_id = await world.add_file(noise(13 * MIB), name="a", is_believed=True)
    leader, follower, third = [await world.request(file_id) for _ in range(3)]
    if end == "cancel":
        await world.jobs.cancel(leader.job_id)
    elif end == "delete":
        await world.jobs.delete(leader.job_id)
    else:
        await world.jobs.fail(leader.job_id, FAILURE)
    await world.work(follower.job_id)
    await world.work(third.job_id)
    for job in (follower, third):
        assert await members(world, job.job_id) == {"a": world.contents[file_id]}
    assert len(set(await archive_ids(world, follower.job_id, third.job_id))) == 1


async def test_deleting_one_job_never_takes_anothers_archive_away(world: World) -> None:
    file_id = await world.add_file(b"shared", name="a", is_believed=True, owner=None)
    first = await world.request(file_id)
    await world.work(first.job_id)
    second = await world.request(file_id, user="another")
    location = (await world.document(first.job_id)).archive
    assert location is not None
    await world.jobs.delete(first.job_id)
    assert await world.pool.fetchval("SELECT count(*) FROM download_jobs WHERE id = $1", first.job_id) == 0
    assert await members(world, second.job_id) == {"a": b"shared"}
    await world.jobs.delete(second.job_id)
    objects = [each async for each in world.store.list_objects(location.bucket, prefix=location.key)]
    assert objects == []
    assert await world.pool.fetchval("SELECT count(*) FROM archives WHERE key = $1", location.key) == 0


def test_what_is_deflated_here_is_not_trivial() -> None:
    """The tests above would prove nothing on data that deflate does not make smaller, or makes tiny."""
    assert 0.1 < len(zlib.compress(text(MIB))) / MIB < 0.8


# Fairness


async def test_a_job_has_no_more_tasks_under_way_than_its_share(world: World) -> None:
    file_id = await world.add_file(noise(60 * MIB), is_believed=True)
    with world.other_rules(window=Window(per_user=6, per_job=2), reuse=False):
        jobs = [await world.request(file_id) for _ in range(2)]
        most = [6, 3]
        while any([await world.tasks(job.job_id) for job in jobs]):
            for number, job in enumerate(jobs):
                tasks = await world.tasks(job.job_id)
                assert len(tasks) <= most[number]
                for task in tasks[:1]:
                    result = await world.make(task)
                    await world.take(task)
                    await world.report(result)
        for job in jobs:
            assert (await world.document(job.job_id)).status is JobStatus.COMPLETED


def test_the_share_of_a_job_shrinks_with_its_users_jobs_but_never_to_nothing() -> None:
    window = Window(per_user=64, per_job=8)
    assert [window.room(jobs=jobs, sent=0) for jobs in (0, 1, 2, 8, 64)] == [64, 64, 32, 8, 8]
    assert window.room(jobs=1, sent=60) == 4
    assert window.room(jobs=4, sent=60) < 0


async def test_a_wish_about_a_job_that_is_not_recorded_yet_waits_for_it(world: World) -> None:
    request = JobRequested(job_id="job_early", user_id="user", file_ids=(1,), created_at=datetime.now(UTC))
    assert await world.jobs.is_recorded(request.job_id), "nobody asks for it, so there is nothing to wait for"
    subject = world.topology.job_requested(request.priority, request.job_id)
    await Publisher(world.client).publish(subject, request, message_id=request.job_id)
    assert not await world.jobs.is_recorded(request.job_id)
    await world.jobs.accept(request, traceparent=None)
    await world.stream.purge_stream(world.topology.jobs.name, subject=subject)
    assert await world.jobs.is_recorded(request.job_id)
