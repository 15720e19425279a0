"""Where every byte of an archive comes from, before a byte moves: entries in, parts of one multipart upload out.

The archive is cut so that every part but the last has the size that stores ask for, and that large entries can be
copied inside the store:

* small entries stand whole in *written* parts, packed up to ``packed_part``;
* a large entry has its header at the end of a written part, with just enough of its data to make that part large
  enough; the rest of its data is cut into *body* parts, each nothing but one slice of that entry, ending where the
  entry ends;
* the directory is the last piece of the last part.

So a body part depends on nothing, a written part only on slices of the one large entry that starts in it, and the
last part on all others.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from haulyard_zipline.entries import Entry
from haulyard_zipline.records import directory_size, local_header_size

MIB = 1024 * 1024
GIB = 1024 * MIB


class LimitsError(ValueError):
    """The limits contradict each other; the message says which."""


class ArchiveTooLargeError(ValueError):
    """The archive does not fit the limits of a multipart upload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes of parts, in bytes. The first three are the store's (Amazon S3: multipart upload limits).

    Raises:
        LimitsError: they contradict each other.
    """

    min_part: int = 5 * MIB
    """Every part but the last has at least as much."""
    max_part: int = 5 * GIB
    max_parts: int = 10_000
    packed_part: int = 16 * MIB
    """Small entries are packed up to here; an entry with more data is a large one."""
    body_part: int = 64 * MIB
    """A slice of a large entry; more only if there would be too many parts."""
    single_put: int = 16 * MIB
    """An archive of at most this size is one object, without a multipart upload."""

    def __post_init__(self) -> None:
        if not 0 < self.min_part <= self.packed_part:
            raise LimitsError("0 < min_part <= packed_part must hold")
        if not self.min_part <= self.body_part <= self.max_part:
            raise LimitsError("min_part <= body_part <= max_part must hold")
        if self.packed_part + self.min_part > self.max_part:
            raise LimitsError("packed_part + min_part <= max_part must hold")
        if self.max_parts < 1 or self.single_put < 0:
            raise LimitsError("max_parts must be at least 1, single_put at least 0")


@dataclass(frozen=True, slots=True)
class Header:
    """The local header of an entry."""

    entry: int


@dataclass(frozen=True, slots=True)
class Data:
    """``length`` bytes of an entry's data from ``offset`` on."""

    entry: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Directory:
    """The central directory and the records that end the archive."""


Piece = Header | Data | Directory


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the upload."""

    number: int
    """From 1."""
    start: int
    """Where it starts in the archive, in bytes."""
    size: int
    """Bytes."""
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The whole archive."""

    size: int
    """Bytes."""
    parts: tuple[Part, ...]
    offsets: tuple[int, ...]
    """Where the local header of each entry starts, in bytes."""
    spans: tuple[tuple[int, int], ...]
    """The numbers of the first and the last part that hold a piece of each entry."""
    directory_offset: int
    directory_size: int

    @property
    def single(self) -> bool:
        """Whether the archive is one part, so that no multipart upload is needed."""
        return len(self.parts) == 1


def plan(entries: Sequence[Entry], limits: Limits) -> Layout:
    """Return the layout of an archive; the same entries and limits always give the same.

    Args:
        entries: in the order in which they are to stand.
        limits: sizes of parts.

    Raises:
        ArchiveTooLargeError: there would be more than ``max_parts`` parts, however large.
    """
    offsets, position = [], 0
    for entry in entries:
        offsets.append(position)
        position += local_header_size(entry) + entry.size
    tail = directory_size(entries, offsets, position)
    if position + tail <= limits.single_put:
        pieces = [piece for index, entry in enumerate(entries) for piece in _whole(index, entry)]
        return _layout(entries, offsets, [(position + tail, (*pieces, Directory()))], position, tail)
    packed, body = limits.packed_part, limits.body_part
    while True:
        cut = _cut(entries, tail, limits.min_part, packed, body)
        largest = max(size for size, _ in cut)
        if len(cut) <= limits.max_parts and largest <= limits.max_part:
            return _layout(entries, offsets, cut, position, tail)
        if largest > limits.max_part or body >= limits.max_part:
            raise ArchiveTooLargeError(
                f"an archive of {position + tail} bytes needs {len(cut)} parts, the largest of {largest} bytes;"
                f" the store allows {limits.max_parts} parts of {limits.max_part} bytes"
            )
        # Packed parts are put together in memory, so they stay as they are; only what streams may grow.
        body = min(body * 2, limits.max_part)


def _whole(index: int, entry: Entry) -> list[Piece]:
    return [Header(index), Data(index, 0, entry.size)] if entry.size else [Header(index)]


def _cut(
    entries: Sequence[Entry], tail: int, min_part: int, packed_part: int, body_part: int
) -> list[tuple[int, tuple[Piece, ...]]]:
    """Return the parts as (size, pieces)."""
    parts: list[tuple[int, tuple[Piece, ...]]] = []
    pieces: list[Piece] = []
    size = 0
    for index, entry in enumerate(entries):
        header = local_header_size(entry)
        if size >= min_part and size + header + entry.size > packed_part:
            parts.append((size, tuple(pieces)))
            pieces, size = [], 0
        # The part with the header needs min_part bytes, and what is left for bodies must be enough for one.
        head = max(0, min_part - size - header)
        if entry.size <= packed_part or entry.size - head < min_part:
            pieces += _whole(index, entry)
            size += header + entry.size
            continue
        pieces.append(Header(index))
        if head:
            pieces.append(Data(index, 0, head))
        parts.append((size + header + head, tuple(pieces)))
        pieces, size = [], 0
        parts += [(length, (Data(index, offset, length),)) for offset, length in _slices(head, entry.size, body_part)]
    if size >= min_part and size + tail > packed_part:
        parts.append((size, tuple(pieces)))
        pieces, size = [], 0
    parts.append((size + tail, (*pieces, Directory())))
    return parts


def _slices(start: int, end: int, most: int) -> Iterable[tuple[int, int]]:
    """Cut ``[start, end)`` into as few slices of at most ``most`` bytes as possible, as equal as possible."""
    count = -((start - end) // most)
    length, longer = divmod(end - start, count)
    for number in range(count):
        this = length + (number < longer)
        yield start, this
        start += this


def _layout(
    entries: Sequence[Entry],
    offsets: Sequence[int],
    cut: Sequence[tuple[int, tuple[Piece, ...]]],
    directory_offset: int,
    directory_bytes: int,
) -> Layout:
    parts = []
    first = [0] * len(entries)
    last = [0] * len(entries)
    start = 0
    for number, (size, pieces) in enumerate(cut, start=1):
        parts.append(Part(number, start, size, pieces))
        start += size
        for piece in pieces:
            if not isinstance(piece, Directory):
                first[piece.entry] = first[piece.entry] or number
                last[piece.entry] = number
    return Layout(
        size=start,
        parts=tuple(parts),
        offsets=tuple(offsets),
        spans=tuple(zip(first, last, strict=True)),
        directory_offset=directory_offset,
        directory_size=directory_bytes,
    )
