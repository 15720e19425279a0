"""What the endpoints of jobs answer, field by field and header by header."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from haulyard_chassis.broker import BrokerUnavailableError
from haulyard_chassis.identity import Tickets
from haulyard_chassis.job_state import JobStateUnavailableError
from haulyard_contracts import ArchiveLocation, ErrorCode, Failure, JobStatus
from haulyard_gateway.admission import Verdict
from haulyard_gateway.downloads import link_lifetime
from haulyard_gateway.errors import RecordUnavailableError
from haulyard_gateway.estimates import estimated_completion

if TYPE_CHECKING:
    from litestar import Litestar
    from litestar.testing import AsyncTestClient

    from haulyard_gateway.settings import GatewaySettings
    from unit.gateway.conftest import World

    Client = AsyncTestClient[Litestar]

INITIATE = "/v1/download/initiate"
JOB = "job_01KC8ZB0J0W8G3R5Q2T7V9X4YZ"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OF_A_JOB = [
    ("GET", f"/v1/jobs/{JOB}/status"),
    ("GET", f"/v1/jobs/{JOB}/download"),
    ("GET", f"/v1/jobs/{JOB}/live"),
    ("GET", f"/v1/download/{JOB}"),
    ("POST", f"/v1/jobs/{JOB}/cancel"),
    ("POST", f"/v1/jobs/{JOB}/retry"),
    ("DELETE", f"/v1/jobs/{JOB}"),
]
ARCHIVE = ArchiveLocation(bucket="archives", key="a/b.zip")


async def test_a_job_is_published_then_cached_then_accepted(
    client: Client, world: World, settings: GatewaySettings
) -> None:
    answer = await client.post(
        INITIATE,
        json={"file_ids": [70000, 70001], "priority": 9, "filename": "x", "webhook_url": "https://example.com/cb"},
        headers={"traceparent": TRACE},
    )
    assert answer.status_code == 202
    body = answer.json()
    job_id = body["job_id"]
    assert re.fullmatch(r"job_[0-9A-HJKMNP-TV-Z]{26}", job_id)
    [(subject, request, message_id, headers)] = world.broker.sent
    assert subject == f"haulyard.jobs.requested.9.{job_id}"
    assert message_id == request.job_id == job_id
    assert headers == {"traceparent": TRACE}
    assert (request.user_id, request.file_ids, request.priority) == ("alice", (70000, 70001), 9)
    assert (request.filename, request.webhook_url) == ("x.zip", "https://example.com/cb")
    assert world.jobs.documents[job_id].status is JobStatus.QUEUED
    assert answer.headers["location"] == body["status_url"] == f"https://api.example.com/v1/jobs/{job_id}/status"
    assert answer.headers["retry-after"] == "2"
    assert answer.headers["cache-control"] == "no-store"
    assert "warning" not in answer.headers
    tickets = Tickets(settings.ticket_secret.get_secret_value())
    for field, start in (
        ("websocket_url", f"wss://live.example.com/ws/jobs/{job_id}?ticket="),
        ("events_url", f"https://live.example.com/v1/jobs/{job_id}/events?ticket="),
    ):
        assert body[field].startswith(start)
        assert tickets.verify(body[field].removeprefix(start), job_id) == "alice"


async def test_the_answer_has_the_fields_of_the_original_requirement_and_three_more(client: Client) -> None:
    body = (await client.post(INITIATE, json={"file_ids": [1, 2, 3]})).json()
    assert list(body) == [
        "job_id",
        "status",
        "created_at",
        "estimated_completion",
        "total_files",
        "websocket_url",
        "status_url",
        "events_url",
        "archive_url",
    ]
    assert (body["status"], body["total_files"]) == ("queued", 3)
    for field in ("created_at", "estimated_completion"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", body[field])
    assert body["created_at"] < body["estimated_completion"]


async def test_a_cache_that_is_away_only_adds_a_warning(client: Client, world: World) -> None:
    world.admission.verdict = Verdict(degraded=True)
    answer = await client.post(INITIATE, json={"file_ids": [1]})
    assert answer.status_code == 202
    assert answer.headers["warning"].startswith('199 haulyard "the status cache is away')
    assert len(world.broker.sent) == 1


async def test_without_the_broker_the_job_waits_in_the_record(client: Client, world: World) -> None:
    world.broker.broken = BrokerUnavailableError("no confirmation")
    answer = await client.post(INITIATE, json={"file_ids": [1], "priority": 7})
    assert answer.status_code == 202
    assert "the broker is away" in answer.headers["warning"]
    assert [(job.job_id, job.priority) for job in world.jobs.parked] == [(answer.json()["job_id"], 7)]
    assert world.admission.withdrawn == []


async def test_without_broker_and_record_nothing_is_left_of_the_job(client: Client, world: World) -> None:
    world.broker.broken = BrokerUnavailableError("no confirmation")
    world.jobs.record_broken = RecordUnavailableError("gone")
    answer = await client.post(INITIATE, json={"file_ids": [1]})
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert answer.json()["type"] == "/problems/unavailable"
    assert world.admission.withdrawn == [world.admission.admitted[0][0].job_id]


async def test_a_faulty_body_publishes_nothing(client: Client, world: World) -> None:
    answer = await client.post(INITIATE, json={"file_ids": [1, 2, 3, 3], "nope": 1})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"] == "/problems/invalid-request"
    assert [error["pointer"] for error in problem["errors"]] == ["#/file_ids/3", "#/nope"]
    assert world.broker.sent == []


async def test_status_has_the_fields_of_the_original_requirement(client: Client, world: World) -> None:
    world.add_job()
    answer = await client.get(f"/v1/jobs/{JOB}/status")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["etag"] == 'W/"3"'
    assert answer.headers["retry-after"] == "2"
    assert "warning" not in answer.headers
    body = answer.json()
    assert body.pop("archive_url").startswith(f"https://api.example.com/v1/jobs/{JOB}/archive?ticket=")
    assert body == {
        "job_id": JOB,
        "status": "processing",
        "progress": {"current": 2, "total": 3, "percentage": 66, "bytes_current": 0, "bytes_total": 0},
        "files": [
            {"file_id": 70000, "status": "completed", "size_bytes": 1048576, "name": "a.txt", "error": None},
            {"file_id": 70001, "status": "processing", "size_bytes": None, "name": None, "error": None},
            {"file_id": 70002, "status": "queued", "size_bytes": None, "name": None, "error": None},
        ],
        "created_at": "2025-12-12T10:00:00Z",
        "updated_at": "2025-12-12T10:00:00Z",
        "completed_at": None,
        "error": None,
        "priority": 5,
        "filename": "photos.zip",
        "size_bytes": None,
        "expires_at": None,
        "compression": "store",
        "on_missing": "skip",
        "retry_of": None,
        "sequence": 3,
        "estimated_completion": "2025-12-12T10:00:07Z",
        "bytes_per_second": None,
        "transfer": {"bytes_copied": 0, "bytes_through": 0},
    }


async def test_a_job_that_is_over_is_not_to_be_asked_for_again(client: Client, world: World) -> None:
    now = datetime.now(UTC)
    failure = Failure(code=ErrorCode.PROCESSING_FAILED, message="no file could be archived")
    world.add_job(status=JobStatus.FAILED, error=failure, completed_at=now)
    answer = await client.get(f"/v1/jobs/{JOB}/status")
    assert "retry-after" not in answer.headers
    assert answer.json()["error"] == {"code": "PROCESSING_FAILED", "message": "no file could be archived"}


async def test_an_answer_without_the_cache_has_a_warning(client: Client, world: World) -> None:
    world.add_job()
    world.jobs.away = ("cache",)
    assert "warning" in (await client.get(f"/v1/jobs/{JOB}/status")).headers


@pytest.mark.parametrize(("method", "path"), OF_A_JOB)
async def test_unknown_malformed_and_foreign_jobs_look_the_same(
    client: Client, world: World, method: str, path: str
) -> None:
    foreign = world.add_job(user_id="bob").job_id
    malformed = ["job_1", "x", foreign.lower(), foreign + "0", "job_%00", "..%5c..", "job_*", "%F0%9F%98%80"]
    answers = [
        await client.request(method, path.replace(JOB, job_id))
        for job_id in [foreign, foreign.replace("01", "02"), *malformed]
    ]
    problems = [answer.json() for answer in answers]
    assert {answer.status_code for answer in answers} == {404}
    for problem in problems:
        del problem["instance"], problem["trace_id"]
    assert all(problem == problems[0] for problem in problems)


@pytest.mark.parametrize(("method", "path"), OF_A_JOB)
async def test_when_the_state_cannot_be_read_the_job_is_not_denied(
    client: Client, world: World, method: str, path: str
) -> None:
    world.jobs.state_broken = JobStateUnavailableError("record")
    answer = await client.request(method, path)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


@pytest.mark.parametrize("path", [f"/v1/jobs/{JOB}/download", f"/v1/download/{JOB}"])
async def test_a_finished_archive_has_a_link_of_fifteen_minutes(client: Client, world: World, path: str) -> None:
    world.add_job(status=JobStatus.COMPLETED, archive=ARCHIVE, size_bytes=3145728)
    before = datetime.now(UTC).replace(microsecond=0)
    answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert list(body) == ["job_id", "download_url", "expires_at", "size_bytes", "filename"]
    assert body["download_url"] == "https://store.test/archives/a/b.zip?expires=900&filename=photos.zip"
    assert (body["size_bytes"], body["filename"]) == (3145728, "photos.zip")
    assert timedelta(seconds=900) <= datetime.fromisoformat(body["expires_at"]) - before <= timedelta(seconds=905)


@pytest.mark.parametrize(
    ("changes", "status", "slug", "says"),
    [
        ({"status": JobStatus.QUEUED}, 409, "job-not-ready", "queued"),
        ({"status": JobStatus.PROCESSING}, 409, "job-not-ready", "2 of 3 files"),
        (
            {"status": JobStatus.FAILED, "error": Failure(code=ErrorCode.STORE_UNAVAILABLE, message="no answer")},
            409,
            "job-failed",
            "STORE_UNAVAILABLE: no answer",
        ),
        ({"status": JobStatus.CANCELLED}, 409, "job-failed", "cancelled"),
        ({"status": JobStatus.EXPIRED}, 410, "archive-expired", "new job"),
        (
            {"status": JobStatus.COMPLETED, "archive": ARCHIVE, "expires_at": datetime(2025, 1, 1, tzinfo=UTC)},
            410,
            "archive-expired",
            "new job",
        ),
    ],
)
async def test_why_there_is_no_link(
    client: Client, world: World, changes: dict[str, Any], status: int, slug: str, says: str
) -> None:
    world.add_job(**changes)
    answer = await client.get(f"/v1/jobs/{JOB}/download")
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}")
    assert says in answer.json()["detail"]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers.get("retry-after") == ("2" if slug == "job-not-ready" else None)


def test_a_link_does_not_outlive_its_archive(world: World) -> None:
    now = datetime(2025, 12, 12, tzinfo=UTC)

    def lifetime(left: float | None) -> float:
        expires_at = None if left is None else now + timedelta(seconds=left)
        return link_lifetime(world.add_job(expires_at=expires_at), now=now, longest=900).total_seconds()

    assert [lifetime(left) for left in (None, 5000, 60.5, 0.3)] == [900, 900, 60, 1]


def test_the_estimate_grows_with_the_number_of_files() -> None:
    now = datetime(2025, 12, 12, tzinfo=UTC)
    assert [(estimated_completion(now, files=files) - now).total_seconds() for files in (1, 3, 100)] == [6, 7, 55]
