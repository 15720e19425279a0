"""What becomes of a delivery after an attempt."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haulyard_notifier.webhooks.policy import (
    HOST_PATIENCE,
    LONGEST_WAIT,
    SCHEDULE,
    Dead,
    Delivered,
    Retry,
    decide,
    host_pause,
    is_hosts_fault,
    parse_retry_after,
)

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
TRIES = range(1, len(SCHEDULE) + 2)


@pytest.mark.parametrize("status", [200, 202, 204, 299])
@pytest.mark.parametrize("attempts", TRIES)
def test_any_2xx_is_delivered(attempts: int, status: int) -> None:
    assert decide(attempts, status, 0.5) == Delivered()


@pytest.mark.parametrize("attempts", TRIES)
def test_410_is_dead(attempts: int) -> None:
    assert decide(attempts, 410, 0.5, retry_after=60) == Dead()


@pytest.mark.parametrize("status", [None, 301, 302, 308, 400, 401, 404, 429, 500, 503])
@pytest.mark.parametrize(("attempts", "wait"), list(enumerate(SCHEDULE, start=1)))
def test_all_else_is_tried_again_by_the_schedule(status: int | None, attempts: int, wait: float) -> None:
    assert decide(attempts, status, 0.5) == Retry(wait)


def test_the_schedule_is_that_of_the_documentation() -> None:
    assert SCHEDULE == (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)


def test_after_the_schedule_it_is_dead() -> None:
    assert decide(len(SCHEDULE) + 1, 500, 0.5) == Dead()


@given(st.integers(1, len(SCHEDULE)), st.floats(0, 1))
def test_jitter_is_at_most_a_tenth(attempts: int, random: float) -> None:
    decision = decide(attempts, 500, random)
    assert isinstance(decision, Retry)
    assert decision.delay == pytest.approx(SCHEDULE[attempts - 1], rel=0.1001)


@pytest.mark.parametrize(("asked", "delay"), [(None, 5.0), (1.0, 5.0), (120.0, 120.0), (1e9, LONGEST_WAIT)])
def test_a_receiver_may_ask_for_more_time_within_bounds(asked: float | None, delay: float) -> None:
    assert decide(1, 503, 0.5, retry_after=asked) == Retry(delay)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("120", 120.0),
        (" 5 ", 5.0),
        ("soon", None),
        ("-5", None),
        ("Thu, 01 Jan 2026 12:01:00 GMT", 60.0),
        ("Thu, 01 Jan 2026 12:01:00 -0000", 60.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("9" * 400, 999_999_999.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header, NOW) == seconds


@pytest.mark.parametrize(
    ("status", "fault"), [(None, True), (500, True), (503, True), (429, True), (200, False), (302, False), (404, False)]
)
def test_a_host_is_to_blame_for_silence_and_for_its_own_errors(status: int | None, *, fault: bool) -> None:
    assert is_hosts_fault(status) is fault


def test_a_host_is_left_alone_when_it_has_failed_often_and_longer_each_time() -> None:
    pauses = [host_pause(failures, 0.5) for failures in range(1, HOST_PATIENCE + 9)]
    assert pauses[: HOST_PATIENCE - 1] == [0.0] * (HOST_PATIENCE - 1)
    assert pauses[HOST_PATIENCE - 1 :][:6] == [60, 120, 240, 480, 960, 1800]
    assert pauses[-1] == 1800


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_a_host_is_never_left_alone_for_long(failures: int, random: float) -> None:
    assert 0 <= host_pause(failures, random) <= 1.1 * 1800
