"""A document or an event becomes one of the three messages of the original requirement, to the letter."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from haulyard_contracts import (
    ArchiveLocation,
    ErrorCode,
    EventType,
    Failure,
    FileState,
    FileStatus,
    JobDocument,
    JobEvent,
    JobStatus,
    Progress,
    encode,
)
from haulyard_notifier.live.messages import message_of, sse_event
from haulyard_notifier.live.state import state_of_document, state_of_event

AT = datetime(2025, 12, 12, 10, 1, tzinfo=UTC)
PROGRESS = Progress(current=1, total=3, percentage=33, bytes_current=10, bytes_total=30)


def document(status: JobStatus, **more: Any) -> JobDocument:
    return JobDocument(
        job_id="job_1",
        user_id="u",
        status=status,
        sequence=4,
        progress=PROGRESS,
        files=(
            FileState(file_id=70000, status=FileStatus.COMPLETED),
            FileState(file_id=70001, status=FileStatus.FAILED),
        ),
        created_at=AT,
        updated_at=AT,
        filename="träume.zip",
        **more,
    )


def as_json(message: msgspec.Struct) -> Any:
    return msgspec.json.decode(encode(message))


def test_a_running_job_is_a_status_update() -> None:
    message = message_of(state_of_document(document(JobStatus.PROCESSING)), download_url=None)
    assert as_json(message) == {
        "type": "status_update",
        "job_id": "job_1",
        "status": "processing",
        "progress": {"current": 1, "total": 3, "percentage": 33, "bytes_current": 10, "bytes_total": 30},
        "timestamp": "2025-12-12T10:01:00Z",
        "sequence": 4,
    }


def test_a_completed_job_comes_with_its_link_and_what_is_missing() -> None:
    done = document(JobStatus.COMPLETED, size_bytes=99, archive=ArchiveLocation(bucket="b", key="k"))
    message = message_of(state_of_document(done), download_url="https://store/link")
    assert as_json(message) == {
        "type": "completed",
        "job_id": "job_1",
        "download_url": "https://store/link",
        "timestamp": "2025-12-12T10:01:00Z",
        "sequence": 4,
        "filename": "träume.zip",
        "size_bytes": 99,
        "failed_files": [70001],
    }


def test_a_failed_job_is_an_error() -> None:
    failure = Failure(code=ErrorCode.PROCESSING_FAILED, message="File 70001 not found")
    message = message_of(state_of_document(document(JobStatus.FAILED, error=failure)), download_url=None)
    assert as_json(message) == {
        "type": "error",
        "job_id": "job_1",
        "error": {"code": "PROCESSING_FAILED", "message": "File 70001 not found"},
        "timestamp": "2025-12-12T10:01:00Z",
        "sequence": 4,
    }


@pytest.mark.parametrize("status", [JobStatus.QUEUED, JobStatus.CANCELLED, JobStatus.EXPIRED])
def test_other_states_are_status_updates(status: JobStatus) -> None:
    message = as_json(message_of(state_of_document(document(status)), download_url=None))
    assert (message["type"], message["status"]) == ("status_update", status.value)


def test_an_event_tells_the_same_as_the_document_after_it() -> None:
    event = JobEvent(
        job_id="job_1",
        sequence=4,
        type=EventType.PROGRESS,
        status=JobStatus.PROCESSING,
        progress=PROGRESS,
        timestamp=AT,
        failed_files=(70001,),
    )
    by_event = message_of(state_of_event(event), download_url=None)
    assert by_event == message_of(state_of_document(document(JobStatus.PROCESSING)), download_url=None)


def test_an_sse_event_has_id_name_and_one_line_of_data() -> None:
    message = message_of(state_of_document(document(JobStatus.QUEUED)), download_url=None)
    lines = sse_event(message, encode(message).decode()).split(b"\n")
    assert lines[:2] == [b"id: 4", b"event: status_update"]
    assert lines[2] == b"data: " + encode(message)
    assert lines[3:] == [b"", b""]
