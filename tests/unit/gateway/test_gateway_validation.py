"""Every fault of a body is found, and each is told with its place."""

import json
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haulyard_chassis.egress import LOOPBACK
from haulyard_chassis.problems import FieldError, InvalidRequestError
from haulyard_contracts import Compression, OnMissing
from haulyard_gateway.faults import MAX_LISTED, pointer
from haulyard_gateway.reading import decode_object
from haulyard_gateway.validation import (
    MAX_FILE_ID,
    InitiateRequest,
    parse_check,
    parse_initiate,
    parse_start,
)


def initiate(body: dict[str, Any], *, max_files: int = 100, development: bool = False) -> InitiateRequest:
    return parse_initiate(body, max_files=max_files, networks=LOOPBACK if development else ())


def faults_of(body: dict[str, Any], parse: Any = initiate) -> list[tuple[str | None, str]]:
    with pytest.raises(InvalidRequestError) as caught:
        parse(body)
    return [(error.pointer, error.detail) for error in caught.value.errors]


def outcome(parse: Any, given: Any) -> tuple[FieldError, ...] | None:
    try:
        parse(given)
    except InvalidRequestError as error:
        return error.errors
    return None


def test_the_body_of_the_original_requirement_is_valid() -> None:
    assert initiate(
        {"file_ids": [70000, 70001, 70002], "webhook_url": "https://example.com/callback"}
    ) == InitiateRequest(
        file_ids=(70000, 70001, 70002), priority=5, filename=None, webhook_url="https://example.com/callback"
    )


@pytest.mark.parametrize(
    ("change", "place", "says"),
    [
        ({"file_ids": None}, "#/file_ids", "null; a list of 1 to 100"),
        ({"file_ids": "70000"}, "#/file_ids", '"70000"'),
        ({"file_ids": {"0": 1}}, "#/file_ids", "a list of 1 to 100"),
        ({"file_ids": []}, "#/file_ids", "empty"),
        ({"file_ids": list(range(1, 102))}, "#/file_ids", "101 ids, 100 are allowed"),
        ({"file_ids": [1, 2, 3, 0]}, "#/file_ids/3", "0 is no file id"),
        ({"file_ids": [1, -5]}, "#/file_ids/1", "-5"),
        ({"file_ids": [MAX_FILE_ID + 1]}, "#/file_ids/0", str(MAX_FILE_ID)),
        ({"file_ids": [10**40]}, "#/file_ids/0", "integer"),
        ({"file_ids": [1, True]}, "#/file_ids/1", "true"),
        ({"file_ids": [1.0]}, "#/file_ids/0", "1.0"),
        ({"file_ids": ["1"]}, "#/file_ids/0", '"1"'),
        ({"file_ids": [None]}, "#/file_ids/0", "null"),
        ({"file_ids": [[1]]}, "#/file_ids/0", "[1]"),
        ({"file_ids": [7, 8, 7]}, "#/file_ids/2", "also at position 0"),
        ({"priority": 0}, "#/priority", "1 to 10"),
        ({"priority": 11}, "#/priority", "11"),
        ({"priority": "5"}, "#/priority", '"5"'),
        ({"priority": True}, "#/priority", "true"),
        ({"priority": 5.0}, "#/priority", "5.0"),
        ({"filename": 5}, "#/filename", "string"),
        ({"filename": ""}, "#/filename", "visible"),
        ({"filename": " "}, "#/filename", "visible"),
        ({"filename": "a/b.zip"}, "#/filename", "separators"),
        ({"filename": "a\\b.zip"}, "#/filename", "separators"),
        ({"filename": "a\nb"}, "#/filename", "control"),
        ({"filename": "a\x00"}, "#/filename", "control"),
        ({"filename": "a\x7f"}, "#/filename", "control"),
        ({"filename": "fdp.\u202eexe"}, "#/filename", "direction"),
        ({"filename": "é" * 101}, "#/filename", "202 bytes"),
        ({"webhook_url": 1}, "#/webhook_url", "string"),
        ({"webhook_url": ""}, "#/webhook_url", "absolute URL"),
        ({"webhook_url": "http://example.com"}, "#/webhook_url", "https"),
        ({"webhook_url": "https://127.0.0.1/"}, "#/webhook_url", "not public"),
        ({"webhook_url": "https://[::1]/"}, "#/webhook_url", "not public"),
        ({"webhook_url": "https://169.254.169.254/latest"}, "#/webhook_url", "not public"),
        ({"webhook_url": "https://u:p@example.com"}, "#/webhook_url", "password"),
        ({"webhook_url": "ftp://example.com"}, "#/webhook_url", "https"),
        ({"priorty": 5}, "#/priorty", "did you mean priority?"),
        ({"a/b~c d": 1}, "#/a~1b~0c%20d", "There is no such field"),
        ({"x" * 5000: 1}, "#", "There is no such field"),
    ],
)
def test_a_fault_is_told_with_its_place(change: dict[str, Any], place: str, says: str) -> None:
    faults = faults_of({"file_ids": [1], **change})
    assert [pointer for pointer, _ in faults] == [place]
    assert says in faults[0][1]
    assert len(faults[0][1]) < 300


def test_a_missing_list_is_told() -> None:
    assert faults_of({})[0][0] == "#/file_ids"


def test_all_faults_are_told_at_once() -> None:
    faults = faults_of({"file_ids": [1, 1, "x"], "priority": 99, "filename": "/", "webhook_url": "x", "nonsense": 1})
    assert [place for place, _ in faults] == [
        "#/file_ids/1",
        "#/file_ids/2",
        "#/priority",
        "#/filename",
        "#/webhook_url",
        "#/nonsense",
    ]


def test_no_more_faults_are_listed_than_a_person_reads() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        initiate({"file_ids": [0] * 50})
    assert len(caught.value.errors) == MAX_LISTED
    assert "50 things are wrong" in caught.value.detail


def test_a_very_long_list_costs_no_more_than_the_longest_allowed() -> None:
    assert len(faults_of({"file_ids": ["x"] * 400_000})) == MAX_LISTED
    assert len(faults_of({f"field{number}": 1 for number in range(50_000)})) == MAX_LISTED


@pytest.mark.parametrize(
    ("given", "kept"), [("a", "a.zip"), ("a.zip", "a.zip"), ("A.ZIP", "A.ZIP"), ("año 2", "año 2.zip")]
)
def test_a_file_name_ends_with_zip(given: str, kept: str) -> None:
    assert initiate({"file_ids": [1], "filename": given}).filename == kept


def test_null_is_the_same_as_left_out() -> None:
    assert initiate({"file_ids": [1], "priority": None, "filename": None, "webhook_url": None}) == initiate(
        {"file_ids": [1]}
    )


def test_webhooks_on_this_machine_are_for_development() -> None:
    body = {"file_ids": [1], "webhook_url": "http://127.0.0.1:9/hook"}
    assert initiate(body, development=True).webhook_url == body["webhook_url"]


@pytest.mark.parametrize(
    ("change", "place", "says"),
    [
        ({"compression": "zip"}, "#/compression", '"zip" is none of "store", "deflate"'),
        ({"compression": 5}, "#/compression", "5 is none of"),
        ({"compression": ["store"]}, "#/compression", "is none of"),
        ({"on_missing": "ignore"}, "#/on_missing", '"skip", "fail"'),
        ({"on_missing": {}}, "#/on_missing", "is none of"),
    ],
)
def test_a_faulty_choice_is_told_with_what_there_is(change: dict[str, Any], place: str, says: str) -> None:
    [(found, detail)] = faults_of({"file_ids": [1]} | change)
    assert found == place
    assert says in detail


def test_how_an_archive_is_made_can_be_chosen() -> None:
    request = initiate({"file_ids": [1], "compression": "deflate", "on_missing": "fail"})
    assert (request.compression, request.on_missing) == (Compression.DEFLATE, OnMissing.FAIL)
    request = initiate({"file_ids": [1], "compression": None, "on_missing": None})
    assert (request.compression, request.on_missing) == (Compression.STORE, OnMissing.SKIP)


def test_start_takes_one_file_or_several() -> None:
    def parse(body: dict[str, Any]) -> InitiateRequest:
        return parse_start(body, max_files=100)

    assert parse({"file_id": 5}).file_ids == (5,)
    assert parse({"file_ids": [5, 6], "priority": 2}).priority == 2
    for body, place in (
        ({}, "#/file_ids"),
        ({"file_id": 0}, "#/file_id"),
        ({"file_id": True}, "#/file_id"),
        ({"file_id": 1, "file_ids": [1]}, "#/file_id"),
        ({"file_id": 1, "nope": 1}, "#/nope"),
    ):
        assert [found for found, _ in faults_of(body, parse)] == [place]


def test_check_takes_one_file() -> None:
    assert parse_check({"file_id": 5}) == 5
    for body, place in (({}, "#/file_id"), ({"file_id": "5"}, "#/file_id"), ({"file_id": 1, "x": 1}, "#/x")):
        assert [found for found, _ in faults_of(body, parse_check)] == [place]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"5",
        b"null",
        b'"x"',
        b"\xff",
        b'"\x80"',
        b'{"a": "\x80"}',
        b'{"a": "\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"a": ' + b"[" * 17 + b"]" * 17 + b"}",
        b"1e999",
    ],
)
def test_what_is_no_json_object_is_told(data: bytes) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decode_object(data)
    assert caught.value.errors[0].pointer == "#"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)
near_bodies = st.dictionaries(
    st.sampled_from(["file_ids", "priority", "filename", "webhook_url", "source", "name"]) | st.text(),
    json_values | st.lists(st.integers() | json_values),
)


def resolve(body: Any, place: str) -> Any:
    """Follow a JSON Pointer, as a client would."""
    found = body
    for step in [unquote(step).replace("~1", "/").replace("~0", "~") for step in place.split("/")[1:]]:
        found = found[int(step)] if isinstance(found, list) else found[step]
    return found


@given(near_bodies)
def test_any_object_makes_a_request_or_faults_whose_places_exist(body: dict[str, Any]) -> None:
    parsers: list[Any] = [initiate, lambda given: parse_start(given, max_files=100)]
    for parse in parsers:
        faults = outcome(parse, json.loads(json.dumps(body)))
        assert faults is None or 1 <= len(faults) <= MAX_LISTED
        for fault in faults or ():
            assert fault.pointer is not None
            if fault.pointer != "#/file_ids" or "file_ids" in body:
                resolve(body, fault.pointer)


@given(st.lists(st.integers(1, MAX_FILE_ID), min_size=1, max_size=100, unique=True), st.integers(1, 10))
def test_valid_ids_are_kept_in_their_order(file_ids: list[int], priority: int) -> None:
    request = initiate({"file_ids": file_ids, "priority": priority})
    assert (list(request.file_ids), request.priority) == (file_ids, priority)


@given(st.binary())
def test_any_bytes_are_an_object_or_a_fault(data: bytes) -> None:
    faults = outcome(decode_object, data)
    assert faults is None or (faults[0].pointer or "").startswith("#")


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b'{"a": 1, "a": 1}', "#/a"),
        (b'{"file_ids": [1], "file_ids": [2]}', "#/file_ids"),
        (b'{"a": {"b": [1, {"c": 1, "d": 2, "c": 3}]}}', "#/a/b/1/c"),
        (b'{"\\u0061": 1, "a": 2}', "#/a"),
        (b'{"a/b": {"~": 1, "~": 1}}', "#/a~1b/~0"),
    ],
)
def test_a_name_that_occurs_twice_is_told_with_its_place(data: bytes, place: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decode_object(data)
    assert [error.pointer for error in caught.value.errors] == [place]


def test_the_same_name_in_two_objects_is_fine() -> None:
    body = {"files": [{"name": "a"}, {"name": "a"}]}
    assert decode_object(json.dumps(body).encode()) == body


def test_pointers_are_escaped() -> None:
    assert pointer() == "#"
    assert pointer("a", 3) == "#/a/3"
    assert pointer("a/b", "~") == "#/a~1b/~0"
