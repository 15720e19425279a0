"""How jobs, archives and users end: time-outs, expiry, deletion, and being forgotten."""

import random
import secrets
from datetime import UTC, datetime, timedelta

import pytest

from haulyard_chassis.broker import Publisher
from haulyard_chassis.dead_letters import DeadLetters
from haulyard_chassis.uploads import upload_folder
from haulyard_contracts import Compression, ErrorCode, Failure, JobStatus, UserErasure, encode
from haulyard_orchestrator.reconciler import Intervals, Reconciler
from support.world import MIB, World


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(f"{seed}:{size}").randbytes(size)


def reconciler(world: World, **intervals: float) -> Reconciler:
    return Reconciler(
        jobs=world.jobs,
        pool=world.pool,
        store=world.store,
        bucket=world.bucket,
        intervals=Intervals(**intervals),
    )


async def objects(world: World, job_id: str) -> list[str]:
    """Return what the store has of a job's archive."""
    key = await world.pool.fetchval("SELECT archive_key FROM download_jobs WHERE id = $1", job_id)
    return [each.key async for each in world.store.list_objects(world.bucket, prefix=key)]


async def test_a_job_that_takes_too_long_fails_and_leaves_nothing(world: World) -> None:
    file_id = await world.add_file(noise(12 * MIB))
    request = await world.request(file_id)
    await world.pool.execute(
        "UPDATE download_jobs SET created_at = now() - interval '2 hours' WHERE id = $1", request.job_id
    )
    await reconciler(world, job_timeout=3600).fail_overdue()
    document = await world.document(request.job_id)
    assert document.status is JobStatus.FAILED
    assert document.error is not None
    assert document.error.code is ErrorCode.JOB_TIMEOUT
    assert await world.tasks(request.job_id) == []
    assert await world.pending(request.job_id) == []


async def end_all_time(world: World, *job_ids: str) -> None:
    await world.pool.execute(
        "UPDATE download_jobs SET expires_at = now() - interval '1 second' WHERE id = ANY($1)", list(job_ids)
    )


async def test_an_archive_goes_with_the_last_job_that_has_it_when_its_time_is_over(world: World) -> None:
    file_id = await world.add_file(noise(1_000), is_believed=True)
    first = await world.request(file_id)
    await world.work(first.job_id)
    second = await world.request(file_id)
    await world.pool.execute(
        "UPDATE archives SET expires_at = now() - interval '1 second' WHERE id ="
        " (SELECT archive_id FROM download_jobs WHERE id = $1)",
        first.job_id,
    )
    await end_all_time(world, first.job_id)
    await reconciler(world).forget_old()
    assert (await world.document(first.job_id)).status is JobStatus.EXPIRED
    assert await objects(world, second.job_id) != []
    await end_all_time(world, second.job_id)
    await reconciler(world).forget_old()
    assert (await world.document(second.job_id)).status is JobStatus.EXPIRED
    assert await objects(world, second.job_id) == []
    assert [event.type.value for event in await world.events(second.job_id)][-1] == "expired"
    third = await world.request(file_id)
    await world.work(third.job_id)
    assert (await world.document(third.job_id)).status is JobStatus.COMPLETED


async def test_the_record_of_a_job_goes_some_time_after_its_archive(world: World) -> None:
    file_id = await world.add_file(noise(500))
    request = await world.request(file_id)
    await world.work(request.job_id)
    await end_all_time(world, request.job_id)
    await reconciler(world, record_keep=3600).forget_old()
    assert (await world.document(request.job_id)).status is JobStatus.EXPIRED
    await reconciler(world, record_keep=0).forget_old()
    assert await world.pool.fetchval("SELECT count(*) FROM download_jobs WHERE id = $1", request.job_id) == 0
    assert await world.events(request.job_id) == []


async def test_deleting_a_job_that_runs_stops_it_and_leaves_nothing(world: World) -> None:
    file_id = await world.add_file(noise(12 * MIB))
    request = await world.request(file_id)
    (upload,) = await world.pending(request.job_id)
    tasks = await world.tasks(request.job_id)
    await world.jobs.delete(request.job_id)
    assert await world.tasks(request.job_id) == []
    assert await world.store.pending_uploads(world.bucket, prefix=upload.key) == []
    assert await world.cache.get(request.job_id) is None
    await world.report(await world.make(tasks[0]))  # somebody was still at it
    await world.jobs.drive(request.job_id)
    for table in ("download_jobs", "download_job_files", "download_job_parts"):
        column = "id" if table == "download_jobs" else "job_id"
        count = await world.pool.fetchval(f"SELECT count(*) FROM {table} WHERE {column} = $1", request.job_id)
        assert count == 0


@pytest.mark.parametrize("end", ["before", "after"])
async def test_a_small_job_that_is_cancelled_leaves_no_archive_whenever_it_was_made(world: World, end: str) -> None:
    request = await world.request(await world.add_file(noise(700)))
    (task,) = await world.parts(request.job_id)
    if end == "before":
        await world.jobs.cancel(request.job_id)
    result = await world.make(task)
    if end == "after":
        await world.jobs.cancel(request.job_id)
    await world.report(result)
    assert (await world.document(request.job_id)).status is JobStatus.CANCELLED
    assert [each async for each in world.store.list_objects(world.bucket, prefix=task.key)] == []


async def test_a_result_that_comes_twice_or_late_takes_no_archive_away(world: World) -> None:
    request = await world.request(await world.add_file(noise(800)))
    (task,) = await world.parts(request.job_id)
    result = await world.make(task)
    for _ in range(3):
        await world.report(result)
    await world.jobs.fail(request.job_id, Failure(code=ErrorCode.INTERNAL, message="too late"))
    assert await world.archive(request.job_id)


async def test_what_was_staged_for_a_job_that_is_over_is_swept_up(world: World) -> None:
    stray = f"staging/job_{secrets.token_hex(4)}/1/1-ab"
    await world.store.put(world.bucket, stray, b"x", size=1, content_type="a/b")
    running = await world.request(
        await world.add_file(noise(20 * MIB, 1).hex().encode()[: 20 * MIB]), compression=Compression.DEFLATE
    )
    (task, *_) = await world.tasks(running.job_id)
    await world.report(await world.make(task))
    await reconciler(world, orphan_after=-60).drop_orphan_staging()
    assert [each async for each in world.store.list_objects(world.bucket, prefix=stray)] == []
    assert await world.staged(running.job_id) != []
    await world.work(running.job_id)
    assert (await world.document(running.job_id)).status is JobStatus.COMPLETED


async def mentions(world: World, user: str) -> dict[str, int]:
    """Return how often each table names a user, in any column."""
    tables = await world.pool.fetch(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
    )
    found = {}
    for row in tables:
        table = row["table_name"]
        count = await world.pool.fetchval(f'SELECT count(*) FROM "{table}" t WHERE t::text LIKE $1', f"%{user}%")
        if count:
            found[table] = count
    return found


async def test_messages_that_were_given_up_go_with_the_user_whom_they_name(world: World) -> None:
    """Tasks and results name only the job."""
    user = f"user-{secrets.token_hex(6)}"
    request = await world.request(await world.add_file(noise(300), owner=None), user=user)
    (task,) = await world.tasks(request.job_id)
    other = await world.request(await world.add_file(noise(301), owner=None), user=f"{user}-other")
    topology = world.topology
    for name, message in ((topology.jobs.name, request), (topology.tasks.name, task), (topology.jobs.name, other)):
        await world.stream.publish(topology.dead(name), encode(message))
    erasure = UserErasure(erasure_id=f"erasure_{secrets.token_hex(4)}", user_id=user, requested_at=datetime.now(UTC))
    await world.jobs.forgetting.erase_user(erasure)
    left = await DeadLetters(world.stream, Publisher(world.client), topology).page(limit=9)
    assert [letter.payload for letter in left] == [encode(other)]


@pytest.mark.parametrize("times", [1, 2])
async def test_nothing_is_left_of_a_user_who_wants_to_be_forgotten(world: World, times: int) -> None:
    user = f"user-{secrets.token_hex(6)}"
    stays = await world.add_file(b"everybody's", owner=None, is_believed=True)
    own = await world.add_file(noise(12 * MIB), owner=user)
    upload = f"{upload_folder(user)}1"
    await world.store.put(world.files_bucket, upload, b"theirs", size=6, content_type="a/b")
    done = await world.request(stays, user=user, webhook_url="https://example.com/hook")
    await world.work(done.job_id)
    shared = await world.request(stays, user="another")
    running = await world.request(own, user=user)
    assert {"download_jobs", "files"} <= set(await mentions(world, user))
    erasure = UserErasure(erasure_id=f"erasure_{secrets.token_hex(4)}", user_id=user, requested_at=datetime.now(UTC))
    await world.pool.execute(
        "INSERT INTO erasures (id, user_hash, requested_at) VALUES ($1, 'hash', now())", erasure.erasure_id
    )
    for _ in range(times):
        await world.jobs.forgetting.erase_user(erasure)
    assert await mentions(world, user) == {}
    for job in (done, running):
        assert await world.events(job.job_id) == []
        assert await world.cache.get(job.job_id) is None
        assert await world.tasks(job.job_id) == []
    assert [each async for each in world.store.list_objects(world.files_bucket, prefix=upload_folder(user))] == []
    receipt = await world.pool.fetchrow("SELECT * FROM erasures WHERE id = $1", erasure.erasure_id)
    assert receipt is not None
    assert receipt["completed_at"] - receipt["requested_at"] < timedelta(minutes=5)
    assert '"jobs": 2' in receipt["counts"]
    assert await world.archive(shared.job_id)
