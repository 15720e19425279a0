"""The rules of a layout, on sizes alone: no data is made here."""

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haulyard_zipline import (
    ArchiveTooLargeError,
    Data,
    Directory,
    Entry,
    EntryError,
    Header,
    Layout,
    Limits,
    Part,
    Supply,
    local_header_size,
    plan,
)
from unit.zipline.drawing import (
    PLENTY,
    assert_every_byte_once_and_in_order,
    entry_lists,
    is_body,
    limits_of_any_scale,
    plan_if_it_fits,
    supplied_entries,
)

MIB = 1024 * 1024
GIB = 1024 * MIB

# Entries and where their data comes from.
Supplied = tuple[list[Entry], list[Supply] | None]


def bodies_of(layout: Layout) -> dict[int, list[Part]]:
    """The body parts of each large entry."""
    bodies: dict[int, list[Part]] = {}
    for part in layout.parts:
        piece = part.pieces[0]
        if is_body(part) and isinstance(piece, Data):
            bodies.setdefault(piece.entry, []).append(part)
    return bodies


@given(supplied_entries(), limits_of_any_scale())
def test_pieces_cover_every_byte_exactly_once_and_in_order(supplied: Supplied, limits: Limits) -> None:
    entries, supplies = supplied
    assert_every_byte_once_and_in_order(plan_if_it_fits(entries, limits, supplies), entries)


@given(supplied_entries(), limits_of_any_scale())
def test_parts_keep_the_limits(supplied: Supplied, limits: Limits) -> None:
    entries, supplies = supplied
    layout = plan_if_it_fits(entries, limits, supplies)
    assert 1 <= len(layout.parts) <= limits.max_parts
    assert all(part.size <= limits.max_part for part in layout.parts)
    assert all(part.size >= limits.min_part for part in layout.parts[:-1])


@given(supplied_entries(), limits_of_any_scale())
def test_written_parts_are_bounded_however_few_parts_there_may_be(supplied: Supplied, limits: Limits) -> None:
    entries, supplies = supplied
    layout = plan_if_it_fits(entries, replace(limits, single_put=0), supplies)
    header = max(map(local_header_size, entries), default=0)
    for part in layout.parts[:-1]:
        if not is_body(part):
            assert part.size < limits.min_part + limits.packed_part + 2 * header
    # The last holds little beside the directory, for it may have to wait for all else.
    assert layout.parts[-1].size < limits.min_part + layout.directory_size


@given(entry_lists, limits_of_any_scale())
def test_small_entries_are_whole_in_one_written_part(entries: list[Entry], limits: Limits) -> None:
    layout = plan(entries, replace(limits, max_parts=PLENTY))
    for entry, (first, last) in zip(entries, layout.spans, strict=True):
        assert layout.single or (first == last) == (entry.data_size <= limits.packed_part)


@given(entry_lists, limits_of_any_scale())
def test_small_entries_share_a_part_as_long_as_they_fit(entries: list[Entry], limits: Limits) -> None:
    layout = plan(entries, replace(limits, max_parts=PLENTY, single_put=0))
    for part, after in pairwise(layout.parts):
        next_piece = after.pieces[0]
        if not is_body(part) and isinstance(next_piece, Header):
            entry = entries[next_piece.entry]
            # The header of a large entry always fits, so what closed the part was a small one that did not.
            assert entry.data_size <= limits.packed_part
            assert part.size + local_header_size(entry) + entry.data_size > limits.packed_part


@given(entry_lists, limits_of_any_scale())
def test_the_header_of_a_large_entry_ends_a_written_part_with_just_enough_of_its_data(
    entries: list[Entry], limits: Limits
) -> None:
    layout = plan(entries, replace(limits, max_parts=PLENTY, single_put=0))
    for index, (first, last) in enumerate(layout.spans):
        if first == last:
            continue
        part = layout.parts[first - 1]
        header_at = part.pieces.index(Header(index))
        head = part.pieces[header_at + 1 :]
        if head:
            assert len(head) == 1
            assert isinstance(head[0], Data)
            assert head[0].entry == index
            assert part.size == limits.min_part
        else:
            assert part.size >= limits.min_part


@given(entry_lists, limits_of_any_scale())
def test_body_parts_are_equal_slices_that_end_with_their_entry(entries: list[Entry], limits: Limits) -> None:
    layout = plan(entries, replace(limits, max_parts=PLENTY))
    for index, parts in bodies_of(layout).items():
        assert {part.number for part in parts} == set(range(layout.spans[index][0] + 1, layout.spans[index][1] + 1))
        last = parts[-1].pieces[0]
        assert isinstance(last, Data)
        assert last.offset + last.length == entries[index].data_size
        lengths = [part.size for part in parts]
        assert max(lengths) - min(lengths) <= 1
        total = sum(lengths)
        if max(lengths) > limits.body_part:
            # One more part would have been too small.
            assert total // (len(parts) + 1) < limits.min_part
        else:
            # One part less would have been too large.
            assert len(parts) == 1 or total > limits.body_part * (len(parts) - 1)


@given(supplied_entries(), limits_of_any_scale())
def test_an_archive_up_to_single_put_is_one_part(supplied: Supplied, limits: Limits) -> None:
    entries, supplies = supplied
    layout = plan_if_it_fits(entries, limits, supplies)
    assert layout.single == (layout.size <= limits.single_put)
    if layout.single:
        assert len(layout.parts) == 1


def test_an_archive_of_exactly_single_put_is_one_part_and_one_byte_more_is_not() -> None:
    entries = [Entry("a", 20 * MIB, None, 0)]
    size = plan(entries, Limits()).size
    assert plan(entries, Limits(single_put=size)).single
    assert not plan(entries, Limits(single_put=size - 1)).single


@given(supplied_entries(), limits_of_any_scale())
def test_spans_say_where_entries_begin_and_end(supplied: Supplied, limits: Limits) -> None:
    entries, supplies = supplied
    layout = plan_if_it_fits(entries, limits, supplies)
    for index in range(len(entries)):
        numbers = [
            part.number
            for part in layout.parts
            if any(not isinstance(piece, Directory) and piece.entry == index for piece in part.pieces)
        ]
        assert layout.spans[index] == (numbers[0], numbers[-1])


@given(supplied_entries(), limits_of_any_scale())
def test_the_same_entries_give_the_same_layout(supplied: Supplied, limits: Limits) -> None:
    entries, supplies = supplied
    layout = plan_if_it_fits(entries, limits, supplies)
    assert plan(tuple(entries), limits, supplies and tuple(supplies)) == layout
    # What a known CRC-32 is does not matter.
    assert plan([replace(entry, crc32=entry.crc32 and 123) for entry in entries], limits, supplies) == layout


@given(entry_lists, limits_of_any_scale())
def test_what_has_to_be_streamed_is_laid_out_the_same_whether_crcs_are_known_or_not(
    entries: list[Entry], limits: Limits
) -> None:
    layout = plan_if_it_fits(entries, limits)
    assert plan([replace(entry, crc32=123) for entry in entries], limits) == layout
    assert not any(part.copied for part in layout.parts)
    assert plan(entries, limits, [Supply((size,) if size else (), copyable=False) for size in data_sizes(entries)]) == (
        layout
    )


def data_sizes(entries: list[Entry]) -> list[int]:
    return [entry.data_size for entry in entries]


@given(supplied_entries(), limits_of_any_scale(), st.randoms(use_true_random=False), st.data())
def test_parts_can_be_done_in_any_order_that_blockers_allow(
    supplied: Supplied, limits: Limits, order: random.Random, data: st.DataObject
) -> None:
    entries, supplies = supplied
    layout = plan_if_it_fits(entries, limits, supplies)
    known = {index for index, entry in enumerate(entries) if entry.crc32 is not None}
    known |= data.draw(st.sets(st.integers(0, max(0, len(entries) - 1))))
    waiting = {part.number: layout.blockers(part.number, known) for part in layout.parts}
    done: set[int] = set()
    while waiting:
        ready = [number for number, blockers in waiting.items() if blockers <= done]
        assert ready, "parts wait for each other"
        number = order.choice(ready)
        for piece in layout.parts[number - 1].pieces:
            listed = range(len(entries)) if isinstance(piece, Directory) else (piece.entry,)
            if not isinstance(piece, Data):
                # All data of what has to be told of is at hand: in parts done before, or in this very part.
                unknown = [index for index in listed if index not in known]
                assert all(parts_with_data(layout, index) <= done | {number} for index in unknown)
        done.add(number)
        del waiting[number]


def parts_with_data(layout: Layout, entry: int) -> set[int]:
    return {
        part.number
        for part in layout.parts
        if any(isinstance(piece, Data) and piece.entry == entry for piece in part.pieces)
    }


@given(supplied_entries(), limits_of_any_scale())
def test_blockers_are_no_more_than_what_is_needed(supplied: Supplied, limits: Limits) -> None:
    entries, supplies = supplied
    layout = plan_if_it_fits(entries, limits, supplies)
    known = {index for index, entry in enumerate(entries) if entry.crc32 is not None}
    everything = set(range(len(entries)))
    for part in layout.parts:
        assert not layout.blockers(part.number, everything)
        begun = {piece.entry for piece in part.pieces if isinstance(piece, Header)} - known
        if part is layout.parts[-1]:
            begun = everything - known
        needed = set().union(*(parts_with_data(layout, index) for index in begun))
        assert layout.blockers(part.number, known) == needed - {part.number}


def test_a_directory_waits_only_for_data_whose_crc_is_unknown() -> None:
    entries = [Entry(f"{number}", 12 * MIB, None if number == 2 else 7, 0) for number in range(4)]
    layout = plan(entries, Limits())
    assert [part.pieces[0] for part in layout.parts] == [*map(Header, range(4)), Directory()]
    assert layout.blockers(5, {0, 1, 3}) == frozenset({3})
    assert layout.blockers(5, {0, 1, 2, 3}) == frozenset()


def test_a_directory_waits_for_nothing_that_its_own_part_finds_out() -> None:
    entries = [Entry("large", GIB, 7, 0), Entry("small", 10, None, 0)]
    layout = plan(entries, Limits())
    assert layout.parts[-1].pieces == (Header(1), Data(1, 0, 10), Directory())
    assert layout.blockers(len(layout.parts), {0}) == frozenset()


@pytest.mark.parametrize("number", [-1, 0, 2])
def test_blockers_of_a_part_that_is_not_there_are_refused(number: int) -> None:
    with pytest.raises(IndexError, match=f"no part {number}"):
        plan([], Limits()).blockers(number, set())


def test_no_entries_give_an_archive_of_the_end_record_alone() -> None:
    for limits in (Limits(), Limits(single_put=0)):
        layout = plan([], limits)
        assert layout.size == layout.directory_size == 22
        assert layout.parts == (Part(1, 0, 22, (Directory(),)),)
    assert plan([], Limits()).single
    assert not plan([], Limits(single_put=0)).single


def test_a_large_file_costs_one_written_part_of_the_least_size() -> None:
    header = 30 + len("film.mkv") + 9
    layout = plan([Entry("film.mkv", GIB, None, 0)], Limits())
    first, *bodies, last = layout.parts
    head = 5 * MIB - header
    assert first == Part(1, 0, 5 * MIB, (Header(0), Data(0, 0, head)))
    # 1 GiB less about 5 MiB: fifteen parts of 64 MiB would not be enough.
    assert len(bodies) == 16
    assert all(is_body(part) and 63 * MIB < part.size < 64 * MIB for part in bodies)
    assert last.pieces == (Directory(),)
    assert layout.blockers(1, set()) == frozenset(range(2, 18))
    assert layout.blockers(1, {0}) == frozenset()


def test_a_large_file_after_enough_small_ones_gives_only_its_header() -> None:
    small = [Entry(f"{number}.jpg", 3 * MIB, None, 0) for number in range(3)]
    layout = plan([*small, Entry("film.mkv", GIB, None, 0)], Limits())
    first = layout.parts[0]
    assert first.pieces[-2:] == (Data(2, 0, 3 * MIB), Header(3))
    assert layout.spans == ((1, 1), (1, 1), (1, 1), (1, 17))


def test_body_parts_grow_just_enough_to_keep_within_max_parts() -> None:
    limits = Limits()
    terabyte = plan([Entry("a", 1024 * GIB, None, 0), Entry("b", 1024 * GIB, None, 0)], limits)
    # One step of the size takes one part from each of the two.
    assert limits.max_parts - 1 <= len(terabyte.parts) <= limits.max_parts
    largest = max(part.size for part in terabyte.parts)
    assert largest > limits.body_part
    # With parts one byte smaller than the largest there would be too many.
    again = replace(limits, body_part=largest - 1, max_parts=limits.max_parts + 10)
    assert len(plan([Entry("a", 1024 * GIB, None, 0), Entry("b", 1024 * GIB, None, 0)], again).parts) > limits.max_parts


def test_written_parts_never_grow_whatever_else_does() -> None:
    # One written part each, to be held in memory, and a body part.
    entries = [Entry(f"{number}", 17 * MIB, None, 0) for number in range(4_999)]
    layout = plan(entries, Limits())
    assert len(layout.parts) == 9_999
    assert max(part.size for part in layout.parts if not is_body(part)) == 5 * MIB
    with pytest.raises(ArchiveTooLargeError, match="10003 parts"):
        plan([*entries, *entries[:2]], Limits())


def test_bodies_grow_when_there_are_many_small_files_too() -> None:
    entries = [Entry(f"{number}", 16 * MIB, None, 0) for number in range(9_000)]
    layout = plan([*entries, Entry("film.mkv", 500 * GIB, None, 0)], Limits())
    assert len(layout.parts) == 10_000
    assert max(part.size for part in layout.parts if not is_body(part)) <= 16 * MIB + 200


def test_an_archive_with_too_many_parts_is_refused_with_the_limit_named() -> None:
    with pytest.raises(ArchiveTooLargeError, match=r"12002 parts .* max_part \(5368709120 bytes\); max_parts is 10000"):
        plan([Entry("a", 60_000 * GIB - 5 * MIB, None, 0)], Limits())


def test_a_directory_larger_than_a_part_is_refused_with_the_limit_named() -> None:
    limits = Limits(min_part=10, packed_part=20, body_part=20, single_put=0, max_part=200_000)
    plan([Entry("x" * 60_000, 0, None, 0)] * 3, limits)
    with pytest.raises(ArchiveTooLargeError, match="max_part is 200000"):
        plan([Entry("x" * 60_000, 0, None, 0)] * 4, limits)


@pytest.mark.parametrize("size", [0, 100, 60_000, 16 * MIB])
def test_a_written_part_of_many_entries_fits_in_an_archivers_memory(size: int) -> None:
    count = 2_000 if size > MIB else 50_000
    layout = plan([Entry(f"{number:0100}", size, None, 0) for number in range(count)], Limits())
    assert all(part.size < 32 * MIB for part in layout.parts)


def test_a_small_trailing_part_takes_the_directory_in() -> None:
    limits = Limits(single_put=0)
    apart = plan([Entry("a", 5 * MIB - 40, None, 0)], limits)
    assert [part.pieces for part in apart.parts] == [(Header(0), Data(0, 0, 5 * MIB - 40)), (Directory(),)]
    joined = plan([Entry("a", 5 * MIB - 41, None, 0)], limits)
    assert [part.pieces for part in joined.parts] == [(Header(0), Data(0, 0, 5 * MIB - 41), Directory())]


def test_a_packed_part_is_filled_to_the_byte() -> None:
    limits = Limits(single_put=0)
    rest = 16 * MIB - 6 * MIB - 2 * 40
    fits = plan([Entry("a", 6 * MIB, None, 0), Entry("b", rest, None, 0)], limits)
    assert [part.size for part in fits.parts[:-1]] == [16 * MIB]
    # One byte more would be too much, though the data alone would fit.
    apart = plan([Entry("a", 6 * MIB, None, 0), Entry("b", rest + 1, None, 0)], limits)
    assert [part.size for part in apart.parts[:-1]] == [6 * MIB + 40, rest + 1 + 40]


def test_the_largest_small_entry_and_the_smallest_large_one() -> None:
    limits = Limits(single_put=0)
    small = plan([Entry("a", 16 * MIB, None, 0)], limits)
    assert [part.pieces for part in small.parts] == [(Header(0), Data(0, 0, 16 * MIB)), (Directory(),)]
    large = plan([Entry("a", 16 * MIB + 1, None, 0)], limits)
    head = 5 * MIB - 40
    assert [part.pieces for part in large.parts] == [
        (Header(0), Data(0, 0, head)),
        (Data(0, head, 16 * MIB + 1 - head),),
        (Directory(),),
    ]


def test_a_body_is_not_cut_in_halves_that_the_store_would_refuse() -> None:
    limits = Limits(packed_part=10 * MIB, body_part=6 * MIB, single_put=0)
    layout = plan([Entry("a", 5 * MIB - 40 + 9 * MIB, None, 0)], limits)
    assert [part.size for part in layout.parts[:-1]] == [5 * MIB, 9 * MIB]


def test_many_entries_are_laid_out() -> None:
    entries = [Entry(f"{number:0100}", number % 3_000, 7, 0) for number in range(70_000)]
    supplies = [Supply((size,) if size else (), copyable=True) for size in data_sizes(entries)]
    layout = plan(entries, Limits(), supplies)
    assert_every_byte_once_and_in_order(layout, entries)


@pytest.mark.parametrize(("segments", "size"), [((), 5), ((4,), 5), ((2, 2, 2), 5), ((1,), 0)])
def test_segments_that_are_not_the_data_of_their_entry_are_refused(segments: tuple[int, ...], size: int) -> None:
    for copyable in (True, False):
        with pytest.raises(EntryError, match=f"^segments: those of 'a' are {sum(segments)} bytes, its data {size}$"):
            plan([Entry("a", size, None, 0)], Limits(), [Supply(segments, copyable)])


def test_segments_are_those_of_the_deflated_data() -> None:
    plan([Entry("a", 5, 7, 0, packed=9)], Limits(), [Supply((9,), copyable=True)])
    with pytest.raises(EntryError):
        plan([Entry("a", 5, 7, 0, packed=9)], Limits(), [Supply((5,), copyable=True)])


def test_more_or_fewer_supplies_than_entries_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        plan([Entry("a", 5, 7, 0)], Limits(), [])
