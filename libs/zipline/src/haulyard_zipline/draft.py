"""The first half of planning: which bytes pass through archivers, and which can be parts by themselves.

Decides entry by entry, with no more in mind than the written part that is open. How long the runs between written
parts are cut is decided when all of them are known.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from haulyard_zipline.entry import Entry
from haulyard_zipline.layout import Data, Directory, Header, Piece


class Written(NamedTuple):
    """A part that an archiver puts together in memory."""

    size: int
    pieces: tuple[Piece, ...]


class Run(NamedTuple):
    """Consecutive data of one entry, still to be cut in parts."""

    entry: int
    offset: int
    length: int
    untouched: bool
    """Only the store touches it: it lies in one copyable segment, and the entry's CRC-32 is known."""


class Thresholds(NamedTuple):
    """What to go by, in bytes."""

    min_part: int
    packed_part: int
    least_run: int
    """A run that only the store would touch is worth a part of its own from this length on; at least `min_part`."""


def draft(
    entries: Sequence[Entry],
    ends: Sequence[tuple[int, ...]],
    header_sizes: Sequence[int],
    directory_size: int,
    by: Thresholds,
) -> Iterator[Written | Run]:
    """Yield the written parts and the runs of an archive, in order; the last written part has the directory.

    Args:
        entries: what goes in the archive.
        ends: for each entry, where its copyable segments end in its data; nothing if it has to be streamed.
        header_sizes: for each entry, the bytes of its local header.
        directory_size: bytes of the directory and the end records.
        by: thresholds.
    """
    part = _OpenPart()
    for index, (entry, all_ends, header_size) in enumerate(zip(entries, ends, header_sizes, strict=True)):
        length = entry.data_size
        is_large = length > by.packed_part
        # Without the CRC-32 the data has to be read in any case, and the part with the header would have to wait.
        segments = all_ends if entry.crc32 is not None else ()
        if segments and (is_large or _is_worth_copying(segments, part.size + header_size, by)):
            part.add(Header(index), header_size)
            yield from _segment_by_segment(part, index, segments, by)
        elif is_large:
            part.add(Header(index), header_size)
            head = max(0, by.min_part - part.size)
            part.add_data(index, 0, head)
            yield part.close()
            yield Run(index, head, length - head, untouched=False)
        else:
            if part.size >= by.min_part and part.size + header_size + length > by.packed_part:
                yield part.close()
            part.add(Header(index), header_size)
            part.add_data(index, 0, length)
    if part.size >= by.min_part:
        yield part.close()
    part.add(Directory(), directory_size)
    yield part.close()


class _OpenPart:
    """The written part that is being filled."""

    def __init__(self) -> None:
        self.size = 0
        self._pieces: list[Piece] = []

    def add(self, piece: Piece, size: int) -> None:
        self._pieces.append(piece)
        self.size += size

    def add_data(self, entry: int, offset: int, length: int) -> None:
        """Add a slice, as one piece with the slice before it if that is of the same entry."""
        if not length:
            return
        before = self._pieces[-1] if self._pieces else None
        if isinstance(before, Data) and before.entry == entry:
            self._pieces[-1] = Data(entry, before.offset, before.length + length)
        else:
            self._pieces.append(Data(entry, offset, length))
        self.size += length

    def close(self) -> Written:
        written = Written(self.size, tuple(self._pieces))
        self.size = 0
        self._pieces = []
        return written


def _head(size: int, min_part: int) -> int:
    """Return how much an open part of this size lacks before it can be closed; one with nothing in it needs not be."""
    return max(0, min_part - size) if size else 0


def _is_worth_copying(ends: tuple[int, ...], size: int, by: Thresholds) -> bool:
    """Say whether any segment leaves a run worth copying, when the open part has `size` bytes with the header."""
    return any(end - start - _head(size + start, by.min_part) >= by.least_run for start, end in pairwise((0, *ends)))


def _segment_by_segment(part: _OpenPart, entry: int, ends: tuple[int, ...], by: Thresholds) -> Iterator[Written | Run]:
    """Yield what the data of an entry makes of the open part, which has its header, and the runs that are left."""
    for start, end in pairwise((0, *ends)):
        head = _head(part.size, by.min_part)
        if end - start - head >= by.least_run:
            part.add_data(entry, start, head)
            if part.size:
                yield part.close()
            yield Run(entry, start + head, end - start - head, untouched=True)
        else:
            yield from _pack(part, entry, start, end, by)


def _pack(part: _OpenPart, entry: int, start: int, end: int, by: Thresholds) -> Iterator[Written]:
    """Put a segment in written parts, and yield those that are full. The entry's CRC-32 is known, so it may be cut."""
    while part.size + end - start > by.packed_part:
        room = by.packed_part - part.size
        # For less it is not worth reading the segment twice, nor is the part too small without it: packed_part is at
        # least twice min_part.
        if room >= by.min_part:
            part.add_data(entry, start, room)
            start += room
        yield part.close()
    part.add_data(entry, start, end - start)
