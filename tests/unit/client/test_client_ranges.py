from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haulyard.transfer.ranges import Range, merged, missing, parse_content_range, pieces

SIZE = 300
some_ranges = st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)), max_size=12)


def points(ranges: list[Range]) -> set[int]:
    return {point for start, end in ranges for point in range(start, end)}


@given(some_ranges)
def test_merged_ranges_are_the_same_bytes_in_order_and_apart(ranges: list[Range]) -> None:
    result = merged(ranges)
    assert points(result) == points(ranges)
    assert all(start < end for start, end in result)
    assert all(before[1] < after[0] for before, after in pairwise(result))


@given(some_ranges, st.integers(0, SIZE))
def test_what_is_missing_and_what_is_there_are_the_whole_without_overlap(ranges: list[Range], size: int) -> None:
    left = missing(size, ranges)
    assert left == merged(left)
    assert points(left) == set(range(size)) - points(ranges)


@given(some_ranges, st.integers(0, SIZE), st.integers(1, 8), st.integers(1, 50), st.integers(1, 100))
def test_pieces_are_all_that_is_missing_each_byte_once(
    ranges: list[Range], size: int, connections: int, smallest: int, largest: int
) -> None:
    left = missing(size, ranges)
    cut = pieces(left, connections=connections, smallest=smallest, largest=largest)
    assert merged(cut) == left
    assert sum(end - start for start, end in cut) == sum(end - start for start, end in left)
    # Pieces are as equal as they can be, so none is twice the length that was aimed at.
    assert all(end - start < 2 * max(smallest, largest) for start, end in cut)


def test_a_large_archive_gives_every_connection_work() -> None:
    mib = 1024 * 1024
    cut = pieces([(0, 100 * mib)], connections=4, smallest=mib, largest=64 * mib)
    assert len(cut) == 16
    assert pieces([(0, 22)], connections=4, smallest=mib, largest=64 * mib) == [(0, 22)]
    assert pieces([], connections=4, smallest=mib, largest=64 * mib) == []


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("bytes 0-0/22", ((0, 1), 22)),
        ("bytes 5-9/10", ((5, 10), 10)),
        ("bytes 5-10/10", None),
        ("bytes 9-5/10", None),
        ("bytes 0-0/*", None),
        ("bytes */22", None),
        ("items 0-0/22", None),
        ("", None),
        (None, None),
    ],
)
def test_content_range_is_believed_only_if_it_makes_sense(header: str | None, found: object) -> None:
    assert parse_content_range(header) == found
