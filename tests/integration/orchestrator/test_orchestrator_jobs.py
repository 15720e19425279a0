import io
import random
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from haulyard_chassis.job_state import queued_document
from haulyard_contracts import (
    ErrorCode,
    EventType,
    Failure,
    FileStatus,
    JobStatus,
    PartDone,
    PartFailed,
)
from haulyard_zipline import crc32
from support.world import World

MIB = 1024 * 1024


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(f"{seed}:{size}").randbytes(size)


def check_zip(archive: bytes, expected: list[bytes]) -> list[str]:
    """The archive is whole, and its first members are these, in this order."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.testzip() is None
        names = opened.namelist()
        assert [opened.read(name) for name in names[: len(expected)]] == expected
        return names


async def check_completed(world: World, job_id: str, *file_ids: int) -> list[str]:
    document = await world.document(job_id)
    assert (document.status, document.error) == (JobStatus.COMPLETED, None)
    archive = await world.archive(job_id)
    assert document.size_bytes == len(archive)
    assert await world.uploads(job_id) == []
    assert await world.tasks(job_id) == []
    return check_zip(archive, [world.contents[file_id] for file_id in file_ids])


async def test_a_small_job_is_one_put(world: World) -> None:
    ids = [await world.add_file(noise(size)) for size in (10, 0, 100_000)]
    request = await world.request(*ids)
    (task,) = await world.parts(request.job_id)
    assert task.upload_id is None
    await world.work(request.job_id)
    await check_completed(world, request.job_id, *ids)


async def test_a_large_job_is_many_parts_and_its_header_is_done_last(world: World) -> None:
    ids = [await world.add_file(noise(size)) for size in (1_000, 20 * MIB, 7, 13 * MIB)]
    request = await world.request(*ids)
    first = [task.number for task in await world.tasks(request.job_id)]
    results = await world.work(request.job_id)
    assert len(results) > len(first) + 2, "headers and directory had to wait for checksums"
    await check_completed(world, request.job_id, *ids)


async def test_checksums_are_remembered_so_the_next_job_waits_for_nothing(world: World) -> None:
    ids = [await world.add_file(noise(size)) for size in (14 * MIB, 100)]
    first = await world.request(*ids)
    await world.work(first.job_id)
    remembered = await world.pool.fetch("SELECT crc32 FROM files WHERE id = ANY($1) ORDER BY id", ids)
    assert [row["crc32"] for row in remembered] == [crc32(world.contents[file_id]) for file_id in ids]
    with world.other_rules(reuse=False):
        second = await world.request(*ids)
        tasks = await world.tasks(second.job_id)
        document = await world.document(second.job_id)
        await world.work(second.job_id)
    parts = await world.pool.fetchval("SELECT count(*) FROM download_job_parts WHERE job_id = $1", second.job_id)
    assert len(tasks) == parts
    assert document.status is JobStatus.PROCESSING
    assert await world.archive(first.job_id) == await world.archive(second.job_id)


async def test_a_request_that_comes_twice_is_one_job_with_the_same_tasks(world: World) -> None:
    file_id = await world.add_file(noise(12 * MIB))
    request = await world.request(file_id)
    before = await world.tasks(request.job_id)
    await world.jobs.accept(request, traceparent=None)
    assert await world.tasks(request.job_id) == before
    assert len(await world.uploads(request.job_id)) == 1
    await world.work(request.job_id)
    await world.jobs.accept(request, traceparent=None)
    await check_completed(world, request.job_id, file_id)


async def test_results_that_come_twice_and_in_any_order_make_the_same_archive(world: World) -> None:
    ids = [await world.add_file(noise(size)) for size in (16 * MIB, 3 * MIB, 2 * MIB, 11 * MIB, 5)]
    request = await world.request(*ids)
    order = random.Random(3)
    seen = []
    while tasks := await world.tasks(request.job_id):
        order.shuffle(tasks)
        for task in tasks:
            seen.append(await world.make(task))
            seen.append(await world.make(task))
            await world.take(task)
        for result in order.sample(seen, len(seen)):
            await world.report(result)
    for result in order.sample(seen, len(seen)):
        await world.report(result)
    await check_completed(world, request.job_id, *ids)
    events = await world.events(request.job_id)
    sequences = [event.sequence for event in events]
    assert sequences == sorted(set(sequences))
    assert [event.type for event in events].count(EventType.COMPLETED) == 1


async def test_missing_files_are_failed_and_named_and_the_others_go_on(world: World) -> None:
    present = await world.add_file(b"here", name="here.txt")
    gone = await world.add_file(b"gone", name="gone.txt")
    foreign = await world.add_file(b"foreign", owner="somebody else")
    await world.store.delete(world.files_bucket, await world.key_of(gone))
    request = await world.request(999_999_999, present, gone, foreign)
    await world.work(request.job_id)
    names = await check_completed(world, request.job_id, present)
    assert names == ["here.txt", "MISSING-FILES.txt"]
    document = await world.document(request.job_id)
    assert [file.status for file in document.files] == [
        FileStatus.FAILED,
        FileStatus.COMPLETED,
        FileStatus.FAILED,
        FileStatus.FAILED,
    ]
    assert (document.progress.current, document.progress.total, document.progress.percentage) == (4, 4, 100)
    with zipfile.ZipFile(io.BytesIO(await world.archive(request.job_id))) as opened:
        text = opened.read("MISSING-FILES.txt").decode()
    assert "999999999: FILE_NOT_FOUND" in text
    assert f"{gone} (gone.txt): FILE_NOT_FOUND" in text
    assert (await world.events(request.job_id))[-1].failed_files == (999_999_999, gone, foreign)


async def test_files_that_everybody_may_use_have_no_owner(world: World) -> None:
    shared = await world.add_file(b"shared", owner=None)
    request = await world.request(shared, user="anyone")
    await world.work(request.job_id)
    await check_completed(world, request.job_id, shared)


async def test_a_job_without_any_file_fails(world: World) -> None:
    request = await world.request(70001_0000)
    document = await world.document(request.job_id)
    assert document.status is JobStatus.FAILED
    assert document.error == Failure(code=ErrorCode.PROCESSING_FAILED, message="File 700010000 not found")
    assert await world.tasks(request.job_id) == []
    (event,) = await world.events(request.job_id)
    assert (event.type, event.error) == (EventType.FAILED, document.error)


@pytest.mark.parametrize("size", [50_000, 13 * MIB], ids=["one PUT", "multipart"])
async def test_a_source_that_changes_midway_fails_its_file_and_never_makes_a_wrong_archive(
    world: World, size: int
) -> None:
    stays, changes = await world.add_file(noise(size, 1)), await world.add_file(noise(size, 2))
    request = await world.request(stays, changes)
    key = await world.key_of(changes)
    await world.store.put(world.files_bucket, key, noise(size, 9), size=size, content_type="text/plain")
    await world.work(request.job_id)
    await check_completed(world, request.job_id, stays)
    document = await world.document(request.job_id)
    assert document.files[1].error is not None
    assert document.files[1].error.code is ErrorCode.SOURCE_CHANGED


async def test_when_the_only_source_changes_midway_the_job_fails(world: World) -> None:
    file_id = await world.add_file(noise(12 * MIB))
    request = await world.request(file_id)
    await world.store.delete(world.files_bucket, await world.key_of(file_id))
    await world.work(request.job_id)
    document = await world.document(request.job_id)
    assert document.status is JobStatus.FAILED
    assert await world.uploads(request.job_id) == []


@pytest.mark.parametrize("size", [50_000, 13 * MIB], ids=["packed", "sliced"])
async def test_a_wrong_checksum_in_the_catalogue_is_forgotten_and_the_archive_is_right(world: World, size: int) -> None:
    """It is noticed wherever bytes are read; what the store copies by itself nobody reads."""
    file_id = await world.add_file(noise(size), crc32=12345)
    with world.other_rules(store=replace(world.rules.store, copy=False)):
        request = await world.request(file_id)
        await world.work(request.job_id)
    await check_completed(world, request.job_id, file_id)
    checksum = await world.pool.fetchval("SELECT crc32 FROM files WHERE id = $1", file_id)
    assert checksum == crc32(world.contents[file_id])


async def test_a_checksum_of_an_older_version_is_not_used(world: World) -> None:
    file_id = await world.add_file(b"old", crc32=crc32(b"old"))
    await world.store.put(world.files_bucket, await world.key_of(file_id), b"new!", size=4, content_type="a/b")
    request = await world.request(file_id)
    await world.work(request.job_id)
    check_zip(await world.archive(request.job_id), [b"new!"])


async def test_an_upload_that_somebody_aborts_is_started_again(world: World) -> None:
    file_id = await world.add_file(noise(12 * MIB))
    request = await world.request(file_id)
    (upload,) = await world.pending(request.job_id)
    await world.store.abort_upload(world.bucket, upload.key, upload_id=upload.upload_id)
    await world.work(request.job_id)
    await check_completed(world, request.job_id, file_id)


def failed(task: object, code: ErrorCode, attempt: int) -> PartFailed:
    return PartFailed(
        job_id=task.job_id,  # type: ignore[attr-defined]
        generation=task.generation,  # type: ignore[attr-defined]
        number=task.number,  # type: ignore[attr-defined]
        attempt=attempt,
        failure=Failure(code=code, message="it broke"),
    )


async def send_due(world: World) -> None:
    """Send what is to be tried again; its delay is a millisecond in these tests."""
    await world.pool.execute("UPDATE download_job_parts SET next_attempt_at = now() WHERE status = 'retrying'")
    await world.jobs.send_due(limit=100)


async def test_a_part_is_tried_three_times_and_then_the_job_fails_and_leaves_nothing(world: World) -> None:
    file_id = await world.add_file(noise(12 * MIB))
    request = await world.request(file_id)
    for attempt in (1, 2):
        task = (await world.tasks(request.job_id))[0]
        assert task.attempt == attempt
        await world.take(task)
        await world.report(failed(task, ErrorCode.STORE_UNAVAILABLE, attempt))
        await world.report(failed(task, ErrorCode.STORE_UNAVAILABLE, attempt))  # twice: counts once
        assert task.number not in [each.number for each in await world.tasks(request.job_id)]
        await send_due(world)
    task = next(each for each in await world.tasks(request.job_id) if each.attempt == 3)
    await world.report(failed(task, ErrorCode.STORE_UNAVAILABLE, 3))
    document = await world.document(request.job_id)
    assert document.status is JobStatus.FAILED
    assert document.error == Failure(code=ErrorCode.STORE_UNAVAILABLE, message="it broke")
    assert await world.tasks(request.job_id) == []
    assert await world.uploads(request.job_id) == []


async def test_a_part_that_succeeds_the_second_time_completes_the_job(world: World) -> None:
    file_id = await world.add_file(b"small")
    request = await world.request(file_id)
    (task,) = await world.tasks(request.job_id)
    await world.take(task)
    await world.report(failed(task, ErrorCode.SOURCE_UNAVAILABLE, 1))
    await send_due(world)
    await world.work(request.job_id)
    await check_completed(world, request.job_id, file_id)


async def test_a_retry_waits_while_the_last_attempt_is_still_in_its_lane(world: World) -> None:
    file_id = await world.add_file(b"small")
    request = await world.request(file_id)
    (task,) = await world.tasks(request.job_id)
    await world.report(failed(task, ErrorCode.SOURCE_UNAVAILABLE, 1))
    await send_due(world)
    status = await world.pool.fetchval("SELECT status FROM download_job_parts WHERE job_id = $1", request.job_id)
    assert status == "retrying"
    await world.take(task)
    await send_due(world)
    assert [each.attempt for each in await world.tasks(request.job_id)] == [2]


async def test_a_job_whose_tasks_were_lost_is_driven_on(world: World) -> None:
    file_id = await world.add_file(noise(12 * MIB))
    request = await world.request(file_id)
    for task in await world.tasks(request.job_id):
        await world.take(task)
    # The broker drops a message id that it saw within two minutes; a stream of its own did not see it.
    await world.stream.delete_stream(world.topology.tasks.name)
    from haulyard_chassis.broker import ensure_stream  # noqa: PLC0415

    await ensure_stream(world.stream, world.topology.tasks, replicas=1)
    await world.jobs.drive(request.job_id)
    await world.work(request.job_id)
    await check_completed(world, request.job_id, file_id)


async def test_a_job_that_was_completed_in_the_store_but_not_in_the_record_is_completed(world: World) -> None:
    file_id = await world.add_file(noise(12 * MIB))
    request = await world.request(file_id)
    await world.work(request.job_id)
    # As if the process had died after the store's answer: put the record back, past the rule that forbids it.
    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(
            "UPDATE download_jobs SET status = 'processing', completed_at = NULL WHERE id = $1", request.job_id
        )
    await world.jobs.drive(request.job_id)
    await check_completed(world, request.job_id, file_id)


async def test_results_of_an_older_plan_are_void(world: World) -> None:
    stays, changes = await world.add_file(noise(12 * MIB, 1)), await world.add_file(noise(12 * MIB, 2))
    request = await world.request(stays, changes)
    old = [await world.make(task) for task in await world.tasks(request.job_id)]
    await world.store.delete(world.files_bucket, await world.key_of(changes))
    task = next(task for task in await world.parts(request.job_id) if task.pieces)
    entry = next(each.index for each in (await world.parts(request.job_id))[-1].entries)
    await world.report(
        PartFailed(
            job_id=request.job_id,
            generation=1,
            number=task.number,
            attempt=1,
            failure=Failure(code=ErrorCode.FILE_NOT_FOUND, message="gone"),
            entry=entry,
        )
    )
    for result in old:
        await world.report(result)
    assert (await world.document(request.job_id)).progress.bytes_current == 0
    await world.work(request.job_id)
    await check_completed(world, request.job_id, stays)


async def test_a_cancelled_job_leaves_nothing_and_stays_cancelled(world: World) -> None:
    file_id = await world.add_file(noise(12 * MIB))
    request = await world.request(file_id)
    results = [await world.make(task) for task in await world.tasks(request.job_id)]
    await world.jobs.cancel(request.job_id)
    for result in results:
        await world.report(result)
    assert (await world.document(request.job_id)).status is JobStatus.CANCELLED
    assert await world.tasks(request.job_id) == []
    assert await world.uploads(request.job_id) == []
    assert [event.type for event in await world.events(request.job_id)][-1] is EventType.CANCELLED


async def test_the_cache_has_what_the_record_has_and_never_goes_back(world: World) -> None:
    file_id = await world.add_file(b"x")
    request = await world.request(file_id)
    await world.work(request.job_id)
    await world.cache.put(queued_document(request))
    assert await world.cache.get(request.job_id) == await world.document(request.job_id)


async def test_files_that_are_not_in_a_lane_yet_count_as_they_are_done(world: World) -> None:
    ids = [await world.add_file(noise(size)) for size in (6 * MIB, 5 * MIB, 4)]
    request = await world.request(*ids)
    tasks = await world.tasks(request.job_id)
    await world.report(await world.make(tasks[0]))
    document = await world.document(request.job_id)
    assert 0 < document.progress.bytes_current < document.progress.bytes_total
    assert document.progress.current == sum(file.status is FileStatus.COMPLETED for file in document.files)
    await world.work(request.job_id)
    await check_completed(world, request.job_id, *ids)


async def test_the_database_refuses_what_the_state_machine_forbids(world: World) -> None:
    file_id = await world.add_file(b"x")
    request = await world.request(file_id)
    await world.work(request.job_id)
    with pytest.raises(asyncpg.CheckViolationError, match="cannot go from completed to processing"):
        await world.pool.execute(
            "UPDATE download_jobs SET status = 'processing', completed_at = NULL WHERE id = $1", request.job_id
        )


async def test_the_requests_time_is_the_jobs_time(world: World) -> None:
    file_id = await world.add_file(b"x")
    request = await world.request(file_id)
    document = await world.document(request.job_id)
    assert abs(document.created_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert document.created_at == request.created_at


async def test_a_result_for_a_job_that_nobody_knows_changes_nothing(world: World) -> None:
    await world.report(PartDone(job_id="job_unknown", generation=1, number=1, attempt=1, etag="e", size=1))
