"""Where the data of an entry lies, as far as planning needs to know: what the store could copy by itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from haulyard_zipline.entry import Entry
from haulyard_zipline.errors import EntryError


@dataclass(frozen=True, slots=True)
class Supply:
    """Where the data of an entry comes from.

    Raises:
        EntryError: a segment has no length.
    """

    segments: tuple[int, ...]
    """Bytes of the consecutive runs, each inside one object, that are the entry's data; none if it has no data."""

    copyable: bool
    """The objects lie in the store that takes the archive, and that can copy ranges of them into parts."""

    def __post_init__(self) -> None:
        if any(length < 1 for length in self.segments):
            raise EntryError(f"segments: {min(self.segments)} is not a length")


def copyable_ends(entries: Sequence[Entry], supplies: Sequence[Supply] | None) -> list[tuple[int, ...]]:
    """Return, for each entry, where its copyable segments end in its data; nothing for data that has to be streamed.

    Raises:
        EntryError: the segments of an entry are more or less than its data.
        ValueError: there are more or fewer supplies than entries.
    """
    if supplies is None:
        return [()] * len(entries)
    ends = []
    for entry, supply in zip(entries, supplies, strict=True):
        total = sum(supply.segments)
        if total != entry.data_size:
            raise EntryError(f"segments: those of {entry.name!r} are {total} bytes, its data {entry.data_size}")
        ends.append(tuple(accumulate(supply.segments)) if supply.copyable else ())
    return ends
