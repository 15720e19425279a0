"""What tests of layouts draw from: limits, entries and supplies at a scale at which everything happens often."""

from itertools import pairwise

from hypothesis import reject
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
from haulyard_zipline.records import MAX_LOCAL_HEADER_SIZE

# More parts than any archive here can need.
PLENTY = 1_000_000


@st.composite
def limits_of_any_scale(draw: st.DrawFn, *, equal_parts: bool = False) -> Limits:
    min_part = draw(st.integers(10, 300))
    packed_part = 2 * min_part + draw(st.integers(0, 1_000))
    max_part = min_part + packed_part + 2 * MAX_LOCAL_HEADER_SIZE + draw(st.integers(0, 5_000))
    return Limits(
        min_part=min_part,
        max_part=max_part,
        max_parts=draw(st.sampled_from([PLENTY, PLENTY, 1, 3, 10, 30])),
        packed_part=packed_part,
        body_part=draw(st.integers(min_part, min_part + 2_000)),
        copied_part=draw(st.integers(min_part, min_part + 5_000)),
        spread=draw(st.sampled_from([1, 3, 16])),
        equal_parts=equal_parts,
        single_put=draw(st.sampled_from([0, 100, 1_000, 5_000])),
    )


sizes = st.one_of(st.just(0), st.integers(0, 400), st.integers(0, 10_000))


def entries_with(crcs: st.SearchStrategy[int | None]) -> st.SearchStrategy[list[Entry]]:
    return st.lists(
        st.builds(
            Entry,
            name=st.text("aé文😀/", min_size=1, max_size=30),
            size=sizes,
            crc32=crcs,
            mtime=st.sampled_from([0, 2**40]),
            packed=st.one_of(st.none(), st.integers(1, 400), st.integers(1, 10_000)),
        ),
        max_size=12,
    )


entry_lists = entries_with(st.one_of(st.none(), st.just(0)))
"""Entries of which some have a CRC-32."""


@st.composite
def supplies_of(draw: st.DrawFn, entries: list[Entry]) -> list[Supply]:
    """Return a supply for each entry, in any number of segments of any size."""
    supplies = []
    for entry in entries:
        size = entry.data_size
        edges = draw(st.sets(st.integers(1, size - 1), max_size=6)) if size > 1 else set()
        lengths = tuple(high - low for low, high in pairwise(sorted({0, size, *edges})))
        supplies.append(Supply(lengths, copyable=draw(st.booleans())))
    return supplies


@st.composite
def supplied_entries(
    draw: st.DrawFn, crcs: st.SearchStrategy[int | None] | None = None
) -> tuple[list[Entry], list[Supply] | None]:
    """Return entries and where their data comes from, which may be left open."""
    entries = draw(entry_lists if crcs is None else entries_with(crcs))
    return entries, draw(st.one_of(st.none(), supplies_of(entries)))


def plan_if_it_fits(entries: list[Entry], limits: Limits, supplies: list[Supply] | None = None) -> Layout:
    try:
        return plan(entries, limits, supplies)
    except ArchiveTooLargeError:
        # Only few parts allowed can be a reason, at this scale.
        assert limits.max_parts < PLENTY
        reject()


def is_body(part: Part) -> bool:
    return len(part.pieces) == 1 and isinstance(part.pieces[0], Data)


def copyable_segment(piece: Data, supply: Supply) -> tuple[int, int] | None:
    """Return start and end of the copyable segment that the slice lies in, if it lies in one."""
    start = 0
    for length in supply.segments if supply.copyable else ():
        if start <= piece.offset and piece.offset + piece.length <= start + length:
            return start, start + length
        start += length
    return None


def assert_every_byte_once_and_in_order(layout: Layout, entries: list[Entry]) -> None:
    """Compare the layout with all bytes of the archive, named one run after the other."""
    sizes_of: dict[tuple[str, int], int] = {}
    for index, entry in enumerate(entries):
        sizes_of["header", index] = local_header_size(entry)
        if entry.data_size:
            sizes_of["data", index] = entry.data_size
    sizes_of["directory", 0] = layout.directory_size

    position = 0
    read: dict[tuple[str, int], int] = {}
    for number, part in enumerate(layout.parts, start=1):
        assert part.number == number
        assert part.start == position
        listed = [piece.entry for piece in part.pieces if isinstance(piece, Data)]
        assert len(listed) == len(set(listed)), "one slice of an entry at most"
        for piece in part.pieces:
            match piece:
                case Header(index):
                    what = ("header", index)
                    begins = layout.offsets[index]
                case Data(index):
                    what = ("data", index)
                    begins = layout.offsets[index] + sizes_of["header", index]
                case Directory():
                    what = ("directory", 0)
                    begins = layout.directory_offset
            assert begins + piece.offset == position
            assert piece.offset == read.get(what, 0)
            length = sizes_of[what] - piece.offset if piece.length is None else piece.length
            assert length > 0
            read[what] = piece.offset + length
            position += length
        assert part.start + part.size == position
    assert read == sizes_of
    assert list(read) == list(sizes_of)
    assert position == layout.size
