"""From entries to a layout: arithmetic on names and sizes, before a byte moves.

Two kinds of parts come out. A *body part* is one slice of one entry, so that the store can copy it by itself, or an
archiver stream it. A *written part* holds headers, small entries, and what is too short to be copied; its bytes pass
through an archiver's memory. The planner keeps written parts few and small: they are what an archive costs.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice, pairwise
from typing import NamedTuple

from haulyard_zipline.draft import Run, Thresholds, Written, draft
from haulyard_zipline.entry import Entry
from haulyard_zipline.equal import equal_parts
from haulyard_zipline.errors import ArchiveTooLargeError
from haulyard_zipline.layout import Data, Directory, Header, Layout, Part, Piece
from haulyard_zipline.limits import Limits
from haulyard_zipline.records import directory_size, local_header_size
from haulyard_zipline.supply import Supply, copyable_ends


def plan(entries: Sequence[Entry], limits: Limits, supplies: Sequence[Supply] | None = None) -> Layout:
    """Return the layout of an archive of `entries`, in this order. The same arguments always give the same layout.

    - An archive up to `single_put` is one part.
    - Of an entry whose CRC-32 is known and whose data the store can copy, every run of at least `min_part` inside one
      segment is copied. The written part that the header is in takes just enough of the data before the run to reach
      `min_part`, so that a large file costs about `min_part` bytes that are not copied. What is too short to be
      copied is packed in written parts, which may begin and end amid such an entry.
    - Other entries with more data than `packed_part` are large. The header of a large entry ends a written part, with
      just enough of its data to reach `min_part`. The rest is streamed, or read and copied, in body parts.
    - All others are packed whole: a written part is closed when the next entry would exceed `packed_part` and the
      part has reached `min_part`. So a written part is smaller than `min_part + packed_part` plus two headers.
    - Runs are cut in body parts as equal as possible: up to `body_part` if they have to be read; if not, up to a
      `spread`-th of all such runs together, but at least `body_part` and at most `copied_part`.
    - The directory joins the last written part only while that is smaller than `min_part` and so could not be a part
      alone; else it is a part of its own, which holds little because it may have to wait for others.
    - When there would be more than `max_parts` parts, body parts grow as little as is needed, up to `max_part`. Where
      that is not enough, short runs are no longer copied: the least length worth it doubles until all fit. Written
      parts never grow: an archiver holds each whole in memory.
    - With `equal_parts` none of this holds: the archive is cut every `packed_part` bytes (or at the least multiple of
      1 MiB that keeps `max_parts`), through headers and the directory too. What lies in one segment is copied.

    Args:
        entries: what goes in the archive; none at all gives an empty archive, which is valid.
        limits: the sizes to keep.
        supplies: for each entry, where its data comes from; None: all of it has to be streamed.

    Raises:
        ArchiveTooLargeError: no layout keeps the limits.
        EntryError: the segments of an entry are more or less than its data.
        UnknownCrcError: parts have to be equal, and a CRC-32 is not known.
    """
    ends = copyable_ends(entries, supplies)
    header_sizes = [local_header_size(entry) for entry in entries]
    sizes = (header + entry.data_size for header, entry in zip(header_sizes, entries, strict=True))
    *offsets, directory_offset = accumulate(sizes, initial=0)
    closing = directory_size(entries, offsets, directory_offset)
    size = directory_offset + closing
    single = size <= limits.single_put
    written: Iterable[Written]
    if single:
        written = [Written(size, tuple(_everything(entries)))]
    elif limits.equal_parts:
        written = equal_parts(entries, header_sizes, closing, limits)
    else:
        drafted, lengths = _fit(entries, ends, header_sizes, closing, limits)
        written = _cut(drafted, limits.min_part, lengths)
    parts = tuple(_parts(written, ends))
    return Layout(
        size=size,
        parts=parts,
        offsets=tuple(offsets),
        directory_offset=directory_offset,
        directory_size=closing,
        single=single,
        spans=_spans(parts, len(entries)),
    )


class _Lengths(NamedTuple):
    """The most bytes of body parts, by kind of run."""

    read: int
    untouched: int

    def of(self, run: Run) -> int:
        return self.untouched if run.untouched else self.read


def _everything(entries: Sequence[Entry]) -> Iterator[Piece]:
    for index, entry in enumerate(entries):
        yield Header(index)
        if entry.data_size:
            yield Data(index, 0, entry.data_size)
    yield Directory()


def _fit(
    entries: Sequence[Entry],
    ends: Sequence[tuple[int, ...]],
    header_sizes: Sequence[int],
    closing: int,
    limits: Limits,
) -> tuple[list[Written | Run], _Lengths]:
    """Return a draft and the smallest lengths of its body parts that together keep the limits."""
    by = Thresholds(limits.min_part, limits.packed_part, least_run=limits.min_part)
    drafted = list(draft(entries, ends, header_sizes, closing, by))
    most = _Lengths(limits.max_part, limits.max_part)
    needed = sum(isinstance(item, Written) for item in drafted) + _count(_runs(drafted), limits.min_part, most)
    while True:
        last = drafted[-1]
        if isinstance(last, Written) and last.size > limits.max_part:
            raise ArchiveTooLargeError(
                f"the part with the directory would be {last.size} bytes; max_part is {limits.max_part}"
            )
        lengths = _lengths(drafted, limits)
        if lengths is not None:
            return drafted, lengths
        copied = [run.length for run in _runs(drafted) if run.untouched]
        if not copied:
            raise ArchiveTooLargeError(
                f"{needed} parts would be needed, even with body parts as large as max_part ({limits.max_part} "
                f"bytes); max_parts is {limits.max_parts}"
            )
        least_run = by.least_run
        # As long as all runs are worth it, the draft stays the same.
        while least_run <= min(copied):
            least_run *= 2
        by = by._replace(least_run=least_run)
        # What is no longer copied can make parts without end; one too many is enough to know.
        drafted = list(islice(draft(entries, ends, header_sizes, closing, by), limits.max_parts + 1))


def _runs(drafted: Iterable[Written | Run]) -> list[Run]:
    return [item for item in drafted if isinstance(item, Run)]


def _lengths(drafted: Sequence[Written | Run], limits: Limits) -> _Lengths | None:
    """Return the smallest lengths of body parts that keep `max_parts`; None if none do."""
    runs = _runs(drafted)
    room = limits.max_parts - (len(drafted) - len(runs))
    untouched = sum(run.length for run in runs if run.untouched)
    preferred = max(limits.body_part, min(-(-untouched // limits.spread), limits.copied_part, limits.max_part))
    steps = range(limits.body_part, limits.max_part + 1)

    def fits(step: int) -> bool:
        return _count(runs, limits.min_part, _Lengths(step, max(step, preferred))) <= room

    if not fits(limits.max_part):
        return None
    # The count never rises with the step, so the steps that fit are the upper end of the range.
    step = steps[bisect_left(steps, x=True, key=fits)]
    return _Lengths(step, max(step, preferred))


def _count(runs: Iterable[Run], min_part: int, lengths: _Lengths) -> int:
    return sum(_cuts(run.length, min_part, lengths.of(run)) for run in runs)


def _cuts(length: int, min_part: int, body_part: int) -> int:
    """Return in how many parts to cut `length` bytes: few enough for `body_part`, but none below `min_part`."""
    at_most_body_part = -(-length // body_part)
    at_least_min_part = length // min_part
    return min(at_most_body_part, at_least_min_part)


def _cut(drafted: Iterable[Written | Run], min_part: int, lengths: _Lengths) -> Iterator[Written]:
    for item in drafted:
        if isinstance(item, Written):
            yield item
            continue
        cuts = _cuts(item.length, min_part, lengths.of(item))
        edges = [item.length * cut // cuts for cut in range(cuts + 1)]
        for low, high in pairwise(edges):
            yield Written(high - low, (Data(item.entry, item.offset + low, high - low),))


def _parts(written: Iterable[Written], ends: Sequence[tuple[int, ...]]) -> Iterator[Part]:
    start = 0
    for number, (size, pieces) in enumerate(written, start=1):
        yield Part(number, start, size, pieces, copied=_is_copied(pieces, ends))
        start += size


def _is_copied(pieces: tuple[Piece, ...], ends: Sequence[tuple[int, ...]]) -> bool:
    """Whether a part is one slice within one copyable segment. It is not too small for that: the last part is none."""
    if len(pieces) != 1 or not isinstance(pieces[0], Data):
        return False
    piece = pieces[0]
    segment = bisect_right(ends[piece.entry], piece.offset)
    return segment < len(ends[piece.entry]) and piece.offset + piece.length <= ends[piece.entry][segment]


def _spans(parts: Sequence[Part], count: int) -> tuple[tuple[int, int], ...]:
    first, last = [0] * count, [0] * count
    for part in parts:
        for piece in part.pieces:
            if isinstance(piece, Directory):
                continue
            if isinstance(piece, Header) and not piece.offset:
                first[piece.entry] = part.number
            last[piece.entry] = part.number
    return tuple(zip(first, last, strict=True))
