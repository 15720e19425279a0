import pytest
from hypothesis import given
from hypothesis import strategies as st

from haulyard_contracts import RETRYABLE, ErrorCode, Failure
from haulyard_orchestrator.retry import DropFile, FailJob, ForgetChecksum, PlanAnew, RetryPart, RetryPolicy

POLICY = RetryPolicy(attempts=3, first_delay=2.0, generations=10)


def decide(code: ErrorCode, *, attempt: int = 1, generation: int = 1, names_file: bool = False) -> object:
    failure = Failure(code=code, message="")
    return POLICY.decide(failure, attempt=attempt, generation=generation, names_file=names_file, jitter=0.5)


@pytest.mark.parametrize("code", list(RETRYABLE))
def test_what_may_go_away_is_tried_three_times_and_waits_longer_each_time(code: ErrorCode) -> None:
    assert decide(code, attempt=1) == RetryPart(2.0)
    assert decide(code, attempt=2) == RetryPart(4.0)
    assert decide(code, attempt=3) == FailJob()


@pytest.mark.parametrize("code", [ErrorCode.FILE_NOT_FOUND, ErrorCode.SOURCE_CHANGED, ErrorCode.PERMISSION_DENIED])
def test_a_source_that_is_not_there_is_never_tried_again_and_drops_its_file(code: ErrorCode) -> None:
    assert decide(code, names_file=True) == DropFile()


def test_a_source_that_stays_unreadable_drops_its_file_and_not_the_job() -> None:
    assert decide(ErrorCode.SOURCE_UNAVAILABLE, attempt=3, names_file=True) == DropFile()


def test_a_wrong_checksum_is_forgotten() -> None:
    assert decide(ErrorCode.CHECKSUM_MISMATCH, names_file=True) == ForgetChecksum()


def test_an_upload_that_is_gone_is_started_again() -> None:
    assert decide(ErrorCode.UPLOAD_GONE) == PlanAnew()


def test_a_store_that_refuses_us_fails_the_job() -> None:
    assert decide(ErrorCode.PERMISSION_DENIED) == FailJob()


@given(st.sampled_from(list(ErrorCode)), st.booleans())
def test_a_job_cannot_start_over_for_ever(code: ErrorCode, names_file: bool) -> None:  # noqa: FBT001
    assert decide(code, attempt=3, generation=10, names_file=names_file) == FailJob()


@given(st.integers(1, 8), st.floats(0, 1))
def test_jitter_moves_the_delay_by_at_most_a_quarter(attempt: int, jitter: float) -> None:
    middle = 2.0 * 2 ** (attempt - 1)
    assert 0.75 * middle <= POLICY.delay(attempt, jitter) <= 1.25 * middle
