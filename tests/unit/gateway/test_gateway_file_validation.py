"""Every fault of a wish to add files is found, and each is told with its place."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haulyard_chassis.problems import InvalidRequestError
from haulyard_gateway.faults import MAX_LISTED
from haulyard_gateway.file_validation import (
    MAX_FILES_AT_ONCE,
    NewFile,
    ObjectAt,
    OriginAt,
    SourceRules,
    parse_register,
)

RULES = SourceRules(("origin.example.com",))


def parse(body: dict[str, Any]) -> NewFile:
    (file,), is_list = parse_register(body, RULES)
    assert not is_list
    return file


def faults_of(body: dict[str, Any]) -> list[tuple[str | None, str]]:
    with pytest.raises(InvalidRequestError) as caught:
        parse_register(body, RULES)
    return [(error.pointer, error.detail) for error in caught.value.errors]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"name": "a/b.pdf"}, NewFile(name="a/b.pdf", source=None)),
        ({"source": "s3://bucket/a/b.pdf"}, NewFile(name="b.pdf", source=ObjectAt("bucket", "a/b.pdf"))),
        ({"source": "s3://bucket/k", "name": "n"}, NewFile(name="n", source=ObjectAt("bucket", "k"))),
        (
            {"source": "https://origin.example.com/a/b%20c.pdf?x=1"},
            NewFile(name="b c.pdf", source=OriginAt("https://origin.example.com/a/b%20c.pdf?x=1")),
        ),
        ({"name": "../../etc/passwd"}, NewFile(name="../../etc/passwd", source=None)),
    ],
)
def test_a_file_is_registered_or_uploaded(body: dict[str, Any], expected: NewFile) -> None:
    assert parse(body) == expected


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({}, "#"),
        ({"name": 5}, "#/name"),
        ({"name": ""}, "#/name"),
        ({"name": "a\x00b"}, "#/name"),
        ({"name": "x" * 1025}, "#/name"),
        ({"name": "é" * 513}, "#/name"),
        ({"source": 5}, "#/source"),
        ({"source": "https://other.example.com/key"}, "#/source"),
        ({"source": "http://origin.example.com/key"}, "#/source"),
        ({"source": "https://origin.example.com.evil.example/key"}, "#/source"),
        ({"source": "https://evil.example#origin.example.com/"}, "#/source"),
        ({"source": "https://origin.example.com@evil.example/"}, "#/source"),
        ({"source": "https://user:password@origin.example.com/x"}, "#/source"),
        ({"source": "https://origin.example.com:22/x"}, "#/source"),
        ({"source": "https://origin.example.com/"}, "#/name"),
        ({"source": "https://origin.example.com/%00"}, "#/name"),
        ({"source": "file:///etc/passwd"}, "#/source"),
        ({"source": "ftp://origin.example.com/x"}, "#/source"),
        ({"source": "s3://bucket"}, "#/source"),
        ({"source": "s3://bucket/"}, "#/source"),
        ({"source": "s3://Bucket/key"}, "#/source"),
        ({"source": "s3://bucket/a\x00"}, "#/source"),
        ({"source": "s3://bucket//uploads/x"}, "#/source"),
        ({"source": "s3://bucket/./uploads/x"}, "#/source"),
        ({"source": "s3://bucket/a/../uploads/x"}, "#/source"),
        ({"source": f"s3://bucket/{'x' * 1025}"}, "#/source"),
        ({"source": "s3://bucket/folder/"}, "#/name"),
        ({"name": "a", "size": 5}, "#/size"),
    ],
)
def test_a_faulty_file_is_told_with_its_place(body: dict[str, Any], place: str) -> None:
    assert [found for found, _ in faults_of(body)] == [place]


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "0",
        "0x7f.1",
        "2130706433",
        "017700000001",
        "127.1",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "169.254.169.254",
        "[fe80::1%25eth0]",
        "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460",
        "127\u30020\u30020\u30021",
        "metadata.google.internal",
        "10.0.0.1",
    ],
)
def test_no_way_to_write_an_address_gets_around_the_list_of_hosts(host: str) -> None:
    for url in (f"https://{host}/x", f"https://{host}:443/x", f"https://origin.example.com@{host}/x"):
        [(place, _)] = faults_of({"source": url})
        assert place == "#/source"


def test_a_list_is_told_position_by_position() -> None:
    body = {
        "files": [
            {"name": "fine"},
            {"name": 5},
            {},
            "x",
            {"source": "s3://bucket/k", "sorce": 1},
            {"source": "https://evil.example/x", "name": ""},
        ]
    }
    assert [place for place, _ in faults_of(body)] == [
        "#/files/1/name",
        "#/files/2",
        "#/files/3",
        "#/files/4/sorce",
        "#/files/5/source",
        "#/files/5/name",
    ]


def test_a_list_keeps_its_order() -> None:
    files, is_list = parse_register({"files": [{"name": f"{n}"} for n in range(MAX_FILES_AT_ONCE)]}, RULES)
    assert is_list
    assert [file.name for file in files] == [str(n) for n in range(MAX_FILES_AT_ONCE)]
    assert files[7].path == ("files", 7)


@pytest.mark.parametrize(
    ("body", "places"),
    [
        ({"files": []}, ["#/files"]),
        ({"files": [{"name": "a"}] * (MAX_FILES_AT_ONCE + 1)}, ["#/files"]),
        ({"files": {}}, ["#/files"]),
        ({"files": None}, ["#/files"]),
        ({"files": [{"name": "a"}], "name": "b"}, ["#/name"]),
    ],
)
def test_what_is_no_list_of_files(body: dict[str, Any], places: list[str]) -> None:
    assert [place for place, _ in faults_of(body)] == places


files = st.dictionaries(
    st.sampled_from(["source", "name", "x"]),
    st.none() | st.integers() | st.text() | st.text().map("s3://bucket/".__add__) | st.text().map("https://".__add__),
)


@given(files | st.fixed_dictionaries({"files": st.lists(files | st.text() | st.none(), max_size=4)}))
def test_any_object_is_files_or_faults(body: dict[str, Any]) -> None:
    added: tuple[NewFile, ...] = ()
    faults = 0
    try:
        added, _ = parse_register(json.loads(json.dumps(body)), RULES)
    except InvalidRequestError as error:
        faults = len(error.errors)
    assert bool(added) != bool(faults)
    assert faults <= MAX_LISTED
    assert all(file.name.strip() and "\x00" not in file.name for file in added)
