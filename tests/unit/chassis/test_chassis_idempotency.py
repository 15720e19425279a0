"""Keys, fingerprints and the ids that are made from them."""

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haulyard_chassis.idempotency import Fresh, Idempotency, InvalidKeyError, derived_job_id, fingerprint, read_key
from haulyard_chassis.job_state import connect_cache

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ('"8e03978e-40d5-43dd-bc93-6894a57f9324"', "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        (' "a b" ', "a b"),
        (r'"a\"b\\c"', r'a"b\c'),
        ("a" * 255, "a" * 255),
    ],
)
def test_a_key_is_a_string_with_or_without_quotes(header: str, key: str) -> None:
    assert read_key(header) == key


@pytest.mark.parametrize(
    "header", ["", " ", '""', '"a', 'a"', '"a"b"', r'"a\b"', "a b", "a,b", "a;b", "é", '"é"', "a\nb", "a" * 256, "\x00"]
)
def test_what_is_no_key_is_refused(header: str) -> None:
    with pytest.raises(InvalidKeyError, match="1 to 255"):
        read_key(header)


def test_the_order_of_members_makes_no_difference() -> None:
    one: dict[str, Any] = {"file_ids": [1, 2], "priority": 5, "x": {"a": 1, "b": 2}}
    other: dict[str, Any] = {"x": {"b": 2, "a": 1}, "priority": 5, "file_ids": [1, 2]}
    assert fingerprint("initiate", one) == fingerprint("initiate", other)


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("initiate", {"file_ids": [2, 1]}),
        ("initiate", {"file_ids": [1, 2], "priority": 5}),
        ("initiate", {"file_ids": ["1", 2]}),
        ("check", {"file_ids": [1, 2]}),
        ("initiat", {"e": 1}),
    ],
)
def test_whatever_else_differs_does(operation: str, body: dict[str, Any]) -> None:
    assert fingerprint(operation, body) != fingerprint("initiate", {"file_ids": [1, 2]})


def test_the_same_request_is_the_same_job_all_day() -> None:
    made = derived_job_id("alice", "key", "f", NOON)
    assert re.fullmatch(r"job_[0-7][0-9A-HJKMNP-TV-Z]{25}", made)
    assert derived_job_id("alice", "key", "f", NOON + timedelta(hours=11, minutes=59)) == made
    assert derived_job_id("alice", "key", "f", NOON.astimezone(timezone(timedelta(hours=13)))) == made
    assert derived_job_id("alice", "key", "f", NOON + timedelta(hours=12)) != made


@given(st.tuples(st.text(), st.text(), st.text()), st.tuples(st.text(), st.text(), st.text()))
def test_different_requests_are_different_jobs(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    """Even when one's user ends with what another's key begins with."""
    assert (derived_job_id(*one, NOON) == derived_job_id(*other, NOON)) == (one == other)


async def test_without_redis_a_request_is_fresh_and_says_that_this_is_not_sure() -> None:
    client = connect_cache("redis://127.0.0.1:1/0")
    idempotency = Idempotency(client)
    assert await idempotency.begin("alice", "key", "f", "job_1") == Fresh(degraded=True)
    await idempotency.forget("alice", "key", "f", "job_1")
    await client.aclose()
