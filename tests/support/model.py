"""What may become of jobs, as a small model without servers: what a test has done says what it may see afterwards.

The model does not compute what the orchestrator does. It knows what must never happen, whatever the order of
messages, and for each file and job whether anything has happened that could be a reason to leave it out, or to fail.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from hashlib import sha256

from haulyard_contracts import RETRYABLE, TERMINAL, ErrorCode, FileState, FileStatus, JobRequested, JobStatus, OnMissing

ATTEMPTS = 3
"""Tries of a task."""


class Cause(Enum):
    """What the test has done to a job."""

    WORK = auto()
    """It was asked for, driven, or a result came: it may go on, or be over."""
    TELL = auto()
    CANCEL = auto()
    DELETE = auto()
    EXPIRE = auto()
    GIVE_UP = auto()
    """It took too long, or its request could not be handled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A job as it is recorded."""

    status: JobStatus
    sequence: int
    told_sequence: int
    generation: int
    follows: str | None
    digest: str | None
    bytes_done: int
    bytes_total: int
    total_files: int
    completed_files: int
    failed_files: int
    sent: int
    """Its tasks that are under way and were not released by others."""

    @property
    def settled(self) -> int:
        """Files that are finished."""
        return self.completed_files + self.failed_files


@dataclass
class JobModel:
    """One job, and what has happened that it may be excused with."""

    request: JobRequested
    seen: Seen | None = None
    is_deleted: bool = False
    excused: set[int] = field(default_factory=set)
    """Files that may be left out: they were missing, replaced or reported since the job was asked for."""
    may_fail: bool = False
    """Something happened that is no file's fault."""
    faults: int = 0
    """Reports of errors that are nobody's fault and may go away."""
    versions: dict[int, set[bytes]] = field(default_factory=dict)
    """For each file, the digests of the contents that it had since the job was asked for."""

    @property
    def is_over(self) -> bool:
        """Whether nothing can happen to it any more but that it expires, or is deleted."""
        return self.is_deleted or (self.seen is not None and self.seen.status in TERMINAL)

    def report(self, code: ErrorCode, file_id: int | None) -> None:
        """A task of it failed, because of a file or not."""
        if file_id is not None:
            self.excused.add(file_id)
        elif code in RETRYABLE:
            self.faults += 1
            self.may_fail = self.may_fail or self.faults >= ATTEMPTS
        elif code is not ErrorCode.UPLOAD_GONE:  # then it is planned anew
            self.may_fail = True

    @property
    def has_reason_to_fail(self) -> bool:
        """Whether it may be over without an archive."""
        files = set(self.request.file_ids)
        return (
            self.may_fail
            or self.excused >= files
            or (self.request.on_missing is OnMissing.FAIL and self.excused != set())
        )


def digest(content: bytes) -> bytes:
    """Return what stands for a file's content."""
    return sha256(content).digest()


def allowed(before: JobStatus, cause: Cause | None) -> frozenset[JobStatus]:
    """Return the states in which a job may be after something was done to it; None: nothing was."""
    if before in TERMINAL:
        return frozenset({JobStatus.EXPIRED if cause is Cause.EXPIRE else before})
    match cause:
        case Cause.CANCEL:
            return frozenset({JobStatus.CANCELLED})
        case Cause.GIVE_UP:
            return frozenset({JobStatus.FAILED})
        case Cause.WORK:
            return frozenset({JobStatus.PROCESSING, JobStatus.COMPLETED, JobStatus.FAILED})
    return frozenset({before})


def check_change(job: JobModel, after: Seen, causes: Collection[Cause], *, window: int) -> None:
    """Check that what is seen of a job may follow on what was seen before.

    Args:
        job: the job, with what was seen before.
        after: what is seen now.
        causes: what was done to it meanwhile, in any order; nothing if it is empty.
        window: its tasks that may be under way.
    """
    before, job_id = job.seen, job.request.job_id
    assert after.total_files == len(job.request.file_ids), job_id
    assert 0 <= after.settled <= after.total_files, f"{job_id}: {after}"
    assert 0 <= after.bytes_done <= after.bytes_total, f"{job_id}: {after}"
    assert after.sent <= window, f"{job_id} has {after.sent} tasks under way; {window} may be"
    if before is None:
        assert after.status is not JobStatus.QUEUED, f"{job_id} is recorded and not planned"
    elif not causes:
        assert after == before, f"{job_id} changed, and nothing was done to it: {before} to {after}"
    else:
        may = frozenset[JobStatus]().union(*(allowed(before.status, cause) for cause in causes))
        assert after.status in may, f"{job_id} went from {before.status} to {after.status}; may: {sorted(may)}"
        assert after.sequence >= before.sequence, job_id
        assert after.generation >= before.generation, job_id
        if after.status is not before.status:
            assert after.sequence > before.sequence, job_id
        if _is_same_plan(before, after):
            assert after.bytes_done >= before.bytes_done, f"{job_id} went back: {before} to {after}"
            assert after.settled >= before.settled, f"{job_id} went back: {before} to {after}"
    if after.status in TERMINAL:
        assert after.told_sequence == after.sequence, f"nobody was told that {job_id} is {after.status}"
        assert after.sent == 0 or after.status in TERMINAL
    if after.status is JobStatus.FAILED and not (before and before.status is JobStatus.FAILED):
        assert job.has_reason_to_fail, f"{job_id} failed without a reason"
    if after.status is JobStatus.COMPLETED:
        assert after.bytes_done == after.bytes_total, f"{job_id}: {after}"
        assert after.settled == after.total_files, f"{job_id}: {after}"
        assert after.completed_files > 0, f"{job_id} has an archive of nothing"


def _is_same_plan(before: Seen, after: Seen) -> bool:
    """Whether progress is counted on: a plan of its own, and the same one."""
    ours = before.follows is None and after.follows is None
    return ours and before.generation == after.generation and before.digest == after.digest


def check_archive(job: JobModel, files: Collection[FileState], members: Mapping[str, bytes]) -> None:
    """Check what a completed job says of its files, and that its archive holds those that it says.

    Args:
        job: the job.
        files: as the job has them.
        members: digest of the content of each member of the archive, by its name.
    """
    job_id = job.request.job_id
    assert [file.file_id for file in files] == list(job.request.file_ids), job_id
    lost = {file.file_id for file in files if file.status is FileStatus.FAILED}
    assert lost <= job.excused, f"{job_id} left out {sorted(lost - job.excused)}, and nothing was wrong with them"
    assert not lost or job.request.on_missing is OnMissing.SKIP, job_id
    expected = {file.name for file in files if file.status is FileStatus.COMPLETED}
    assert len(expected) == len(files) - len(lost), job_id
    assert set(members) - {"MISSING-FILES.txt"} == expected, job_id
    assert ("MISSING-FILES.txt" in members) == bool(lost), job_id
    for file in files:
        if file.status is FileStatus.COMPLETED:
            known = job.versions[file.file_id]
            assert members[file.name or ""] in known, f"{job_id}: {file.name} is what its source never was meanwhile"
