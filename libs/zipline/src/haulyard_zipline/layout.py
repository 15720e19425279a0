"""Where every byte of an archive comes from: pieces, gathered in parts, gathered in a layout.

A layout is a value. It holds no names and no CRCs, only indexes into the list of entries that it was planned from,
so it stays true while CRCs become known.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Header:
    """Literal bytes: the local file header of one entry, as `local_header` gives it."""

    entry: int
    """Index of the entry."""


@dataclass(frozen=True, slots=True)
class Data:
    """A slice of the data of one entry. Never empty."""

    entry: int
    """Index of the entry."""

    offset: int
    """First byte of the slice, counted from the start of the entry's data."""

    length: int
    """Bytes in the slice."""


@dataclass(frozen=True, slots=True)
class Directory:
    """Literal bytes: the central directory and the end records, as `directory` gives them."""


Piece = Header | Data | Directory


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the multipart upload (or the one PUT) that makes the archive.

    A part of a single `Data` piece can be copied inside the store; any other part has to be written.
    """

    number: int
    """Place in the upload, from 1."""

    start: int
    """Offset of the first byte in the archive."""

    size: int
    """Bytes in the part: the sum of its pieces."""

    pieces: tuple[Piece, ...]
    """What the part consists of, in order."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The plan of one archive. Every byte of the archive belongs to exactly one piece of exactly one part."""

    size: int
    """Bytes in the archive."""

    parts: tuple[Part, ...]
    """All parts in order; part number n is `parts[n - 1]`."""

    offsets: tuple[int, ...]
    """For each entry, the offset of its local file header in the archive."""

    directory_offset: int
    """Offset of the central directory in the archive."""

    directory_size: int
    """Bytes from there to the end of the archive: the central directory and the end records."""

    single: bool
    """The archive is small enough for one PUT: there is one part, and no multipart upload is needed."""

    spans: tuple[tuple[int, int], ...]
    """For each entry, the number of the part with its header and the number of the last part with its data."""

    def blockers(self, number: int, known: AbstractSet[int]) -> frozenset[int]:
        """Return the numbers of the parts that must be finished before part `number` can be written.

        - A part that only slices data waits for nothing.
        - A part with the header of a large entry waits for the parts with the rest of that entry's data, unless the
          entry's CRC-32 is known. (An entry that lies whole in one part never has to wait: whoever writes the part
          reads all of its data, so can compute the CRC-32 before writing the header.)
        - The part with the directory always waits for all others: it is the last thing written.

        Waiting never goes round in a circle: a header waits only for parts that wait for nothing.

        Args:
            number: the part that is to be written, from 1.
            known: indexes of the entries whose CRC-32 is known.

        Raises:
            IndexError: there is no such part.
        """
        if not 1 <= number <= len(self.parts):
            raise IndexError(f"there is no part {number} in a layout of {len(self.parts)}")
        pieces = self.parts[number - 1].pieces
        if isinstance(pieces[-1], Directory):
            return frozenset(range(1, len(self.parts) + 1)) - {number}
        blocking: set[int] = set()
        for piece in pieces:
            if isinstance(piece, Header) and piece.entry not in known:
                _, last = self.spans[piece.entry]
                blocking.update(range(number + 1, last + 1))
        return frozenset(blocking)
