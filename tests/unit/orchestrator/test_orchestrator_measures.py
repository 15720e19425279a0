"""What is counted when a job is over, and what kind of file a name says it is."""

from datetime import UTC, datetime, timedelta

import pytest

from haulyard_chassis.metrics import REGISTRY
from haulyard_contracts import ErrorCode, Failure, FileState, FileStatus, JobDocument, JobStatus, Progress
from haulyard_orchestrator import measures
from haulyard_orchestrator.job_records import Took

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NEVER = Took(plan=None, prepare=None, build=None, finish=None)


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"haulyard_{name}", labels) or 0.0


def job(status: JobStatus, *, error: Failure | None = None, size: int | None = None) -> JobDocument:
    files = (
        FileState(file_id=1, status=FileStatus.COMPLETED, name="a/Photo.JPG"),
        FileState(file_id=2, status=FileStatus.COMPLETED, name="b.jpeg"),
        FileState(file_id=3, status=FileStatus.FAILED, name=None),
    )
    return JobDocument(
        job_id="job_1",
        user_id="ann",
        status=status,
        sequence=4,
        progress=Progress(current=3, total=3, percentage=100),
        files=files,
        created_at=NOW,
        updated_at=NOW + timedelta(seconds=7),
        error=error,
        size_bytes=size,
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("photo.jpg", "image"),
        ("deep/er/CLIP.MP4", "video"),
        ("report.final.pdf", "document"),
        ("table.csv", "data"),
        ("song.flac", "audio"),
        ("backup.tar.gz", "archive"),
        ("strange.xyz", "other"),
        ("Makefile", "other"),
        ("", "other"),
        (None, "unknown"),
    ],
)
def test_a_files_type_is_one_of_a_few(name: str | None, expected: str) -> None:
    assert measures.file_type(name) == expected


def test_a_completed_job_is_counted_with_its_time_its_size_and_its_files() -> None:
    def counted() -> list[float]:
        return [
            sample("jobs_total", status="completed", code=""),
            sample("job_duration_seconds_count", status="completed"),
            sample("job_duration_seconds_sum", status="completed") / 7,
            sample("archive_size_bytes_count"),
            sample("archive_size_bytes_sum") / 5000,
            sample("files_total", type="image", outcome="completed") / 2,
            sample("files_total", type="unknown", outcome="failed"),
        ]

    before = counted()
    measures.ended(job(JobStatus.COMPLETED, size=5000), NEVER)
    assert [after - earlier for earlier, after in zip(before, counted(), strict=True)] == pytest.approx([1.0] * 7)


def test_a_failed_job_has_no_size() -> None:
    failed, sizes = sample("jobs_total", status="failed", code="INTERNAL"), sample("archive_size_bytes_count")
    measures.ended(job(JobStatus.FAILED, error=Failure(code=ErrorCode.INTERNAL, message="no")), NEVER)
    assert sample("jobs_total", status="failed", code="INTERNAL") == failed + 1
    assert sample("archive_size_bytes_count") == sizes


def test_an_archive_that_expires_is_not_counted_as_a_job_once_more() -> None:
    before = sample("files_total", type="image", outcome="completed")
    measures.ended(job(JobStatus.EXPIRED), NEVER)
    assert sample("files_total", type="image", outcome="completed") == before
    assert sample("job_duration_seconds_count", status="expired") == 0
