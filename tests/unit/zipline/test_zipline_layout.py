"""The rules of a layout, on sizes alone: no data is made here."""

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from haulyard_zipline import (
    ArchiveTooLargeError,
    Data,
    Directory,
    Entry,
    Header,
    Layout,
    Limits,
    Part,
    local_header_size,
    plan,
)
from haulyard_zipline.records import MAX_LOCAL_HEADER_SIZE

MIB = 1024 * 1024
GIB = 1024 * MIB

# More parts than any archive here can need.
PLENTY = 1_000_000


@st.composite
def limits_of_any_scale(draw: st.DrawFn) -> Limits:
    min_part = draw(st.integers(10, 300))
    packed_part = 2 * min_part + draw(st.integers(0, 1_000))
    max_part = min_part + packed_part + 2 * MAX_LOCAL_HEADER_SIZE + draw(st.integers(0, 5_000))
    return Limits(
        min_part=min_part,
        max_part=max_part,
        max_parts=draw(st.sampled_from([PLENTY, PLENTY, 1, 3, 10, 30])),
        packed_part=packed_part,
        body_part=draw(st.integers(min_part, min_part + 2_000)),
        single_put=draw(st.sampled_from([0, 100, 1_000, 5_000])),
    )


sizes = st.one_of(st.just(0), st.integers(0, 400), st.integers(0, 10_000))
entry_lists = st.lists(
    st.builds(
        Entry,
        name=st.text("aé文😀/", min_size=1, max_size=30),
        size=sizes,
        crc32=st.one_of(st.none(), st.just(0)),
        mtime=st.sampled_from([0, 2**40]),
    ),
    max_size=12,
)


def plan_if_it_fits(entries: list[Entry], limits: Limits) -> Layout:
    try:
        return plan(entries, limits)
    except ArchiveTooLargeError:
        # Only few parts allowed can be a reason, at this scale.
        assert limits.max_parts < PLENTY
        reject()


def is_body(part: Part) -> bool:
    return len(part.pieces) == 1 and isinstance(part.pieces[0], Data)


def bodies_of(layout: Layout) -> dict[int, list[Part]]:
    """The body parts of each large entry."""
    bodies: dict[int, list[Part]] = {}
    for part in layout.parts:
        piece = part.pieces[0]
        if is_body(part) and isinstance(piece, Data):
            bodies.setdefault(piece.entry, []).append(part)
    return bodies


@given(entry_lists, limits_of_any_scale())
def test_pieces_cover_every_byte_exactly_once_and_in_order(entries: list[Entry], limits: Limits) -> None:
    layout = plan_if_it_fits(entries, limits)
    expected: list[tuple[str, int, int]] = []
    for index, entry in enumerate(entries):
        expected.append(("header", index, 0))
        expected += [("data", index, entry.size)] if entry.size else []
    expected.append(("directory", 0, 0))

    position = 0
    seen: list[tuple[str, int, int]] = []
    for number, part in enumerate(layout.parts, start=1):
        assert part.number == number
        assert part.start == position
        for piece in part.pieces:
            match piece:
                case Header(index):
                    assert layout.offsets[index] == position
                    seen.append(("header", index, 0))
                    position += local_header_size(entries[index])
                case Data(index, offset, length):
                    assert length > 0
                    kind, before, read = seen[-1]
                    if (kind, before) == ("data", index):
                        assert offset == read
                        seen[-1] = ("data", index, offset + length)
                    else:
                        assert offset == 0
                        seen.append(("data", index, length))
                    position += length
                case Directory():
                    assert layout.directory_offset == position
                    seen.append(("directory", 0, 0))
                    position += layout.directory_size
        assert part.start + part.size == position
    assert seen == expected
    assert position == layout.size


@given(entry_lists, limits_of_any_scale())
def test_parts_keep_the_limits(entries: list[Entry], limits: Limits) -> None:
    layout = plan_if_it_fits(entries, limits)
    assert 1 <= len(layout.parts) <= limits.max_parts
    assert all(part.size <= limits.max_part for part in layout.parts)
    assert all(part.size >= limits.min_part for part in layout.parts[:-1])


@given(entry_lists, limits_of_any_scale())
def test_written_parts_are_bounded_while_there_are_parts_enough(entries: list[Entry], limits: Limits) -> None:
    layout = plan(entries, replace(limits, max_parts=PLENTY, single_put=0))
    header = max(map(local_header_size, entries), default=0)
    for part in layout.parts[:-1]:
        if not is_body(part):
            assert part.size < limits.min_part + limits.packed_part + 2 * header
    # The last holds little beside the directory, for it is done when all else is.
    assert layout.parts[-1].size < limits.min_part + layout.directory_size


@given(entry_lists, limits_of_any_scale())
def test_small_entries_are_whole_in_one_written_part(entries: list[Entry], limits: Limits) -> None:
    layout = plan(entries, replace(limits, max_parts=PLENTY))
    for entry, (first, last) in zip(entries, layout.spans, strict=True):
        assert layout.single or (first == last) == (entry.size <= limits.packed_part)


@given(entry_lists, limits_of_any_scale())
def test_small_entries_share_a_part_as_long_as_they_fit(entries: list[Entry], limits: Limits) -> None:
    layout = plan(entries, replace(limits, max_parts=PLENTY, single_put=0))
    for part, after in pairwise(layout.parts):
        next_piece = after.pieces[0]
        if not is_body(part) and isinstance(next_piece, Header):
            entry = entries[next_piece.entry]
            # The header of a large entry always fits, so what closed the part was a small one that did not.
            assert entry.size <= limits.packed_part
            assert part.size + local_header_size(entry) + entry.size > limits.packed_part


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
        assert last.offset + last.length == entries[index].size
        lengths = [part.size for part in parts]
        assert max(lengths) - min(lengths) <= 1
        total = sum(lengths)
        if max(lengths) > limits.body_part:
            # One more part would have been too small.
            assert total // (len(parts) + 1) < limits.min_part
        else:
            # One part less would have been too large.
            assert len(parts) == 1 or total > limits.body_part * (len(parts) - 1)


@given(entry_lists, limits_of_any_scale())
def test_an_archive_up_to_single_put_is_one_part(entries: list[Entry], limits: Limits) -> None:
    layout = plan_if_it_fits(entries, limits)
    assert layout.single == (layout.size <= limits.single_put)
    if layout.single:
        assert len(layout.parts) == 1


def test_an_archive_of_exactly_single_put_is_one_part_and_one_byte_more_is_not() -> None:
    entries = [Entry("a", 20 * MIB, None, 0)]
    size = plan(entries, Limits()).size
    assert plan(entries, Limits(single_put=size)).single
    assert not plan(entries, Limits(single_put=size - 1)).single


@given(entry_lists, limits_of_any_scale())
def test_spans_say_where_entries_begin_and_end(entries: list[Entry], limits: Limits) -> None:
    layout = plan_if_it_fits(entries, limits)
    for index in range(len(entries)):
        numbers = [
            part.number
            for part in layout.parts
            if any(not isinstance(piece, Directory) and piece.entry == index for piece in part.pieces)
        ]
        assert layout.spans[index] == (numbers[0], numbers[-1])


@given(entry_lists, limits_of_any_scale())
def test_the_same_entries_give_the_same_layout_whether_crcs_are_known_or_not(
    entries: list[Entry], limits: Limits
) -> None:
    layout = plan_if_it_fits(entries, limits)
    assert plan(tuple(entries), limits) == layout
    assert plan([replace(entry, crc32=123) for entry in entries], limits) == layout


@given(entry_lists, limits_of_any_scale(), st.randoms(use_true_random=False), st.data())
def test_parts_can_be_done_in_any_order_that_blockers_allow(
    entries: list[Entry], limits: Limits, order: random.Random, data: st.DataObject
) -> None:
    layout = plan_if_it_fits(entries, limits)
    known = data.draw(st.sets(st.integers(0, max(0, len(entries) - 1))))
    waiting = {part.number: layout.blockers(part.number, known) for part in layout.parts}
    done: set[int] = set()
    while waiting:
        ready = [number for number, blockers in waiting.items() if blockers <= done]
        assert ready, "parts wait for each other"
        number = order.choice(ready)
        for piece in layout.parts[number - 1].pieces:
            if isinstance(piece, Header) and piece.entry not in known:
                first, last = layout.spans[piece.entry]
                # All of its data is at hand: in parts done before, or in this very part.
                assert set(range(first, last + 1)) <= done | {number}
        done.add(number)
        del waiting[number]
    assert number == len(layout.parts), "the part with the directory is the last"


@given(entry_lists, limits_of_any_scale())
def test_blockers_are_no_more_than_what_is_needed(entries: list[Entry], limits: Limits) -> None:
    layout = plan_if_it_fits(entries, limits)
    everything = set(range(len(entries)))
    for part in layout.parts[:-1]:
        assert not layout.blockers(part.number, everything)
        if is_body(part):
            assert not layout.blockers(part.number, set())
        else:
            large = [piece.entry for piece in part.pieces if isinstance(piece, Header)][-1]
            bodies = {body.number for body in bodies_of(layout).get(large, [])}
            assert layout.blockers(part.number, set()) == bodies
            assert not layout.blockers(part.number, {large})
    others = {part.number for part in layout.parts[:-1]}
    assert layout.blockers(len(layout.parts), everything) == others


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
