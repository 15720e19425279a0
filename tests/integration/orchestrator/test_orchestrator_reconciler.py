import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from haulyard_chassis.broker import BrokerUnavailableError
from haulyard_chassis.store import StoreUnavailableError
from haulyard_chassis.store_profile import PROBE_PREFIX
from haulyard_contracts import ErrorCode, EventType, Failure, JobStatus
from haulyard_orchestrator import job_records
from haulyard_orchestrator.archive_records import archive_key
from haulyard_orchestrator.reconciler import Intervals, Reconciler
from support.world import World


@pytest.fixture
def reconciler(world: World) -> Reconciler:
    return Reconciler(
        jobs=world.jobs,
        pool=world.pool,
        store=world.store,
        bucket=world.bucket,
        intervals=Intervals(stale_check=0.0, stale_after=0.0, orphan_after=0.0),
    )


async def test_a_job_that_was_recorded_and_never_planned_is_planned(world: World, reconciler: Reconciler) -> None:
    file_id = await world.add_file(b"data")
    job_id = "job_never_planned"
    await world.pool.execute(
        # Older than what other tests have left behind.
        "INSERT INTO download_jobs (id, user_id, file_ids, total_files, filename, checked_at, updated_at)"
        " VALUES ($1, 'user', $2, 1, 'a.zip', 'epoch', 'epoch')",
        job_id,
        f"[{file_id}]",
    )
    await world.pool.execute(
        "INSERT INTO download_job_files (job_id, file_id, position) VALUES ($1, $2, 0)", job_id, file_id
    )
    await reconciler.drive_stale()
    await world.work(job_id)
    assert (await world.document(job_id)).status is JobStatus.COMPLETED


async def test_an_end_that_was_not_told_is_told(world: World, reconciler: Reconciler) -> None:
    file_id = await world.add_file(b"data")
    request = await world.request(file_id)
    await world.work(request.job_id)
    await world.stream.purge_stream(world.topology.events.name, subject=world.topology.events_of(request.job_id))
    # A new sequence, as after a crash between the change and the telling.
    await world.pool.execute("UPDATE download_jobs SET sequence = sequence + 1 WHERE id = $1", request.job_id)
    await reconciler.tell_untold()
    assert [event.type for event in await world.events(request.job_id)] == [EventType.COMPLETED]
    told = await world.pool.fetchval("SELECT told_sequence = sequence FROM download_jobs WHERE id = $1", request.job_id)
    assert told is True


async def test_uploads_of_no_job_are_dropped_and_those_of_live_jobs_stay(world: World, reconciler: Reconciler) -> None:
    file_id = await world.add_file(bytes(12 * 1024 * 1024))
    request = await world.request(file_id)
    orphan = await world.store.create_upload(world.bucket, "nobody/1/nobody.zip", content_type="application/zip")
    assert orphan
    await reconciler.drop_orphan_uploads()
    assert await world.uploads("nobody") == []
    assert len(await world.uploads(request.job_id)) == 1
    await world.work(request.job_id)
    assert (await world.document(request.job_id)).status is JobStatus.COMPLETED


PARK = """
WITH job AS (
  INSERT INTO download_jobs (id, user_id, file_ids, total_files, filename, checked_at)
  VALUES ($1, 'user', $2::jsonb, 1, 'a.zip', 'epoch') RETURNING id)
INSERT INTO download_job_files (job_id, file_id, position) SELECT id, $3, 0 FROM job
"""
"""As the gateway records a job that the broker did not take."""


async def test_a_parked_job_begins_at_once(world: World) -> None:
    file_id = await world.add_file(b"data")
    await world.pool.execute(PARK, "job_parked", f"[{file_id}]", file_id)
    reconciler = _patient(world)
    await reconciler.drive_stale()
    assert await world.tasks("job_parked") == [], "it has not been looked at for long, but it is not stale"
    await reconciler.drive_parked()
    await world.work("job_parked")
    assert (await world.document("job_parked")).status is JobStatus.COMPLETED


async def test_a_parked_job_that_cannot_begin_yet_stays_parked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    file_id = await world.add_file(b"data")
    await world.pool.execute(PARK, "job_parked_again", f"[{file_id}]", file_id)

    async def away(job_id: str) -> None:
        raise BrokerUnavailableError(job_id)

    reconciler = _patient(world)
    with monkeypatch.context() as patch:
        patch.setattr(world.jobs, "drive", away)
        await reconciler.drive_parked()
    await reconciler.drive_parked()
    await world.work("job_parked_again")
    assert (await world.document("job_parked_again")).status is JobStatus.COMPLETED


def _patient(world: World) -> Reconciler:
    """Return one that takes nothing for stale or for an orphan."""
    return Reconciler(jobs=world.jobs, pool=world.pool, store=world.store, bucket=world.bucket, intervals=Intervals())


async def test_archives_that_no_record_names_are_deleted_and_others_stay(world: World, reconciler: Reconciler) -> None:
    finished = await world.request(await world.add_file(b"finished"))
    await world.work(finished.job_id)
    (task,) = await world.parts((await world.request(await world.add_file(b"under way"))).job_id)
    await world.make(task)
    orphan = archive_key(datetime.now(UTC))
    ancient = archive_key(datetime.now(UTC) - timedelta(days=3))  # the bucket's rules see to what is older than a day
    probe = f"{PROBE_PREFIX}0/source"
    for key in (orphan, probe, ancient):
        await world.store.put(world.bucket, key, b"orphan", size=6, content_type="application/zip")
    location = (await world.document(finished.job_id)).archive
    assert location is not None
    await asyncio.sleep(1)  # the store tells the age of an object in whole seconds
    await _patient(world).drop_orphan_archives()
    assert orphan in await _keys(world), "it is too young"
    await reconciler.drop_orphan_archives()
    await reconciler.drop_orphan_probes()
    left = await _keys(world)
    assert {location.key, task.key, ancient} <= left
    assert not {orphan, probe} & left


async def _keys(world: World) -> set[str]:
    return {each.key async for each in world.store.list_objects(world.bucket, prefix="")}


async def test_a_job_that_was_cancelled_and_not_cleaned_up_is_cleaned_up(world: World, reconciler: Reconciler) -> None:
    """Whoever cancelled it died before the tasks were taken back and the upload was dropped."""
    request = await world.request(await world.add_file(bytes(12 * 1024 * 1024)))
    async with world.pool.acquire() as connection, connection.transaction():
        job = await job_records.lock(connection, request.job_id)
        assert job is not None
        await job_records.cancel(connection, job, keep=timedelta(days=1))
    await reconciler.tell_untold()
    assert await world.tasks(request.job_id) == []
    assert await world.uploads(request.job_id) == []
    assert (await world.events(request.job_id))[-1].type is EventType.CANCELLED


async def test_a_cancellation_that_broke_off_is_done_to_its_end_when_it_comes_again(world: World) -> None:
    request = await world.request(await world.add_file(bytes(12 * 1024 * 1024)))
    async with world.pool.acquire() as connection, connection.transaction():
        job = await job_records.lock(connection, request.job_id)
        assert job is not None
        await job_records.cancel(connection, job, keep=timedelta(days=1))
    for _ in range(2):
        await world.jobs.cancel(request.job_id)
    assert await world.uploads(request.job_id) == []
    ends = [event for event in await world.events(request.job_id) if event.type is EventType.CANCELLED]
    assert len(ends) == 1


async def test_a_deleted_job_does_not_come_back_when_its_request_is_delivered_again(world: World) -> None:
    """Whoever took the request in may have died before it was acknowledged, and the user have been faster."""
    for data in (b"one part", bytes(12 * 1024 * 1024)):
        request = await world.request(await world.add_file(data))
        await world.work(request.job_id)
        await world.jobs.delete(request.job_id)
        await world.jobs.accept(request, traceparent=None)
        await world.jobs.refuse(request, Failure(code=ErrorCode.INTERNAL, message="no"), traceparent=None)
        assert await world.pool.fetchval("SELECT count(*) FROM download_jobs WHERE id = $1", request.job_id) == 0
        assert await world.tasks(request.job_id) == []


async def test_a_request_that_comes_while_its_job_is_deleted_does_not_bring_it_back(world: World) -> None:
    request = await world.request(await world.add_file(b"data"))
    async with world.pool.acquire() as connection, connection.transaction():
        await job_records.lock(connection, request.job_id)
        await job_records.delete(connection, request.job_id)
        accepting = asyncio.create_task(world.jobs.accept(request, traceparent=None))
        waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = 'advisory')"
        async with asyncio.timeout(10):
            while not await world.pool.fetchval(waiting):  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.01)
    await accepting
    assert await world.pool.fetchval("SELECT count(*) FROM download_jobs WHERE id = $1", request.job_id) == 0


async def test_the_archive_of_a_deleted_job_goes_although_the_store_was_away(
    world: World, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = await world.request(await world.add_file(b"only here"))
    await world.work(request.job_id)
    location = (await world.document(request.job_id)).archive
    assert location is not None

    async def away(bucket: str, key: str) -> None:
        raise StoreUnavailableError("DELETE: refused")

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "delete", away)
        with pytest.raises(StoreUnavailableError):
            await world.jobs.delete(request.job_id)
    await world.jobs.delete(request.job_id)  # the wish is delivered again, and the job is gone
    await reconciler.forget_old()
    assert location.key not in await _keys(world)
