"""An archive as far as its record tells of it: awaited, laid out, or built. Pure functions.

The ETag is the same before and after an archive is built, and never the same for other bytes: it is made of the digest
of what goes in (`haulyard_zipline.content_digest`) and of the size, which tells deflated forms apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from haulyard_contracts import ArchiveLocation, Source
from haulyard_zipline import Entry, View, content_digest, local_header_size


@dataclass(frozen=True, slots=True)
class Awaited:
    """Nobody knows yet what will be in it, or where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaidOut:
    """Every byte has its place: it can be had from the sources."""

    etag: str
    size: int
    """Bytes of the archive."""
    entries: tuple[Entry, ...]
    sources: tuple[Source, ...]
    """For each entry, where its data is."""

    def unknown(self, start: int, stop: int) -> tuple[int, ...]:
        """Return the entries whose CRC-32 is not known, and must be for what is in a range of the archive.

        That is in their headers, and in the directory, which lists all of them.
        """
        sizes = [local_header_size(entry) for entry in self.entries]
        steps = (size + entry.data_size for size, entry in zip(sizes, self.entries, strict=True))
        *places, directory = accumulate(steps, initial=0)
        return tuple(
            index
            for index, (entry, place, size) in enumerate(zip(self.entries, places, sizes, strict=True))
            if entry.crc32 is None and start < stop and (stop > directory or (place < stop and place + size > start))
        )

    def with_checksums(self, found: Mapping[int, int]) -> "LaidOut":
        """Return it with the CRC-32 of more entries, by their index."""
        entries = tuple(
            replace(entry, crc32=found[index]) if index in found else entry for index, entry in enumerate(self.entries)
        )
        return replace(self, entries=entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """It is an object in the store."""

    etag: str
    size: int
    location: ArchiveLocation


ArchiveState = Awaited | LaidOut | Built


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedEntry:
    """An entry, and where its data is."""

    entry: Entry
    source: Source
    identity: bytes
    """What tells its data apart from any other: its source as it is recorded, or the data itself."""


def recorded_etag(digest: str | None, size: int, entries: Sequence[RecordedEntry]) -> str:
    """Return the ETag of an archive.

    Args:
        digest: as recorded; None if a source has no version that it could be made of. Then what was staged has one.
        size: bytes of the archive.
        entries: all that is in it; not needed with a digest.
    """
    if digest is None:
        digest = content_digest([each.entry for each in entries], [each.identity for each in entries])
    return f'"{digest}-{size:x}"'


def laid_out(digest: str | None, size: int, entries: Sequence[RecordedEntry]) -> LaidOut | Awaited:
    """Return an archive of these entries; awaited if they do not make one of this size, so cannot be all of it."""
    archive = LaidOut(
        etag=recorded_etag(digest, size, entries),
        size=size,
        entries=tuple(each.entry for each in entries),
        sources=tuple(each.source for each in entries),
    )
    return archive if View(archive.entries).size == size else Awaited()
