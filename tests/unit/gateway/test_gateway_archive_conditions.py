"""Preconditions and ranges (RFC 9110, sections 13 and 14)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haulyard_gateway.archive_conditions import (
    Asked,
    Choice,
    PreconditionFailedError,
    RangeNotSatisfiableError,
    byte_range,
    choose,
    names,
    parse_asked,
)

ETAG = '"0123abcd-10"'
OTHER = '"other"'
SIZE = 100


class Lines:
    """Headers, some of them in several lines."""

    def __init__(self, **lines: list[str]) -> None:
        self._lines = {name.replace("_", "-"): values for name, values in lines.items()}

    def getall(self, key: str, default: object) -> list[str]:
        return self._lines.get(key.lower(), [])


def chosen(**headers: Any) -> Choice:
    return choose(Asked(**headers), etag=ETAG, size=SIZE)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", range(1)),
        ("bytes=0-", range(100)),
        ("bytes=10-19", range(10, 20)),
        ("bytes=99-", range(99, 100)),
        ("bytes=90-1000", range(90, 100)),
        ("bytes=-1", range(99, 100)),
        ("bytes=-100", range(100)),
        ("bytes=-5000", range(100)),
        ("BYTES= 3-4", range(3, 5)),
        ("bytes=3-4 ,", range(3, 5)),
        (f"bytes=5-{'9' * 200}", range(5, 100)),
        (f"bytes=-{'9' * 200}", range(100)),
        # ignored: malformed, of another unit, or several
        (None, None),
        ("", None),
        ("bytes", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=5-4", None),
        ("bytes=a-b", None),
        ("bytes=1-2-3", None),
        ("bytes=+1-2", None),
        ("bytes=1 - 2", None),
        ("bytes=\u0661-\u0662", None),
        ("bytes=0-1,5-6", None),
        ("bytes=0-1,-1", None),
        ("bytes=200-300,400-", None),
        ("lines=0-1", None),
        ("0-1", None),
        (f"bytes=0-{'1' * 5_000}", None),
    ],
)
def test_one_range_is_served_and_others_are_ignored(header: str | None, expected: range | None) -> None:
    assert byte_range(header, SIZE) == expected


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", f"bytes={'9' * 200}-", "bytes=-0", "bytes=-000"])
def test_a_range_behind_the_end_is_refused_with_the_size(header: str) -> None:
    with pytest.raises(RangeNotSatisfiableError) as error:
        byte_range(header, SIZE)
    assert error.value.headers["Content-Range"] == "bytes */100"


@given(size=st.integers(1, 10_000), first=st.integers(0, 12_000), last=st.integers(0, 12_000))
def test_a_range_selects_what_a_slice_does(size: int, first: int, last: int) -> None:
    content = range(size)
    for header, wanted in (
        (f"bytes={first}-{last}", content[first : last + 1]),
        (f"bytes={first}-", content[first:]),
        (f"bytes=-{last}", content[max(0, size - last) :]),
    ):
        try:
            found = byte_range(header, size)
        except RangeNotSatisfiableError:
            assert not wanted
            continue
        if found is None:
            assert last < first
        else:
            assert found == wanted
            assert found


@given(st.text(max_size=40))
def test_no_header_breaks_anything(text: str) -> None:
    for asked in (
        Asked(byte_range=text),
        Asked(byte_range="bytes=5-", if_range=text),
        Asked(if_none_match=text),
    ):
        try:
            choice = choose(asked, etag=ETAG, size=SIZE)
        except RangeNotSatisfiableError:
            continue
        assert choice.status in (200, 206, 304)
        assert 0 <= choice.start <= choice.stop <= SIZE


@pytest.mark.parametrize("if_match", [ETAG, f"{OTHER}, {ETAG}", f"{OTHER},{ETAG}", "*", " * "])
def test_what_if_match_names_is_sent(if_match: str) -> None:
    assert chosen(if_match=if_match) == Choice(200, 0, SIZE)
    assert chosen(if_match=if_match, byte_range="bytes=9-") == Choice(206, 9, SIZE)


@pytest.mark.parametrize("if_match", [OTHER, f"W/{ETAG}", "", ETAG.strip('"'), "x" * 2_000 + ETAG])
def test_if_match_compares_strongly_and_comes_before_all_else(if_match: str) -> None:
    cases: list[dict[str, str]] = [{}, {"byte_range": "bytes=100-"}, {"if_none_match": ETAG}]
    for headers in cases:
        with pytest.raises(PreconditionFailedError) as error:
            chosen(if_match=if_match, **headers)
        assert error.value.headers["ETag"] == ETAG


@pytest.mark.parametrize("if_none_match", [ETAG, f"W/{ETAG}", f"{OTHER}, W/{ETAG}", "*"])
def test_if_none_match_compares_weakly_and_comes_before_ranges(if_none_match: str) -> None:
    assert chosen(if_none_match=if_none_match).status == 304
    assert chosen(if_none_match=if_none_match, byte_range="bytes=100-").status == 304


def test_what_if_none_match_does_not_name_is_sent() -> None:
    assert chosen(if_none_match=OTHER) == Choice(200, 0, SIZE)
    assert chosen(if_none_match=OTHER, byte_range="bytes=-3") == Choice(206, 97, SIZE)


@pytest.mark.parametrize("if_range", [OTHER, f"W/{ETAG}", f"{OTHER}, {ETAG}", "Wed, 21 Oct 2015 07:28:00 GMT", "*", ""])
def test_if_range_of_anything_else_gives_the_whole(if_range: str) -> None:
    assert chosen(if_range=if_range, byte_range="bytes=5-") == Choice(200, 0, SIZE)
    # Also a range that does not exist in what there is now: it was one in what the client has.
    assert chosen(if_range=if_range, byte_range="bytes=500-") == Choice(200, 0, SIZE)


def test_if_range_of_the_archive_gives_the_range() -> None:
    assert chosen(if_range=ETAG, byte_range="bytes=5-") == Choice(206, 5, SIZE)
    assert chosen(if_range=f" {ETAG} ", byte_range="bytes=5-6") == Choice(206, 5, 7)
    assert chosen(if_range=ETAG) == Choice(200, 0, SIZE)
    with pytest.raises(RangeNotSatisfiableError):
        chosen(if_range=ETAG, byte_range="bytes=100-")


def test_head_has_no_ranges() -> None:
    asked = Asked(with_content=False, byte_range="bytes=500-", if_range=ETAG)
    assert choose(asked, etag=ETAG, size=SIZE) == Choice(200, 0, SIZE)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (Asked(), False),
        (Asked(byte_range="bytes=5-"), False),
        (Asked(byte_range="bytes=5-", if_range=ETAG), True),
        (Asked(byte_range="bytes=5-", if_range=OTHER), False),
        (Asked(if_range=ETAG), False),
        (Asked(if_match=ETAG), True),
        (Asked(if_match="*"), False),
        (Asked(if_none_match=f"{OTHER}, {ETAG}"), True),
        (Asked(if_none_match="*"), False),
    ],
)
def test_it_is_known_who_has_a_part_of_the_archive(asked: Asked, expected: bool) -> None:  # noqa: FBT001
    assert names(asked, ETAG) is expected


def test_lines_of_a_header_are_one_list() -> None:
    asked = parse_asked("GET", Lines(range=["bytes=0-1", "bytes=5-6"], if_match=[OTHER, ETAG]))
    assert asked == Asked(byte_range="bytes=0-1, bytes=5-6", if_match=f"{OTHER}, {ETAG}")
    assert choose(asked, etag=ETAG, size=SIZE) == Choice(200, 0, SIZE)
    assert parse_asked("HEAD", Lines()) == Asked(with_content=False)
