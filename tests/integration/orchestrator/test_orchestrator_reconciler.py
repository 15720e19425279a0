import pytest

from haulyard_contracts import EventType, JobStatus
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
        "INSERT INTO download_jobs (id, user_id, file_ids, total_files, filename) VALUES ($1, 'user', $2, 1, 'a.zip')",
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
