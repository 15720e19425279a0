"""What lists may be asked for, and what a conditional request means."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haulyard_chassis.problems import InvalidRequestError
from haulyard_contracts import JobDocument, JobStatus, Progress
from haulyard_gateway.conditions import MAX_SEQUENCE, Known, etag, is_known, parse_etags, parse_known, should_wait
from haulyard_gateway.estimates import bytes_per_second, expected_completion
from haulyard_gateway.queries import (
    DEFAULT_LIMIT,
    file_cursor,
    job_cursor,
    link_to_next,
    parse_files_wanted,
    parse_jobs_wanted,
)

JOB = "job_01KC8ZB0J0W8G3R5Q2T7V9X4YZ"
EARLY, LATE = datetime(1971, 1, 1), datetime(3000, 1, 1)  # noqa: DTZ001 - the zone comes with the strategy
CREATED = datetime(2025, 12, 12, 10, 0, 0, 123456, tzinfo=UTC)


def job(**changes: Any) -> JobDocument:
    values: dict[str, Any] = {
        "job_id": JOB,
        "user_id": "alice",
        "status": JobStatus.PROCESSING,
        "sequence": 7,
        "progress": Progress(current=1, total=4, percentage=25),
        "files": (),
        "created_at": CREATED,
        "updated_at": CREATED,
    }
    return JobDocument(**values | changes)


def parameter_of(error: InvalidRequestError) -> str | None:
    return error.errors[0].parameter


def test_a_cursor_leads_behind_the_last_job() -> None:
    assert parse_jobs_wanted({"cursor": job_cursor(job())}).before == (CREATED, JOB)
    assert parse_files_wanted({"cursor": file_cursor(70000)}).before == 70000


@given(st.datetimes(timezones=st.just(UTC), min_value=EARLY, max_value=LATE))
def test_a_cursor_is_exact(created_at: datetime) -> None:
    assert parse_jobs_wanted({"cursor": job_cursor(job(created_at=created_at))}).before == (created_at, JOB)


def wrapped(place: str) -> str:
    return urlsafe_b64encode(place.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "!!!!",
        "a" * 101,
        wrapped(JOB),
        wrapped(f"-1 {JOB}"),
        wrapped(f"99999999999999999 {JOB.lower()}"),
        wrapped(f"99999999999999999999 {JOB}"),
        wrapped("1765533600000000 ' OR 1=1 --"),
        wrapped("9" * 16),
        wrapped("70000\n"),
        wrapped("\uff10\uff17"),
        wrapped(""),
        job_cursor(job())[:-3],
    ],
)
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_jobs_wanted({"cursor": cursor})
    assert parameter_of(caught.value) == "cursor"
    with pytest.raises(InvalidRequestError):
        parse_files_wanted({"cursor": cursor})


@given(st.text(max_size=120) | st.binary(max_size=60).map(lambda data: urlsafe_b64encode(data).decode().rstrip("=")))
def test_any_text_is_a_cursor_or_a_fault(cursor: str) -> None:
    for parse in (parse_jobs_wanted, parse_files_wanted):
        with suppress(InvalidRequestError):
            assert parse({"cursor": cursor}).before is not None
            assert urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"limit": "1e2"}, "limit"),
        ({"limit": "+5"}, "limit"),
        ({"limit": "\u0665"}, "limit"),
        ({"limit": "9" * 5000}, "limit"),
        ({"status": "done"}, "status"),
        ({"status": ""}, "status"),
        ({"created_after": "yesterday"}, "created_after"),
        ({"created_after": "2025-12-12"}, "created_after"),
        ({"created_after": "2025-12-12T10:00:00"}, "created_after"),
        ({"created_before": "2025-13-12T10:00:00Z"}, "created_before"),
        ({"created_before": "0001-01-01T00:00:00+14:00"}, "created_before"),
    ],
)
def test_a_faulty_parameter_is_named(query: dict[str, str], parameter: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_jobs_wanted(query)
    assert parameter_of(caught.value) == parameter


def test_filters_are_read() -> None:
    wanted = parse_jobs_wanted(
        {
            "limit": "7",
            "status": "failed",
            "created_after": "2025-12-12T12:00:00+02:00",
            "created_before": "2026-01-01T00:00:00.5Z",
        }
    )
    assert (wanted.limit, wanted.status) == (7, JobStatus.FAILED)
    assert wanted.created_after == datetime(2025, 12, 12, 10, tzinfo=UTC)
    assert wanted.created_before == datetime(2026, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)
    assert parse_jobs_wanted({}).limit == DEFAULT_LIMIT
    files = parse_files_wanted({"name": "a b", "prefix": "x/"})
    assert (files.name, files.prefix) == ("a b", "x/")
    for bad in ({"name": ""}, {"prefix": "x" * 201}, {"name": "a\x00"}):
        with pytest.raises(InvalidRequestError):
            parse_files_wanted(bad)


def test_the_link_to_the_next_page_keeps_the_filters() -> None:
    assert link_to_next("https://a/v1/jobs", {"status": "failed", "cursor": "old"}, "new&") == {
        "Link": '<https://a/v1/jobs?status=failed&cursor=new%26>; rel="next"'
    }
    assert link_to_next("https://a/v1/jobs", {}, None) == {}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, (frozenset(), False)),
        ("*", (frozenset(), True)),
        ('W/"7"', (frozenset({7}), False)),
        ('"7"', (frozenset({7}), False)),
        ('W/"7" , "8","other"', (frozenset({7, 8}), False)),
        ('"9999999999999999"', (frozenset({MAX_SEQUENCE}), False)),
        ('"99999999999999999999"', (frozenset(), False)),
    ],
)
def test_etags_are_read(header: str | None, expected: Any) -> None:
    assert parse_etags(header) == expected


@pytest.mark.parametrize("header", ["", "7", '"7', 'W"7"', '"7";"8"', '"7",', '"' + "7" * 1000 + '"', '"7"\n'])
def test_malformed_etags_are_refused(header: str) -> None:
    with pytest.raises(InvalidRequestError):
        parse_etags(header)


@given(st.text(alphabet='W/"7*, x', max_size=200))
def test_any_text_is_etags_or_a_fault(header: str) -> None:
    with suppress(InvalidRequestError):
        parse_etags(header * 4)


@pytest.mark.parametrize(
    ("query", "header", "changes", "waits", "knows"),
    [
        ({}, None, {}, False, False),
        ({}, 'W/"7"', {}, False, True),
        ({}, 'W/"6"', {}, False, False),
        ({"wait": "25"}, None, {}, True, False),
        ({"wait": "25"}, 'W/"7"', {}, True, True),
        ({"wait": "25"}, 'W/"6"', {}, False, False),
        ({"wait": "25"}, 'W/"9"', {}, True, False),
        ({"wait": "25"}, "*", {}, True, True),
        ({"wait": "25", "since": "7"}, None, {}, True, False),
        ({"wait": "25", "since": "6"}, None, {}, False, False),
        ({"wait": "25", "since": "0"}, None, {}, False, False),
        ({"wait": "25"}, 'W/"7"', {"status": JobStatus.COMPLETED}, False, True),
        ({"wait": "0"}, None, {}, False, False),
    ],
)
def test_who_waits_and_who_knows(
    query: dict[str, str],
    header: str | None,
    changes: dict[str, Any],
    waits: bool,  # noqa: FBT001
    knows: bool,  # noqa: FBT001
) -> None:
    known, now = parse_known(query, header), job(**changes)
    assert (should_wait(now, known), is_known(now, known)) == (waits, knows)


@pytest.mark.parametrize(
    "query", [{"wait": "26"}, {"wait": "-1"}, {"wait": "1.5"}, {"since": "x"}, {"since": "9" * 17}]
)
def test_faulty_waits_are_refused(query: dict[str, str]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_known(query, None)
    assert parameter_of(caught.value) in query


def test_the_etag_is_the_sequence() -> None:
    assert etag(job()) == 'W/"7"'
    assert is_known(job(), Known(etags=frozenset({7})))


def done(current: int, total: int, seconds: float, **changes: Any) -> JobDocument:
    progress = Progress(current=0, total=1, percentage=0, bytes_current=current, bytes_total=total)
    return job(progress=progress, updated_at=CREATED + timedelta(seconds=seconds), **changes)


def test_the_estimate_goes_by_the_bytes() -> None:
    half = done(500, 1000, 10)
    assert bytes_per_second(half) == 50
    assert expected_completion(half) == half.updated_at + timedelta(seconds=10)
    assert expected_completion(done(1000, 1000, 10)) == CREATED + timedelta(seconds=10)


def test_without_knowledge_there_is_no_estimate() -> None:
    assert expected_completion(done(0, 1000, 600)) is None
    assert expected_completion(done(1, 10**15, 10)) is None
    assert expected_completion(done(500, 1000, 10, status=JobStatus.FAILED)) is None
    assert expected_completion(job()) == CREATED + timedelta(seconds=7)
    assert bytes_per_second(job()) is None


@given(st.integers(0, 2**60), st.integers(0, 2**60), st.floats(0, 1e9))
def test_any_progress_has_an_estimate_or_none(current: int, total: int, seconds: float) -> None:
    found = expected_completion(done(current, total, seconds))
    assert found is None or found >= CREATED
