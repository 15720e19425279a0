"""Small decisions that need no server: traces, back-off, and a job's first state and hash."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from haulyard_chassis.consume import Delivery, backoff
from haulyard_chassis.database import MigrationError, migrations
from haulyard_chassis.job_state import _hash_fields, default_filename, percentage, queued_document
from haulyard_chassis.trace import continue_trace, trace_id
from haulyard_contracts import (
    ArchiveLocation,
    ErrorCode,
    Failure,
    FileState,
    FileStatus,
    JobDocument,
    JobRequested,
    JobStatus,
    Progress,
    decode,
)

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_valid_trace_goes_on() -> None:
    assert continue_trace(TRACE) == TRACE
    assert trace_id(TRACE) == "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    "received",
    [
        None,
        "",
        TRACE.upper(),
        TRACE + "\n",
        TRACE + "-more",
        TRACE[:-1],
        "ff" + TRACE[2:],
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        "00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01",
    ],
)
def test_an_invalid_trace_is_replaced_by_a_new_one(received: str | None) -> None:
    made = continue_trace(received)
    assert made != received
    assert continue_trace(made) == made
    assert continue_trace(received) != made


@pytest.mark.parametrize(
    ("deliveries", "seconds"), [(1, 0.5), (2, 1.0), (3, 2.0), (6, 16.0), (7, 30.0), (100, 30.0), (5_000, 30.0)]
)
def test_the_pause_doubles_up_to_thirty_seconds(deliveries: int, seconds: float) -> None:
    assert backoff(deliveries) == seconds


def test_a_delivery_carries_its_trace_on() -> None:
    assert Delivery(1, {"traceparent": TRACE, "Nats-Msg-Id": "x"}).trace == {"traceparent": TRACE}
    assert Delivery(1, {}).trace == {}


@pytest.mark.parametrize(
    ("current", "total", "expected"), [(0, 0, 0), (0, 3, 0), (1, 3, 33), (2, 3, 66), (3, 3, 100), (999, 1000, 99)]
)
def test_percentages_are_rounded_down(current: int, total: int, expected: int) -> None:
    assert percentage(current, total) == expected


def test_a_job_nobody_has_looked_at_is_queued() -> None:
    request = JobRequested(job_id="job_1", user_id="alice", file_ids=(7, 7, 9), created_at=NOON, priority=8)
    assert queued_document(request) == JobDocument(
        job_id="job_1",
        user_id="alice",
        status=JobStatus.QUEUED,
        sequence=1,
        progress=Progress(current=0, total=3, percentage=0),
        files=tuple(FileState(file_id=file_id, status=FileStatus.QUEUED) for file_id in (7, 7, 9)),
        created_at=NOON,
        updated_at=NOON,
        priority=8,
        filename="download_job_1.zip",
    )


def test_a_requested_name_is_kept() -> None:
    request = JobRequested(job_id="job_1", user_id="a", file_ids=(1,), created_at=NOON, filename="My files.zip")
    assert queued_document(request).filename == "My files.zip"
    assert default_filename("job_2") == "download_job_2.zip"


def document(**fields: object) -> JobDocument:
    queued = queued_document(JobRequested(job_id="job_1", user_id="alice", file_ids=(1, 2), created_at=NOON))
    return msgspec.structs.replace(queued, **fields)


def test_the_hash_has_the_fields_of_the_requirement() -> None:
    held = document(
        status=JobStatus.COMPLETED,
        sequence=5,
        progress=Progress(current=2, total=2, percentage=100),
        completed_at=NOON,
        error=Failure(code=ErrorCode.FILE_NOT_FOUND, message="gone"),
        archive=ArchiveLocation(bucket="b", key="k/ä.zip"),
    )
    fields = _hash_fields(held)
    assert decode(bytes(fields.pop("document")), JobDocument) == held  # type: ignore[arg-type]
    assert fields == {
        "status": "completed",
        "progress_current": 2,
        "progress_total": 2,
        "created_at": "2026-11-24T12:00:00+00:00",
        "updated_at": "2026-11-24T12:00:00+00:00",
        "completed_at": "2026-11-24T12:00:00+00:00",
        "error": "gone",
        "file_ids": b"[1,2]",
        "download_url": "s3://b/k/ä.zip",
        "user_id": "alice",
        "sequence": 5,
    }


def test_what_a_job_does_not_have_is_an_empty_string_in_the_hash() -> None:
    fields = _hash_fields(document())
    assert {name: fields[name] for name in ("completed_at", "error", "download_url")} == {
        "completed_at": "",
        "error": "",
        "download_url": "",
    }


def test_our_migrations_are_numbered_from_one() -> None:
    assert [migration.version for migration in migrations()] == list(range(1, len(migrations()) + 1))


def test_a_gap_in_the_numbers_is_an_error(tmp_path: Path) -> None:

    for name in ("0001_a.sql", "0003_b.sql"):
        (tmp_path / name).write_text("SELECT 1")
    with pytest.raises(MigrationError, match="0003_b"):
        migrations(tmp_path)
