"""From entries to a layout: arithmetic on names and sizes, before a byte moves.

Two kinds of parts come out. A *body part* is one slice of one large entry, so that the store can copy it by itself.
A *written part* holds headers, small entries, and the head of a large entry; its bytes pass through an archiver. The
planner keeps written parts few and small: they are what an archive costs.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from haulyard_zipline.entry import Entry
from haulyard_zipline.errors import ArchiveTooLargeError
from haulyard_zipline.layout import Data, Directory, Header, Layout, Part, Piece
from haulyard_zipline.limits import Limits
from haulyard_zipline.records import directory_size, local_header_size


class _Written(NamedTuple):
    """A written part before it has a number."""

    size: int
    pieces: tuple[Piece, ...]


_Draft = list[_Written | Data]
"""Written parts in order and, after each header of a large entry, the rest of its data, not yet cut in body parts."""


def plan(entries: Sequence[Entry], limits: Limits) -> Layout:
    """Return the layout of an archive of `entries`, in this order. The same arguments always give the same layout.

    - An archive up to `single_put` is one part.
    - Small entries are packed whole in written parts: a part is closed when the next one would exceed `packed_part`
      and it has reached `min_part`. So a written part is smaller than `min_part + packed_part` plus two headers.
    - The header of a large entry (more data than `packed_part`) ends a written part, with just enough of the head of
      its data to reach `min_part`. The rest is cut in body parts, as equal as possible, between `min_part` and
      `body_part`.
    - The directory joins the last written part only while that is smaller than `min_part` and so could not be a part
      alone; else it is a part of its own. The part with the directory waits for all others, so it should hold little.
    - When there would be more than `max_parts` parts, body parts grow as little as is needed (nothing is lost: they
      are copied in the store, or streamed). Written parts never grow: an archiver holds each whole in memory.

    Args:
        entries: what goes in the archive; none at all gives an empty archive, which is valid.
        limits: the sizes to keep.

    Raises:
        ArchiveTooLargeError: no layout keeps the limits.
    """
    header_sizes = [local_header_size(entry) for entry in entries]
    ends = accumulate((header + entry.size for header, entry in zip(header_sizes, entries, strict=True)), initial=0)
    *offsets, directory_offset = ends
    closing = directory_size(entries, offsets, directory_offset)
    size = directory_offset + closing
    single = size <= limits.single_put
    if single:
        # With room for everything in one part, nothing is large and nothing is closed before the directory.
        draft = _draft(entries, header_sizes, closing, min_part=size, packed_part=size)
        body_part = limits.body_part
    else:
        draft, body_part = _fit(entries, header_sizes, closing, limits)
    parts = tuple(_parts(draft, limits.min_part, body_part))
    return Layout(
        size=size,
        parts=parts,
        offsets=tuple(offsets),
        directory_offset=directory_offset,
        directory_size=closing,
        single=single,
        spans=_spans(parts, len(entries)),
    )


def _fit(entries: Sequence[Entry], header_sizes: Sequence[int], closing: int, limits: Limits) -> tuple[_Draft, int]:
    """Return a draft and the smallest size of its body parts that together keep the limits."""
    draft = _draft(entries, header_sizes, closing, min_part=limits.min_part, packed_part=limits.packed_part)
    last = draft[-1]
    if isinstance(last, _Written) and last.size > limits.max_part:
        raise ArchiveTooLargeError(
            f"the part with the directory would be {last.size} bytes; max_part is {limits.max_part}"
        )
    bodies = [run.length for run in draft if isinstance(run, Data)]
    written = len(draft) - len(bodies)
    body_part = _body_part(bodies, limits, limits.max_parts - written)
    if body_part is None:
        needed = written + _count(bodies, limits.min_part, limits.max_part)
        raise ArchiveTooLargeError(
            f"{needed} parts would be needed, even with body parts as large as max_part ({limits.max_part} bytes); "
            f"max_parts is {limits.max_parts}"
        )
    return draft, body_part


def _draft(
    entries: Sequence[Entry], header_sizes: Sequence[int], closing: int, *, min_part: int, packed_part: int
) -> _Draft:
    draft: _Draft = []
    pieces: list[Piece] = []
    size = 0
    for index, (entry, header_size) in enumerate(zip(entries, header_sizes, strict=True)):
        if entry.size > packed_part:
            head = max(0, min_part - size - header_size)
            pieces.append(Header(index))
            if head:
                pieces.append(Data(index, 0, head))
            draft.append(_Written(size + header_size + head, tuple(pieces)))
            draft.append(Data(index, head, entry.size - head))
            pieces, size = [], 0
        else:
            whole = header_size + entry.size
            if size >= min_part and size + whole > packed_part:
                draft.append(_Written(size, tuple(pieces)))
                pieces, size = [], 0
            pieces.append(Header(index))
            if entry.size:
                pieces.append(Data(index, 0, entry.size))
            size += whole
    if size >= min_part:
        draft.append(_Written(size, tuple(pieces)))
        pieces, size = [], 0
    draft.append(_Written(size + closing, (*pieces, Directory())))
    return draft


def _body_part(bodies: Sequence[int], limits: Limits, room: int) -> int | None:
    """Return the smallest size, at least `body_part`, that cuts `bodies` in at most `room` parts; None if none does."""
    sizes = range(limits.body_part, limits.max_part + 1)
    # The count never rises with the size, so the sizes that fit are the upper end of the range.
    at = bisect_left(sizes, x=True, key=lambda size: _count(bodies, limits.min_part, size) <= room)
    return sizes[at] if at < len(sizes) else None


def _count(bodies: Sequence[int], min_part: int, body_part: int) -> int:
    return sum(_cuts(length, min_part, body_part) for length in bodies)


def _cuts(length: int, min_part: int, body_part: int) -> int:
    """Return in how many parts to cut `length` bytes: few enough for `body_part`, but none below `min_part`."""
    at_most_body_part = -(-length // body_part)
    at_least_min_part = length // min_part
    return min(at_most_body_part, at_least_min_part)


def _parts(draft: _Draft, min_part: int, body_part: int) -> Iterator[Part]:
    number, start = 1, 0
    for written in _cut(draft, min_part, body_part):
        yield Part(number, start, written.size, written.pieces)
        number += 1
        start += written.size


def _cut(draft: _Draft, min_part: int, body_part: int) -> Iterator[_Written]:
    for run in draft:
        if isinstance(run, _Written):
            yield run
            continue
        cuts = _cuts(run.length, min_part, body_part)
        edges = [run.length * cut // cuts for cut in range(cuts + 1)]
        for low, high in pairwise(edges):
            yield _Written(high - low, (Data(run.entry, run.offset + low, high - low),))


def _spans(parts: Sequence[Part], count: int) -> tuple[tuple[int, int], ...]:
    first, last = [0] * count, [0] * count
    for part in parts:
        for piece in part.pieces:
            if isinstance(piece, Directory):
                continue
            if isinstance(piece, Header):
                first[piece.entry] = part.number
            last[piece.entry] = part.number
    return tuple(zip(first, last, strict=True))
