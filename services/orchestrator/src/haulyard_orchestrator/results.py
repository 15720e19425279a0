"""What follows from the results of parts: checksums of entries, and which parts can be made now. Pure functions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from msgspec.structs import replace

from haulyard_contracts import PartDone, PartTask
from haulyard_orchestrator.part_records import PartRow
from haulyard_zipline import join_crcs


@dataclass(frozen=True, slots=True)
class Tail:
    """The data of a large entry that lies behind the part with its header."""

    crc32: int
    length: int


def whole_entries(task: PartTask, result: PartDone) -> dict[int, int]:
    """Return the CRC-32 of each entry that is stored as it is and whose data is all in this part."""
    sizes = {entry.index: entry.size for entry in task.entries if entry.packed is None}
    return {found.entry: found.crc32 for found in result.slices if found.length == sizes.get(found.entry)}


def slice_crc32(part: PartRow, result: PartDone) -> int | None:
    """Return the CRC-32 of the slice of a large entry that the part holds, or None if it holds none."""
    if part.slice_of is None:
        return None
    if not part.slice_length:
        return 0  # the part has the header of the entry and none of its data
    # None where the store copied the slice and nobody had to read it.
    return next((found.crc32 for found in result.slices if found.entry == part.slice_of), None)


def tail(slices: Sequence[PartRow]) -> Tail | None:
    """Return what lies behind the header's part, or None while some of it is missing.

    Args:
        slices: all parts that hold data of one entry, in order; the first has the header.
    """
    bodies = [part for part in slices if part.is_body]
    found = [(part.slice_crc32, part.slice_length or 0) for part in bodies if part.slice_crc32 is not None]
    if len(found) < len(bodies):
        return None
    return Tail(join_crcs(found), sum(length for _, length in found))


def joined(slices: Iterable[PartRow], sizes: Mapping[int, int]) -> dict[int, int]:
    """Return the CRC-32 of each large entry of which all slices were read.

    Args:
        slices: of all parts of these entries.
        sizes: bytes of each entry's data.
    """
    ordered = sorted(slices, key=lambda part: (part.slice_of or 0, part.slice_offset or 0, part.number))
    found: dict[int, int] = {}
    for entry, group in groupby(ordered, key=lambda part: part.slice_of or 0):
        read = [(part.slice_crc32, part.slice_length or 0) for part in group]
        known = [(checksum, length) for checksum, length in read if checksum is not None]
        if len(known) == len(read) and sum(length for _, length in known) == sizes[entry]:
            found[entry] = join_crcs(known)
    return found


def with_tail(task: PartTask, entry: int, behind: Tail) -> PartTask:
    """Return the task of a header's part, now that the data behind it is known."""
    return replace(
        task,
        entries=tuple(
            replace(each, tail_crc32=behind.crc32, tail_length=behind.length) if each.index == entry else each
            for each in task.entries
        ),
    )


def with_checksums(task: PartTask, checksums: Mapping[int, int]) -> PartTask:
    """Return the closing task with all checksums that other parts found out."""
    return replace(
        task,
        entries=tuple(
            replace(each, crc32=checksums[each.index]) if each.crc32 is None and each.index in checksums else each
            for each in task.entries
        ),
    )
