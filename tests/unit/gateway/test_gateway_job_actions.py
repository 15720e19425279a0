"""Listing jobs, stopping them, doing them again, forgetting them; and waiting for their changes."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from haulyard_chassis.broker import AlreadyPendingError, BrokerUnavailableError
from haulyard_contracts import (
    ArchiveLocation,
    Compression,
    ErrorCode,
    Failure,
    FileState,
    FileStatus,
    JobAction,
    JobControl,
    JobRequested,
    JobStatus,
    OnMissing,
)
from haulyard_gateway.errors import RecordUnavailableError
from unit.gateway.conftest import CREATED, JOB_ID

if TYPE_CHECKING:
    import httpx
    from litestar import Litestar
    from litestar.testing import AsyncTestClient

    from unit.gateway.conftest import World

    Client = AsyncTestClient[Litestar]

JOB = f"/v1/jobs/{JOB_ID}"
ARCHIVE = ArchiveLocation(bucket="archives", key="a/b.zip")
OVER = [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.EXPIRED]
LOST = FileState(
    file_id=70001, status=FileStatus.FAILED, error=Failure(code=ErrorCode.FILE_NOT_FOUND, message="not found")
)
DONE = FileState(file_id=70000, status=FileStatus.COMPLETED)


# Cancelling


@pytest.mark.parametrize("status", [JobStatus.QUEUED, JobStatus.PROCESSING])
async def test_a_job_that_is_not_over_is_cancelled(client: Client, world: World, status: JobStatus) -> None:
    world.add_job(status=status)
    answer = await client.post(f"{JOB}/cancel")
    assert answer.status_code == 202
    assert answer.json() == {
        "job_id": JOB_ID,
        "action": "cancel",
        "status": status,
        "status_url": f"https://api.example.com{JOB}/status",
    }
    [(subject, wish, message_id, headers)] = world.broker.sent
    assert subject == f"haulyard.jobs.control.{JOB_ID}.cancel"
    assert isinstance(wish, JobControl)
    assert (wish.job_id, wish.action) == (JOB_ID, JobAction.CANCEL)
    assert message_id == f"{JOB_ID}:cancel"
    assert headers["traceparent"].startswith("00-")


async def test_a_job_is_cancelled_once_however_often_that_is_asked(client: Client, world: World) -> None:
    world.add_job()
    world.broker.broken = AlreadyPendingError("control")
    assert (await client.post(f"{JOB}/cancel")).status_code == 202
    world.broker.broken = AssertionError("published")
    world.add_job(status=JobStatus.CANCELLED)
    answer = await client.post(f"{JOB}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")


@pytest.mark.parametrize("status", OVER)
async def test_a_job_that_is_over_cannot_be_cancelled(client: Client, world: World, status: JobStatus) -> None:
    world.add_job(status=status)
    answer = await client.post(f"{JOB}/cancel")
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/job-over")
    assert world.broker.sent == []


@pytest.mark.parametrize(("method", "path"), [("POST", f"{JOB}/cancel"), ("DELETE", JOB)])
async def test_a_wish_that_nobody_took_is_told(client: Client, world: World, method: str, path: str) -> None:
    world.add_job()
    world.broker.broken = BrokerUnavailableError("gone")
    assert (await client.request(method, path)).status_code == 503
    assert world.jobs.deleted == set()


# Deleting


@pytest.mark.parametrize("status", list(JobStatus))
async def test_a_deleted_job_is_gone_at_once(client: Client, world: World, status: JobStatus) -> None:
    world.add_job(status=status)
    answer = await client.request("DELETE", JOB)
    assert answer.status_code == 202
    assert answer.json() == {"job_id": JOB_ID, "action": "delete", "status": status, "status_url": None}
    [(subject, wish, _, _)] = world.broker.sent
    assert subject == f"haulyard.jobs.control.{JOB_ID}.delete"
    assert wish.action is JobAction.DELETE
    for method, path in (("GET", f"{JOB}/status"), ("GET", f"{JOB}/download"), ("DELETE", JOB)):
        assert (await client.request(method, path)).status_code == 404
    assert (await client.get("/v1/jobs")).json()["jobs"] == []


async def test_without_the_cache_a_deleted_job_may_be_seen_a_little_longer(client: Client, world: World) -> None:
    world.add_job()
    world.jobs.tombstones_possible = False
    answer = await client.request("DELETE", JOB)
    assert answer.status_code == 202
    assert "a little longer" in answer.headers["warning"]


# Doing again


async def test_the_failed_files_are_done_again_as_the_job_was(client: Client, world: World) -> None:
    world.add_job(
        status=JobStatus.COMPLETED,
        files=(DONE, LOST),
        priority=8,
        compression=Compression.DEFLATE,
        on_missing=OnMissing.FAIL,
    )
    world.jobs.webhooks[JOB_ID] = "https://example.com/cb"
    answer = await client.post(f"{JOB}/retry")
    assert answer.status_code == 202, answer.text
    [(_, request, _, _)] = world.broker.sent
    assert isinstance(request, JobRequested)
    assert request.job_id == answer.json()["job_id"] != JOB_ID
    assert (request.retry_of, request.file_ids, request.priority) == (JOB_ID, (70001,), 8)
    assert (request.filename, request.webhook_url) == ("photos.zip", "https://example.com/cb")
    assert (request.compression, request.on_missing) == (Compression.DEFLATE, OnMissing.FAIL)
    assert world.admission.taken == 1
    status = await client.get(f"/v1/jobs/{request.job_id}/status")
    assert status.json()["retry_of"] == JOB_ID


async def test_the_name_that_was_made_of_the_old_id_is_not_kept(client: Client, world: World) -> None:
    world.add_job(status=JobStatus.FAILED, files=(LOST,), filename=f"download_{JOB_ID}.zip")
    await client.post(f"{JOB}/retry")
    assert world.broker.sent[0][1].filename is None


@pytest.mark.parametrize("status", [JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED])
async def test_a_job_without_archive_is_done_again_as_a_whole(client: Client, world: World, status: JobStatus) -> None:
    world.add_job(status=status)
    assert (await client.post(f"{JOB}/retry")).status_code == 202
    assert world.broker.sent[0][1].file_ids == (70000, 70001, 70002)


@pytest.mark.parametrize(
    ("changes", "slug"),
    [
        ({"status": JobStatus.QUEUED}, "job-not-over"),
        ({"status": JobStatus.PROCESSING, "files": (DONE, LOST)}, "job-not-over"),
        ({"status": JobStatus.COMPLETED, "files": (DONE,)}, "nothing-to-retry"),
    ],
)
async def test_why_a_job_is_not_done_again(client: Client, world: World, changes: dict[str, Any], slug: str) -> None:
    world.add_job(**changes)
    answer = await client.post(f"{JOB}/retry")
    assert (answer.status_code, answer.json()["type"]) == (409, f"/problems/{slug}")
    assert world.broker.sent == []


async def test_without_the_record_a_job_is_not_done_again_without_its_webhook(client: Client, world: World) -> None:
    world.add_job(status=JobStatus.FAILED)
    world.jobs.record_broken = RecordUnavailableError("gone")
    assert (await client.post(f"{JOB}/retry")).status_code == 503
    assert world.broker.sent == []


# Listing


async def test_jobs_are_listed_page_by_page(client: Client, world: World) -> None:
    ids = [f"job_01KC8ZB0J0W8G3R5Q2T7V9X{number:03d}" for number in range(5)]
    for number, job_id in enumerate(ids):
        world.add_job(job_id=job_id, created_at=CREATED + timedelta(seconds=number))
    world.add_job(job_id=JOB_ID, user_id="bob")
    seen: list[str] = []
    path, pages = "/v1/jobs?limit=2&status=processing", 0
    while path:
        answer = await client.get(path)
        assert answer.status_code == 200
        body = answer.json()
        seen += [job["job_id"] for job in body["jobs"]]
        if body["next_cursor"]:
            path = answer.headers["link"].removeprefix("<https://api.example.com").removesuffix('>; rel="next"')
            assert f"cursor={body['next_cursor']}" in path
            assert "status=processing" in path
        else:
            path = ""
            assert "link" not in answer.headers
        pages += 1
    assert seen == ids[::-1]
    assert pages == 3
    assert world.jobs.wanted is not None
    assert world.jobs.wanted.status is JobStatus.PROCESSING


async def test_a_job_of_a_list_tells_all_but_its_files(client: Client, world: World) -> None:
    world.add_job(status=JobStatus.COMPLETED, archive=ARCHIVE, size_bytes=5)
    [job] = (await client.get("/v1/jobs")).json()["jobs"]
    assert "files" not in job
    assert (job["job_id"], job["status"], job["size_bytes"]) == (JOB_ID, "completed", 5)
    assert job["status_url"] == f"https://api.example.com{JOB}/status"


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("/v1/jobs?limit=1000", "limit"),
        ("/v1/jobs?stauts=failed", "stauts"),
        ("/v1/jobs?limit=1&limit=2", "limit"),
        ("/v1/jobs?cursor=x", "cursor"),
        ("/v1/files?limit=0", "limit"),
        ("/v1/files?owner=bob", "owner"),
        (f"{JOB}/status?wait=60", "wait"),
        (f"{JOB}/status?" + "x" * 500 + "=1", "x" * 60 + "…"),
    ],
)
async def test_a_faulty_query_is_told(client: Client, path: str, parameter: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 400
    assert [error["parameter"] for error in answer.json()["errors"]] == [parameter]


async def test_a_record_that_is_away_is_told(client: Client, world: World) -> None:
    world.jobs.record_broken = RecordUnavailableError("gone")
    assert (await client.get("/v1/jobs")).status_code == 503


# Conditional requests, and waiting


async def test_who_knows_the_state_is_told_only_that(client: Client, world: World) -> None:
    world.add_job()
    etag = (await client.get(f"{JOB}/status")).headers["etag"]
    answer = await client.get(f"{JOB}/status", headers={"If-None-Match": etag})
    assert answer.status_code == 304
    assert answer.content == b""
    assert answer.headers["etag"] == etag
    assert answer.headers["cache-control"] == "no-store"
    world.add_job(sequence=4)
    assert (await client.get(f"{JOB}/status", headers={"If-None-Match": etag})).status_code == 200
    assert world.jobs.asked_at_least[-1] == 3


async def test_whoever_waits_is_told_of_the_next_change(patient: httpx.AsyncClient, world: World) -> None:
    world.add_job()
    waiting = asyncio.create_task(patient.get(f"{JOB}/status?wait=25", headers={"If-None-Match": 'W/"3"'}))
    watch = await world.changes.next_watch()
    world.add_job(sequence=5, status=JobStatus.COMPLETED)
    watch.change(5)
    answer = await waiting
    assert (answer.status_code, answer.json()["status"]) == (200, "completed")
    assert world.jobs.asked_at_least[-1] == 5


async def test_a_change_that_came_before_we_listened_is_not_missed(client: Client, world: World) -> None:
    world.add_job()
    look_up = world.jobs.look_up

    async def then_change(job_id: str, **options: Any) -> Any:
        reading = await look_up(job_id, **options)
        world.add_job(sequence=4)
        return reading

    world.jobs.look_up = then_change  # type: ignore[method-assign]
    answer = await client.get(f"{JOB}/status?wait=25&since=3")
    assert answer.json()["sequence"] == 4


async def test_when_the_time_is_up_the_state_is_told_as_it_is(
    client: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("haulyard_gateway.status.wait_for_change", at_once)
    world.add_job()
    assert (await client.get(f"{JOB}/status?wait=25&since=3")).status_code == 200
    answer = await client.get(f"{JOB}/status?wait=25", headers={"If-None-Match": '"3"'})
    assert (answer.status_code, answer.headers["retry-after"]) == (304, "2")


async def at_once(*_: Any, **__: Any) -> None:
    return None


async def test_when_too_many_wait_the_next_is_answered_at_once(client: Client, world: World) -> None:
    world.changes.full = True
    world.add_job()
    answer = await client.get(f"{JOB}/status?wait=25&since=3")
    assert (answer.status_code, answer.headers["retry-after"]) == (200, "2")
