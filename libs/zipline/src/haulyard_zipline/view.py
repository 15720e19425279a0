"""The archive as one run of bytes, of which any range can be had: for those who stream it before it is built."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from haulyard_zipline.entry import Entry
from haulyard_zipline.errors import UnknownCrcError
from haulyard_zipline.layout import Data
from haulyard_zipline.records import (
    central_header,
    central_header_size,
    end_records,
    local_header,
    local_header_size,
)

# Literal bytes are handed on in chunks of about this many bytes: headers of empty files are small and many.
_CHUNK: Final = 64 * 1024


class View:
    """Where everything is in an archive of some entries; the same bytes as any layout of these entries makes.

    Making a view takes time in proportion to the entries; taking a range of it, in proportion to the range.

    Args:
        entries: what goes in the archive, in order. Of those in a range, the CRC-32 has to be known.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = tuple(entries)
        self._header_sizes = [local_header_size(entry) for entry in self._entries]
        sizes = (size + entry.data_size for size, entry in zip(self._header_sizes, self._entries, strict=True))
        # Where each local header starts, and then the directory; where each central header starts, and then the end.
        self._starts = list(accumulate(sizes, initial=0))
        at = self._starts[-1]
        places = zip(self._entries, self._starts, strict=False)
        self._listings = list(accumulate((central_header_size(entry, start) for entry, start in places), initial=at))
        end = self._listings[-1]
        self._end_records = end_records(len(self._entries), end - at, at)
        self.size = end + len(self._end_records)
        """Bytes in the archive."""

    def content(self, start: int = 0, stop: int | None = None) -> Iterator[bytes | Data]:
        """Return what the archive has from byte `start` up to, not including, byte `stop` (None: its end), in order.

        Literal bytes are those of headers and directory; `Data` is to be read from where the entry's data is.

        Raises:
            UnknownCrcError: the CRC-32 of an entry with a header in the range is not known; raised before any content.
            ValueError: there is no such range.
        """
        stop = self.size if stop is None else stop
        if not 0 <= start <= stop <= self.size:
            raise ValueError(f"there are no bytes {start}..{stop} in an archive of {self.size}")
        local = self._touched(self._starts, start, stop)
        listed = self._touched(self._listings, start, stop)
        for index in (*local, *listed):
            is_read = index in listed or self._starts[index] + self._header_sizes[index] > start
            if is_read and self._entries[index].crc32 is None:
                raise UnknownCrcError(self._entries[index].name)
        return _gathered(self._range(local, listed, start, stop))

    def _touched(self, starts: Sequence[int], start: int, stop: int) -> range:
        """Return the indexes of the entries of which bytes in the range are, by where the bytes of each start."""
        if stop <= start:
            return range(0)
        return range(max(0, bisect_right(starts, start) - 1), min(bisect_left(starts, stop), len(self._entries)))

    def _range(self, local: range, listed: range, start: int, stop: int) -> Iterator[bytes | Data]:
        for index in local:
            at, header_size = self._starts[index], self._header_sizes[index]
            if at + header_size > start:
                yield _clipped(local_header(self._entries[index]), at, start, stop)
            first = max(0, start - at - header_size)
            last = min(self._entries[index].data_size, stop - at - header_size)
            if first < last:
                yield Data(index, first, last - first)
        for index in listed:
            header = central_header(self._entries[index], self._starts[index])
            yield _clipped(header, self._listings[index], start, stop)
        yield _clipped(self._end_records, self._listings[-1], start, stop)


def content(entries: Sequence[Entry], *, start: int = 0, stop: int | None = None) -> Iterator[bytes | Data]:
    """Return what an archive of `entries` has from byte `start` up to `stop`, as `View.content` does.

    Raises:
        UnknownCrcError: the CRC-32 of an entry with a header in the range is not known; raised before any content.
        ValueError: there is no such range.
    """
    return View(entries).content(start, stop)


def archive_size(entries: Sequence[Entry]) -> int:
    """Return the bytes of an archive of `entries`; they do not depend on any CRC-32."""
    return View(entries).size


def _clipped(data: bytes, at: int, start: int, stop: int) -> bytes:
    """Return those bytes of `data`, which lies at `at`, that are in the range."""
    return data[max(0, start - at) : max(0, stop - at)]


def _gathered(content_: Iterable[bytes | Data]) -> Iterator[bytes | Data]:
    held = bytearray()
    for piece in content_:
        if isinstance(piece, bytes):
            held += piece
        if held and (isinstance(piece, Data) or len(held) >= _CHUNK):
            yield bytes(held)
            held.clear()
        if isinstance(piece, Data):
            yield piece
    if held:
        yield bytes(held)
