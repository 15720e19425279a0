"""Where every byte of an archive comes from: pieces, gathered in parts, gathered in a layout.

A layout is a value. It holds no names and no CRCs, only indexes into the list of entries that it was planned from,
so it stays true while CRCs become known.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Header:
    """Literal bytes: the local file header of one entry, as `local_header` gives it, or a slice of it."""

    entry: int
    """Index of the entry."""

    offset: int = 0
    """First byte of the slice, counted from the start of the header."""

    length: int | None = None
    """Bytes in the slice; None: to the end of the header."""


@dataclass(frozen=True, slots=True)
class Data:
    """A slice of the data of one entry, as it is in the archive: deflated, if the entry is. Never empty."""

    entry: int
    """Index of the entry."""

    offset: int
    """First byte of the slice, counted from the start of the entry's data."""

    length: int
    """Bytes in the slice."""


@dataclass(frozen=True, slots=True)
class Directory:
    """Literal bytes: the central directory and the end records, as `directory` gives them, or a slice of them."""

    offset: int = 0
    """First byte of the slice, counted from the start of the directory."""

    length: int | None = None
    """Bytes in the slice; None: to the end of the archive."""


Piece = Header | Data | Directory


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the multipart upload (or the one PUT) that makes the archive.

    It holds at most one `Data` piece of each entry. A part of a single `Data` piece can be streamed; any other is put
    together from its pieces.
    """

    number: int
    """Place in the upload, from 1."""

    start: int
    """Offset of the first byte in the archive."""

    size: int
    """Bytes in the part: the sum of its pieces."""

    pieces: tuple[Piece, ...]
    """What the part consists of, in order."""

    copied: bool = False
    """The part is one `Data` piece that lies within one copyable segment: the store can copy it by itself."""


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

        - A part without headers or directory waits for nothing.
        - A part with the header of an entry waits for the later parts with data of that entry, unless the entry's
          CRC-32 is known. (An entry that lies whole in one part never has to wait: whoever writes the part reads all
          of its data, so can compute the CRC-32 before writing the header.)
        - A part with the directory, or a slice of it, waits for all parts with data of entries whose CRC-32 is
          neither known nor found out in that part itself. With every CRC-32 known it waits for nothing.

        Waiting never goes round in a circle: headers wait only for later parts, and no entry whose CRC-32 was unknown
        when the layout was planned has data both in the part with the directory and in another.

        Args:
            number: the part that is to be written, from 1.
            known: indexes of the entries whose CRC-32 is known; at least those for which it was when they were planned.

        Raises:
            IndexError: there is no such part.
        """
        if not 1 <= number <= len(self.parts):
            raise IndexError(f"there is no part {number} in a layout of {len(self.parts)}")
        pieces = self.parts[number - 1].pieces
        blocking: set[int] = set()
        for piece in pieces:
            if isinstance(piece, Header) and piece.entry not in known:
                _, last = self.spans[piece.entry]
                blocking.update(range(number + 1, last + 1))
        if isinstance(pieces[-1], Directory):
            blocking.update(part.number for part in self.parts if _teaches(part, known))
        return frozenset(blocking - {number})


def _teaches(part: Part, known: AbstractSet[int]) -> bool:
    """Whether there is something to learn from the part: data of entries whose CRC-32 is not known."""
    return any(isinstance(piece, Data) and piece.entry not in known for piece in part.pieces)
