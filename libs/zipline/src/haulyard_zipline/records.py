"""The records of a ZIP file: local headers, and the directory that ends it.

Source: PKWARE APPNOTE 6.3.10; the section of each record is named where it is built. All numbers are little-endian.
The data-descriptor bit is never set: sizes and CRC-32 stand in the local header, so that readers which cannot seek
(Java's ``ZipInputStream``, ``bsdtar`` from a pipe) understand the archive.
"""

import struct
from collections.abc import Sequence
from datetime import UTC, datetime

from haulyard_zipline.entries import Entry

_LOCAL = struct.Struct("<4s5H3I2H")
"""Local file header (4.3.7): signature, version needed, flags, method, time, date, CRC, 2 sizes, 2 lengths."""
_CENTRAL = struct.Struct("<4s6H3I5H2I")
"""Central directory header (4.3.12)."""
_END64 = struct.Struct("<4sQ2H2I4Q")
"""Zip64 end of central directory record (4.3.14)."""
_LOCATOR = struct.Struct("<4sIQI")
"""Zip64 end of central directory locator (4.3.15)."""
_END = struct.Struct("<4s4H2IH")
"""End of central directory record (4.3.16)."""

_STORED = 0  # method (4.4.5)
_UTF8 = 1 << 11  # general purpose flag bit 11 (4.4.4): the name is UTF-8
_VERSION = 20  # 2.0 (4.4.3.2): the least that extractors with directories in names know
_VERSION64 = 45  # 4.5: Zip64
_MADE_BY_UNIX = 3 << 8  # upper byte of "version made by" (4.4.2)
_MODE = 0o100644 << 16  # external attributes of a Unix file (4.4.15): regular file, rw-r--r--

_TIMESTAMP = 0x5455  # "UT", Info-ZIP's extended timestamp (4.6.1)
_ZIP64 = 0x0001  # Zip64 extended information (4.5.3)

MAX32 = 0xFFFFFFFF
"""A 4-byte size or offset of this value says: look in the Zip64 field. So the largest that fits is one less."""
MAX16 = 0xFFFF
"""The same for the number of entries."""


class UnknownChecksumError(ValueError):
    """A header was asked for of an entry whose CRC-32 is not known yet."""


def _dos_time(mtime: int) -> tuple[int, int]:
    """Return time and date as MS-DOS has them (4.4.6): two-second steps, 1980 to 2107, here in UTC."""
    earliest, latest = datetime(1980, 1, 1, tzinfo=UTC), datetime(2107, 12, 31, 23, 59, 58, tzinfo=UTC)
    clamped = min(max(mtime, int(earliest.timestamp())), int(latest.timestamp()))
    moment = datetime.fromtimestamp(clamped, UTC)
    time = moment.hour << 11 | moment.minute << 5 | moment.second // 2
    date = (moment.year - 1980) << 9 | moment.month << 5 | moment.day
    return time, date


def _timestamp(mtime: int) -> bytes:
    """Return the extended timestamp field with the time of the last change; it holds 4 signed bytes."""
    clamped = min(max(mtime, -(2**31)), 2**31 - 1)
    return struct.pack("<HHBi", _TIMESTAMP, 5, 1, clamped)


_TIMESTAMP_SIZE = len(_timestamp(0))


def _zip64(*values: int) -> bytes:
    return struct.pack(f"<HH{len(values)}Q", _ZIP64, 8 * len(values), *values) if values else b""


def local_header_size(entry: Entry) -> int:
    """Return the bytes of an entry's local header; they do not depend on its CRC-32."""
    return _LOCAL.size + len(entry.encoded_name) + _TIMESTAMP_SIZE + (20 if entry.size >= MAX32 else 0)


def local_header(entry: Entry) -> bytes:
    """Return an entry's local header (4.3.7).

    Raises:
        UnknownChecksumError: the entry has no CRC-32 yet.
    """
    if entry.crc32 is None:
        raise UnknownChecksumError(entry.name)
    large = entry.size >= MAX32
    size = MAX32 if large else entry.size
    # In a local header the Zip64 field holds both sizes or none (4.5.3).
    extra = _timestamp(entry.mtime) + (_zip64(entry.size, entry.size) if large else b"")
    name = entry.encoded_name
    return (
        _LOCAL.pack(
            b"PK\x03\x04",
            _VERSION64 if large else _VERSION,
            _UTF8,
            _STORED,
            *_dos_time(entry.mtime),
            entry.crc32,
            size,
            size,
            len(name),
            len(extra),
        )
        + name
        + extra
    )


def _central_zip64(entry: Entry, offset: int) -> tuple[int, ...]:
    """Return the values that do not fit the central header, in the order of 4.5.3."""
    sizes = (entry.size, entry.size) if entry.size >= MAX32 else ()
    return (*sizes, offset) if offset >= MAX32 else sizes


def _central_header(entry: Entry, offset: int) -> bytes:
    """Return an entry's header in the directory (4.3.12)."""
    if entry.crc32 is None:
        raise UnknownChecksumError(entry.name)
    beyond = _central_zip64(entry, offset)
    version = _VERSION64 if beyond else _VERSION
    extra = _timestamp(entry.mtime) + _zip64(*beyond)
    size = min(entry.size, MAX32)
    name = entry.encoded_name
    return (
        _CENTRAL.pack(
            b"PK\x01\x02",
            _MADE_BY_UNIX | version,
            version,
            _UTF8,
            _STORED,
            *_dos_time(entry.mtime),
            entry.crc32,
            size,
            size,
            len(name),
            len(extra),
            0,  # no comment
            0,  # on the first disk
            0,  # internal attributes: binary
            _MODE,
            min(offset, MAX32),
        )
        + name
        + extra
    )


def _headers_size(entries: Sequence[Entry], offsets: Sequence[int]) -> int:
    return sum(
        _CENTRAL.size
        + len(entry.encoded_name)
        + _TIMESTAMP_SIZE
        + (4 + 8 * len(beyond) if (beyond := _central_zip64(entry, offset)) else 0)
        for entry, offset in zip(entries, offsets, strict=True)
    )


def _needs_zip64(count: int, size: int, offset: int) -> bool:
    return count >= MAX16 or size >= MAX32 or offset >= MAX32


def directory_size(entries: Sequence[Entry], offsets: Sequence[int], start: int) -> int:
    """Return the bytes of what `directory` returns for the same arguments; they do not depend on any CRC-32."""
    size = _headers_size(entries, offsets)
    zip64 = _END64.size + _LOCATOR.size if _needs_zip64(len(entries), size, start) else 0
    return size + zip64 + _END.size


def directory(entries: Sequence[Entry], offsets: Sequence[int], start: int) -> bytes:
    """Return what ends the archive: central directory, Zip64 records where needed, end record.

    Args:
        entries: all entries, in their order.
        offsets: where the local header of each starts, in bytes.
        start: where the directory itself starts, in bytes.

    Raises:
        UnknownChecksumError: an entry has no CRC-32 yet.
    """
    headers = b"".join(_central_header(entry, offset) for entry, offset in zip(entries, offsets, strict=True))
    count, size = len(entries), len(headers)
    end64 = b""
    if _needs_zip64(count, size, start):
        end64 = _END64.pack(
            b"PK\x06\x06",
            _END64.size - 12,  # of the rest of this record, without signature and this field (4.3.14.1)
            _MADE_BY_UNIX | _VERSION64,
            _VERSION64,
            0,
            0,
            count,
            count,
            size,
            start,
        ) + _LOCATOR.pack(b"PK\x06\x07", 0, start + size, 1)
    end = _END.pack(
        b"PK\x05\x06",
        0,
        0,
        min(count, MAX16),
        min(count, MAX16),
        min(size, MAX32),
        min(start, MAX32),
        0,
    )
    return headers + end64 + end
