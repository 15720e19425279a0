from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haulyard.retrying import Fault, Outcome, Refused, RetryPolicy, parse_retry_after

POLICY = RetryPolicy()
NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)

outcomes = st.one_of(
    st.sampled_from(Fault),
    st.builds(
        Refused,
        status=st.integers(400, 599),
        retry_after=st.none() | st.floats(0, 1e6),
    ),
)


@pytest.mark.parametrize(
    ("outcome", "repeatable", "again"),
    [
        (Refused(status=500), True, True),
        (Refused(status=502), True, True),
        (Refused(status=503), True, True),
        (Refused(status=501), True, False),
        (Refused(status=500), False, False),
        (Refused(status=503), False, True),
        (Refused(status=400), True, False),
        (Refused(status=404), True, False),
        (Refused(status=409, retry_after=2), True, False),
        (Refused(status=429), True, False),
        (Refused(status=429, retry_after=2), True, True),
        (Refused(status=429, retry_after=2), False, True),
        (Refused(status=429, retry_after=61), True, False),
        (Fault.CUT, True, True),
        (Fault.CUT, False, False),
        (Fault.NOT_SENT, False, True),
    ],
)
def test_only_what_trying_again_can_help_is_tried_again(outcome: Outcome, repeatable: bool, again: bool) -> None:  # noqa: FBT001
    assert (POLICY.delay(1, outcome, repeatable=repeatable, chance=0.5) is not None) == again


@given(outcome=outcomes, attempt=st.integers(1, 10**6), chance=st.floats(0, 1), repeatable=st.booleans())
def test_there_are_never_more_tries_than_allowed_and_no_pause_is_out_of_bounds(
    outcome: Outcome,
    attempt: int,
    chance: float,
    repeatable: bool,  # noqa: FBT001
) -> None:
    pause = POLICY.delay(attempt, outcome, repeatable=repeatable, chance=chance)
    if attempt >= POLICY.attempts:
        assert pause is None
    if pause is not None:
        asked = outcome.retry_after if isinstance(outcome, Refused) and outcome.retry_after else 0.0
        assert asked <= pause <= max(POLICY.max_delay, POLICY.patience * 1.1)


def test_pauses_double_up_to_ten_seconds_as_in_the_original() -> None:
    assert [POLICY.backoff(n, chance=1.0) for n in range(1, 7)] == [1, 2, 4, 8, 10, 10]
    assert [POLICY.backoff(n, chance=0.0) for n in range(1, 7)] == [0.5, 1, 2, 4, 5, 5]


def test_what_the_server_asks_for_is_waited_for() -> None:
    assert POLICY.delay(1, Refused(status=503, retry_after=7), repeatable=True, chance=0.0) == 7


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 0 ", 0.0),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("٣", None),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0.0),
        ("9" * 5000, 9999999999.0),
    ],
)
def test_retry_after_is_a_number_or_a_date(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header, now=NOW) == seconds


@given(st.text())
def test_no_retry_after_breaks_the_parser(text: str) -> None:
    found = parse_retry_after(text, now=NOW)
    assert found is None or found >= 0
