"""What the store copies by itself, and what it costs: on sizes alone."""

from dataclasses import replace

import pytest
from hypothesis import given
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
    Supply,
    local_header_size,
    plan,
)
from unit.zipline.drawing import (
    PLENTY,
    assert_every_byte_once_and_in_order,
    copyable_segment,
    is_body,
    limits_of_any_scale,
    plan_if_it_fits,
    supplied_entries,
)

MIB = 1024 * 1024
GIB = 1024 * MIB

Supplied = tuple[list[Entry], list[Supply] | None]

any_layout = limits_of_any_scale() | limits_of_any_scale(equal_parts=True)
known_crc = st.just(7)


def whole(entry: Entry) -> Supply:
    """All of the entry's data in one object that can be copied."""
    return Supply((entry.data_size,), copyable=True)


def plan_copies(entries: list[Entry], limits: Limits) -> Layout:
    return plan(entries, limits, [whole(entry) for entry in entries])


def copied_bytes(layout: Layout) -> int:
    return sum(part.size for part in layout.parts if part.copied)


@given(supplied_entries(known_crc), any_layout)
def test_a_part_is_copied_exactly_if_the_store_can(supplied: Supplied, limits: Limits) -> None:
    entries, supplies = supplied
    layout = plan_if_it_fits(entries, limits, supplies)
    for part in layout.parts:
        piece = part.pieces[0]
        can = (
            supplies is not None
            and len(part.pieces) == 1
            and isinstance(piece, Data)
            and copyable_segment(piece, supplies[piece.entry]) is not None
        )
        assert part.copied == can
        assert not part.copied or limits.min_part <= part.size <= limits.max_part


@given(supplied_entries(), limits_of_any_scale())
def test_of_each_segment_less_than_the_least_part_is_not_copied_or_it_is_short(
    supplied: Supplied, limits: Limits
) -> None:
    entries, supplies = supplied
    layout = plan(entries, replace(limits, max_parts=PLENTY, single_put=0), supplies)
    copied = {
        (piece.entry, offset)
        for part in layout.parts
        for piece in part.pieces
        if part.copied and isinstance(piece, Data)
        for offset in range(piece.offset, piece.offset + piece.length)
    }
    for index, (entry, supply) in enumerate(zip(entries, supplies or (), strict=False)):
        start = 0
        for length in supply.segments:
            end = start + length
            left = [offset for offset in range(start, end) if (index, offset) not in copied]
            if not supply.copyable:
                assert len(left) == length
            elif entry.crc32 is not None and length >= 2 * limits.min_part:
                # The head of the segment, and nothing else.
                assert left == list(range(start, start + len(left)))
                assert len(left) < limits.min_part
            start = end


@given(supplied_entries(known_crc), limits_of_any_scale())
def test_a_part_that_ends_with_the_head_of_a_segment_has_just_the_least_size(
    supplied: Supplied, limits: Limits
) -> None:
    entries, supplies = supplied
    if supplies is None:
        return
    layout = plan(entries, replace(limits, max_parts=PLENTY, single_put=0), supplies)
    for part, after in zip(layout.parts, layout.parts[1:], strict=False):
        piece, following = part.pieces[-1], after.pieces[0]
        if is_body(part) or not (after.copied and isinstance(following, Data) and isinstance(piece, Data)):
            continue
        segment = copyable_segment(following, supplies[following.entry])
        if segment is not None and segment[0] < following.offset:
            assert part.size == limits.min_part


@given(supplied_entries(), limits_of_any_scale())
def test_lengths_of_body_parts_go_by_who_touches_their_bytes(supplied: Supplied, limits: Limits) -> None:
    entries, supplies = supplied
    limits = replace(limits, max_parts=PLENTY, single_put=0)
    layout = plan(entries, limits, supplies)
    untouched = [part for part in layout.parts if part.copied and known(part, entries)]
    total = sum(part.size for part in untouched)
    cap = max(limits.body_part, min(-(-total // limits.spread), limits.copied_part))
    # What cannot be halved into parts that are large enough may be longer; a full written part may be one slice too.
    least = max(2 * limits.min_part - 1, limits.packed_part)
    for part in layout.parts:
        if is_body(part):
            assert part.size <= max(least, cap if part in untouched else limits.body_part)


def known(part: Part, entries: list[Entry]) -> bool:
    piece = part.pieces[0]
    return isinstance(piece, Data) and entries[piece.entry].crc32 is not None


def test_a_large_file_costs_one_written_part_of_the_least_size() -> None:
    layout = plan_copies([Entry("film.mkv", 5 * GIB, 7, 0)], Limits())
    first, *copies, last = layout.parts
    # The header has both sizes in 20 bytes of Zip64, for it is more than 4 GiB.
    head = 5 * MIB - (30 + len("film.mkv") + 20 + 9)
    assert first == Part(1, 0, 5 * MIB, (Header(0), Data(0, 0, head)))
    assert all(part.copied for part in copies)
    assert [part.size for part in copies] == [pytest.approx((5 * GIB - 5 * MIB) / 16, abs=32)] * 16
    assert last.pieces == (Directory(),)
    assert not any(layout.blockers(part.number, {0}) for part in layout.parts)


def test_ten_files_of_256_mib_are_spread_and_cost_two_percent() -> None:
    layout = plan_copies([Entry(f"{number}", 256 * MIB, 7, 0) for number in range(10)], Limits())
    # 2.5 GiB in sixteen are 157 MiB: each file is cut in two.
    assert sum(part.copied for part in layout.parts) == 20
    assert 1 - copied_bytes(layout) / layout.size < 0.02


@pytest.mark.parametrize(
    ("size", "largest"), [(500 * MIB, 64), (1600 * MIB, 100), (4 * GIB, 256), (8 * GIB, 512), (1024 * GIB, 512)]
)
def test_copied_parts_are_a_sixteenth_within_bounds(size: int, largest: int) -> None:
    layout = plan_copies([Entry("a", size, 7, 0)], Limits())
    sizes = [part.size for part in layout.parts if part.copied]
    assert max(sizes) <= largest * MIB
    assert max(sizes) > 0.8 * largest * MIB


def test_what_has_to_be_read_for_its_crc_is_copied_in_parts_that_are_not_long_to_read() -> None:
    entries = [Entry("unknown", 10 * GIB, None, 0), Entry("known", 10 * GIB, 7, 0)]
    layout = plan_copies(entries, Limits())
    for part in layout.parts:
        if part.copied:
            assert part.size > 500 * MIB if known(part, entries) else part.size <= 64 * MIB
    assert layout.blockers(1, {1}) == frozenset(range(2, layout.spans[0][1] + 1))


def test_a_file_of_unknown_crc_is_copied_only_if_it_is_large() -> None:
    for size, copied in ((16 * MIB, False), (16 * MIB + 1, True)):
        layout = plan_copies([Entry("a", size, None, 0)], Limits(single_put=0))
        assert any(part.copied for part in layout.parts) == copied


def test_after_a_full_part_a_file_of_the_least_size_is_copied_whole() -> None:
    entries = [Entry("a", 5 * MIB, 7, 0), Entry("b", 5 * MIB, 7, 0), Entry("c", 5 * MIB - 1, 7, 0)]
    layout = plan_copies(entries, Limits(single_put=0))
    assert [part.pieces for part in layout.parts] == [
        (Header(0), Data(0, 0, 5 * MIB), Header(1)),
        (Data(1, 0, 5 * MIB),),
        (Header(2), Data(2, 0, 5 * MIB - 1)),
        (Directory(),),
    ]
    assert [part.copied for part in layout.parts] == [False, True, False, False]


def test_a_segment_that_would_leave_too_little_after_its_head_is_packed_whole() -> None:
    head = 5 * MIB - 40
    layout = plan_copies([Entry("a", head + 5 * MIB - 1, 7, 0)], Limits(single_put=0))
    assert [part.pieces for part in layout.parts] == [(Header(0), Data(0, 0, head + 5 * MIB - 1)), (Directory(),)]
    layout = plan_copies([Entry("a", head + 5 * MIB, 7, 0)], Limits(single_put=0))
    assert [part.pieces for part in layout.parts[:2]] == [(Header(0), Data(0, 0, head)), (Data(0, head, 5 * MIB),)]
    assert layout.parts[1].copied


def test_short_segments_share_written_parts_with_what_is_around_them() -> None:
    segments = (4 * MIB, 40 * MIB, 3 * MIB, 4 * MIB, 30 * MIB, 2 * MIB)
    entries = [Entry("a", 200 * MIB, 7, 0, packed=sum(segments)), Entry("b", 10, None, 0)]
    layout = plan(entries, Limits(), [Supply(segments, copyable=True), Supply((10,), copyable=True)])
    head = 5 * MIB - 40
    assert [part.pieces for part in layout.parts] == [
        (Header(0), Data(0, 0, head)),
        (Data(0, head, 44 * MIB - head),),
        (Data(0, 44 * MIB, 7 * MIB),),
        (Data(0, 51 * MIB, 30 * MIB),),
        (Data(0, 81 * MIB, 2 * MIB), Header(1), Data(1, 0, 10), Directory()),
    ]
    assert [part.copied for part in layout.parts] == [False, True, False, True, False]
    assert not any(layout.blockers(part.number, {0}) for part in layout.parts)


def test_a_file_of_nothing_but_short_segments_is_packed() -> None:
    entries = [Entry("a", GIB, 7, 0)]
    layout = plan(entries, Limits(), [Supply((4 * MIB,) * 256, copyable=True)])
    assert not any(part.copied for part in layout.parts)
    assert all(12 * MIB <= part.size <= 16 * MIB for part in layout.parts[:-1])
    # Each segment is read once.
    assert all((part.start - layout.parts[1].start) % (4 * MIB) == 0 for part in layout.parts[1:-1])


def test_copied_parts_grow_just_enough_to_keep_within_max_parts() -> None:
    entries = [Entry("a", 3 * 1024 * GIB, 7, 0), Entry("b", 3 * 1024 * GIB, 7, 0), Entry("c", 100 * GIB, None, 0)]
    limits = Limits()
    layout = plan_copies(entries, limits)
    assert limits.max_parts - 2 <= len(layout.parts) <= limits.max_parts
    largest = max(part.size for part in layout.parts)
    assert largest > limits.copied_part
    # What has to be read grows first, and no further than the rest.
    assert max(part.size for part in layout.parts if part.copied and not known(part, entries)) <= largest
    again = replace(limits, copied_part=largest - 1, body_part=largest - 1, max_parts=limits.max_parts + 10)
    assert len(plan_copies(entries, again).parts) > limits.max_parts


def test_when_too_many_runs_would_be_copied_the_short_ones_are_not() -> None:
    short = [Entry(f"{number}", 6 * MIB, 7, 0) for number in range(12_000)]
    large = [Entry(f"large {number}", 100 * MIB, 7, 0) for number in range(100)]
    entries = [*short, *large]
    assert len(plan_copies(entries, Limits(max_parts=20_000)).parts) > 12_000
    layout = plan_copies(entries, Limits())
    assert len(layout.parts) <= 10_000
    assert_every_byte_once_and_in_order(layout, entries)
    # The large ones still are, for the length worth it was doubled once.
    assert copied_bytes(layout) >= 100 * 95 * MIB
    assert min(part.size for part in layout.parts if part.copied) >= 10 * MIB
    assert max(part.size for part in layout.parts if not part.copied) < 32 * MIB


def test_segments_no_longer_worth_copying_alone_are_cut_into_full_written_parts() -> None:
    limits = Limits(min_part=10, packed_part=100, body_part=100, single_put=0, max_part=500_000, max_parts=24)
    segments = (15, 15, 60, 15) * 20
    entries = [Entry("a", sum(segments), 7, 0)]
    supplies = [Supply(segments, copyable=True)]
    layout = plan(entries, limits, supplies)
    assert len(layout.parts) <= 24 < len(plan(entries, replace(limits, max_parts=1_000), supplies).parts)
    assert_every_byte_once_and_in_order(layout, entries)


def test_an_archive_that_fits_in_no_way_is_refused_with_the_parts_it_would_have_at_least() -> None:
    with pytest.raises(ArchiveTooLargeError, match=r"12002 parts .* max_part \(5368709120 bytes\); max_parts is 10000"):
        plan_copies([Entry("a", 60_000 * GIB - 5 * MIB, 7, 0)], Limits())
    with pytest.raises(ArchiveTooLargeError, match="20001 parts"):
        plan_copies([Entry(f"{number}", 20 * MIB, 7, 0) for number in range(10_000)], Limits())


@given(supplied_entries(known_crc), limits_of_any_scale())
def test_what_passes_through_for_a_file_in_one_object_is_about_the_least_part(
    supplied: Supplied, limits: Limits
) -> None:
    entries, _ = supplied
    large = [entry for entry in entries if entry.data_size >= 2 * limits.min_part]
    layout = plan_copies(large, replace(limits, max_parts=PLENTY, single_put=0))
    headers = sum(map(local_header_size, large))
    written = layout.size - copied_bytes(layout) - layout.directory_size - headers
    assert written <= len(large) * limits.min_part
