"""Layouts for stores that want all parts but the last to have the same size: on sizes alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haulyard_zipline import (
    ArchiveTooLargeError,
    Data,
    Directory,
    Entry,
    Header,
    Limits,
    Supply,
    UnknownCrcError,
    plan,
)
from unit.zipline.drawing import (
    assert_every_byte_once_and_in_order,
    limits_of_any_scale,
    plan_if_it_fits,
    supplied_entries,
)

MIB = 1024 * 1024
GIB = 1024 * MIB

Supplied = tuple[list[Entry], list[Supply] | None]

known_crc = st.just(7)


@given(supplied_entries(known_crc), limits_of_any_scale(equal_parts=True))
def test_all_parts_but_the_last_have_one_size_and_keep_the_limits(supplied: Supplied, limits: Limits) -> None:
    entries, supplies = supplied
    layout = plan_if_it_fits(entries, limits, supplies)
    assert_every_byte_once_and_in_order(layout, entries)
    assert len(layout.parts) <= limits.max_parts
    assert layout.single == (layout.size <= limits.single_put)
    if not layout.single:
        assert {part.size for part in layout.parts[:-1]} <= {limits.packed_part}
        assert 0 < layout.parts[-1].size <= limits.packed_part


@given(supplied_entries(known_crc), limits_of_any_scale(equal_parts=True))
def test_no_part_waits_for_another(supplied: Supplied, limits: Limits) -> None:
    entries, supplies = supplied
    layout = plan_if_it_fits(entries, limits, supplies)
    assert not any(layout.blockers(part.number, set(range(len(entries)))) for part in layout.parts)


def test_headers_and_the_directory_are_cut_where_a_part_ends() -> None:
    limits = Limits(min_part=10, packed_part=50, body_part=50, single_put=0, equal_parts=True)
    entries = [Entry("a", 15, 7, 0), Entry("b", 75, 7, 0)]
    layout = plan(entries, limits, [Supply((15,), copyable=True), Supply((20, 55), copyable=True)])
    # Each header is 30 + 1 + 9 bytes, the directory 2 * (46 + 1 + 9) + 22.
    assert [part.pieces for part in layout.parts] == [
        (Header(0), Data(0, 0, 10)),
        (Data(0, 10, 5), Header(1), Data(1, 0, 5)),
        (Data(1, 5, 50),),
        (Data(1, 55, 20), Directory(0, 30)),
        (Directory(30, 50),),
        (Directory(80, 50),),
        (Directory(130),),
    ]
    assert layout.spans == ((1, 2), (2, 4))
    assert not any(part.copied for part in layout.parts), "the third spans two segments"
    layout = plan([Entry("x" * 30, 100, 7, 0)], limits, [Supply((100,), copyable=True)])
    assert [part.pieces for part in layout.parts[:3]] == [
        (Header(0, 0, 50),),
        (Header(0, 50), Data(0, 0, 31)),
        (Data(0, 31, 50),),
    ]
    assert layout.spans == ((1, 4),)
    assert [part.copied for part in layout.parts[:4]] == [False, False, True, False]


def test_nearly_all_of_a_large_file_is_copied() -> None:
    layout = plan([Entry("a", GIB, 7, 0)], Limits(equal_parts=True), [Supply((GIB,), copyable=True)])
    assert [part.copied for part in layout.parts] == [False, *[True] * 63, False]
    assert {part.size for part in layout.parts[:-1]} == {16 * MIB}


@pytest.mark.parametrize(
    ("size", "part", "count"), [(156 * GIB, 16, 9_985), (157 * GIB, 17, 9_457), (48_000 * GIB, 4_916, 9_999)]
)
def test_parts_grow_by_whole_mebibytes_to_keep_within_max_parts(size: int, part: int, count: int) -> None:
    layout = plan([Entry("a", size, 7, 0)], Limits(equal_parts=True))
    assert {part.size for part in layout.parts[:-1]} == {part * MIB}
    assert len(layout.parts) == count


def test_an_archive_that_would_need_larger_parts_than_there_are_is_refused() -> None:
    with pytest.raises(ArchiveTooLargeError, match=r"5369757696 bytes each; max_part is 5368709120, max_parts 10000"):
        plan([Entry("a", 50_000 * GIB, 7, 0)], Limits(equal_parts=True))


def test_every_crc_has_to_be_known_unless_all_is_one_part() -> None:
    entries = [Entry("a", 20 * MIB, 7, 0), Entry("b", 1, None, 0)]
    with pytest.raises(UnknownCrcError, match="'b'"):
        plan(entries, Limits(equal_parts=True))
    assert plan(entries, Limits(equal_parts=True, single_put=30 * MIB)).single


def test_an_empty_archive_is_the_end_record_alone() -> None:
    layout = plan([], Limits(equal_parts=True, single_put=0))
    assert [part.pieces for part in layout.parts] == [(Directory(),)]


def test_many_entries_are_laid_out() -> None:
    entries = [Entry(f"{number:0100}", number % 3_000, 7, 0) for number in range(70_000)]
    layout = plan(entries, Limits(equal_parts=True))
    assert_every_byte_once_and_in_order(layout, entries)
    assert {part.size for part in layout.parts[:-1]} == {16 * MIB}
