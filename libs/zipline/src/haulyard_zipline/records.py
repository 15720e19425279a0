"""The records of a ZIP as bytes: local file headers, the central directory, the end records.

Section numbers are those of PKWARE's APPNOTE.TXT 6.3.10. All numbers are little-endian (4.4.1.1).

Every size here is the length of bytes built by the same functions that build the record, so that sizes (needed for
the layout, before CRCs are known) and bytes (needed when parts are written) cannot drift apart.
"""

import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from haulyard_zipline.entry import MAX_NAME_BYTES, Entry
from haulyard_zipline.errors import UnknownCrcError
from haulyard_zipline.layout import Layout

# 4.3.7 local file header: signature; version needed, flags, method, time, date; CRC-32, compressed size,
# uncompressed size; name length, extra field length.
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_LOCAL_SIGNATURE: Final = b"PK\x03\x04"

# 4.3.12 central directory header: signature; version made by, version needed, flags, method, time, date; CRC-32,
# compressed size, uncompressed size; name length, extra field length, comment length, disk, internal attributes;
# external attributes, offset of the local header.
_CENTRAL: Final = struct.Struct("<4s6H3L5H2L")
_CENTRAL_SIGNATURE: Final = b"PK\x01\x02"

# 4.3.14 Zip64 end of central directory record: signature, size of the rest; version made by, version needed; this
# disk, disk of the directory; entries on this disk, entries in total, directory size, directory offset.
_END64: Final = struct.Struct("<4sQ2H2L4Q")
_END64_SIGNATURE: Final = b"PK\x06\x06"
# 4.3.14.1: the size of the record leaves out the signature (4 bytes) and the size field itself (8 bytes).
_END64_REST: Final = _END64.size - 12

# 4.3.15 Zip64 end of central directory locator: signature, disk of the Zip64 end record, its offset, number of disks.
_LOCATOR: Final = struct.Struct("<4sLQL")
_LOCATOR_SIGNATURE: Final = b"PK\x06\x07"

# 4.3.16 end of central directory record: signature; this disk, disk of the directory, entries on this disk, entries
# in total; directory size, directory offset; comment length.
_END: Final = struct.Struct("<4s4H2LH")
_END_SIGNATURE: Final = b"PK\x05\x06"

# 4.4.1.4: a field that holds its greatest value says "look in the Zip64 field instead", so that value itself and
# everything above it need Zip64.
_ESCAPE_16: Final = 0xFFFF
_ESCAPE_32: Final = 0xFFFFFFFF

# 4.4.2: upper byte 3 = the attributes are Unix's; lower byte 63 = written to version 6.3 of the specification.
_MADE_BY: Final = (3 << 8) | 63

# 4.4.3.2: 2.0 is what every reader knows, deflate included; 4.5 = uses Zip64.
_NEEDED: Final = 20
_NEEDED_ZIP64: Final = 45

# 4.4.4 bit 11 and appendix D: name is UTF-8. Bit 3 (sizes follow the data) stays clear: streaming readers cannot find
# the end of stored data without its size.
_FLAGS: Final = 1 << 11

# 4.4.5: the data is stored as it is, or deflated.
_STORED: Final = 0
_DEFLATED: Final = 8

# 4.4.15: Unix keeps st_mode in the upper two bytes: a regular file (S_IFREG), rw-r--r--.
_EXTERNAL_ATTRIBUTES: Final = 0o100644 << 16

# 4.5.3 Zip64 extended information, and 4.6.1's extended timestamp (Info-ZIP): header ID, size of what follows.
_EXTRA: Final = struct.Struct("<2H")
_ZIP64_ID: Final = 0x0001
_TIMESTAMP_ID: Final = 0x5455
# Info-ZIP: flags (bit 0 = modification time is given), then the time as a signed 32-bit number of Unix seconds.
_TIMESTAMP: Final = struct.Struct("<Bl")
_TIMESTAMP_HAS_MTIME: Final = 1
_TIMESTAMP_RANGE: Final = range(-(2**31), 2**31)

# 4.4.6: MS-DOS dates count years from 1980 in seven bits, times count in steps of two seconds.
_DOS_EPOCH_YEAR: Final = 1980
_DOS_FIRST: Final = int(datetime(1980, 1, 1, tzinfo=UTC).timestamp())
_DOS_LAST: Final = int(datetime(2107, 12, 31, 23, 59, 58, tzinfo=UTC).timestamp())

# The most bytes that a local header can take: the longest name, both sizes in Zip64, the timestamp.
MAX_LOCAL_HEADER_SIZE: Final = _LOCAL.size + MAX_NAME_BYTES + (_EXTRA.size + 2 * 8) + (_EXTRA.size + _TIMESTAMP.size)


def local_header(entry: Entry) -> bytes:
    """Return the local file header of `entry` (APPNOTE 4.3.7), the bytes right before its data.

    Raises:
        UnknownCrcError: the entry's CRC-32 is not known yet.
    """
    name = entry.name.encode()
    zip64 = _local_zip64(entry)
    extra = zip64 + _timestamp(entry.mtime)
    time, date = _dos_time(entry.mtime)
    fixed = _LOCAL.pack(
        _LOCAL_SIGNATURE,
        _NEEDED_ZIP64 if zip64 else _NEEDED,
        _FLAGS,
        _method(entry),
        time,
        date,
        _known_crc(entry),
        _ESCAPE_32 if zip64 else entry.data_size,
        _ESCAPE_32 if zip64 else entry.size,
        len(name),
        len(extra),
    )
    return fixed + name + extra


def local_header_size(entry: Entry) -> int:
    """Return the length of the local file header of `entry` in bytes; it does not depend on the CRC-32."""
    return _LOCAL.size + len(entry.name.encode()) + len(_local_zip64(entry)) + len(_timestamp(entry.mtime))


def directory(entries: Sequence[Entry], layout: Layout) -> bytes:
    """Return everything after the last entry's data: the central directory and the end records (APPNOTE 4.3.6).

    Args:
        entries: the entries that `layout` was planned from, in the same order, now all with their CRC-32.
        layout: where the entries are. The result is `layout.directory_size` bytes long.

    Raises:
        UnknownCrcError: an entry's CRC-32 is not known yet.
        ValueError: there are more or fewer entries than the layout has.
    """
    return directory_at(entries, layout.offsets, layout.directory_offset)


def directory_at(entries: Sequence[Entry], offsets: Sequence[int], directory_offset: int) -> bytes:
    """Return what `directory` returns, for those who were only told the places and do not have the layout.

    Args:
        entries: all entries of the archive, in order, all with their CRC-32.
        offsets: for each entry, the offset of its local file header in the archive.
        directory_offset: offset of the central directory in the archive.

    Raises:
        UnknownCrcError: an entry's CRC-32 is not known yet.
        ValueError: there are more or fewer entries than offsets.
    """
    headers = b"".join(central_header(entry, offset) for entry, offset in zip(entries, offsets, strict=True))
    return headers + end_records(len(entries), len(headers), directory_offset)


def directory_size(entries: Sequence[Entry], offsets: Sequence[int], directory_offset: int) -> int:
    """Return the length of what `directory` will give, in bytes; it does not depend on any CRC-32.

    Args:
        entries: all entries of the archive, in order.
        offsets: for each entry, the offset of its local file header in the archive.
        directory_offset: offset of the central directory in the archive.

    Raises:
        ValueError: there are more or fewer entries than offsets.
    """
    headers = sum(central_header_size(entry, offset) for entry, offset in zip(entries, offsets, strict=True))
    return headers + len(end_records(len(entries), headers, directory_offset))


def central_header_size(entry: Entry, offset: int) -> int:
    """Return the length of what `central_header` will give, in bytes; it does not depend on the CRC-32."""
    return _CENTRAL.size + len(entry.name.encode()) + len(_central_zip64(entry, offset)) + len(_timestamp(entry.mtime))


def central_header(entry: Entry, offset: int) -> bytes:
    """Return the central directory header of `entry` (APPNOTE 4.3.12), whose local header is at `offset`.

    Raises:
        UnknownCrcError: the entry's CRC-32 is not known yet.
    """
    name = entry.name.encode()
    zip64 = _central_zip64(entry, offset)
    extra = zip64 + _timestamp(entry.mtime)
    time, date = _dos_time(entry.mtime)
    fixed = _CENTRAL.pack(
        _CENTRAL_SIGNATURE,
        _MADE_BY,
        _NEEDED_ZIP64 if zip64 else _NEEDED,
        _FLAGS,
        _method(entry),
        time,
        date,
        _known_crc(entry),
        min(entry.data_size, _ESCAPE_32),
        min(entry.size, _ESCAPE_32),
        len(name),
        len(extra),
        0,
        0,
        0,
        _EXTERNAL_ATTRIBUTES,
        min(offset, _ESCAPE_32),
    )
    return fixed + name + extra


def end_records(count: int, headers_size: int, headers_offset: int) -> bytes:
    """Return what ends an archive (APPNOTE 4.3.14 to 4.3.16): the Zip64 records if they are needed, the end record.

    Args:
        count: entries in the archive.
        headers_size: bytes of all central directory headers.
        headers_offset: where these begin in the archive.
    """
    zip64 = count >= _ESCAPE_16 or headers_size >= _ESCAPE_32 or headers_offset >= _ESCAPE_32
    records = b""
    if zip64:
        records += _END64.pack(
            _END64_SIGNATURE,
            _END64_REST,
            _MADE_BY,
            _NEEDED_ZIP64,
            0,
            0,
            count,
            count,
            headers_size,
            headers_offset,
        )
        records += _LOCATOR.pack(_LOCATOR_SIGNATURE, 0, headers_offset + headers_size, 1)
    few = min(count, _ESCAPE_16)
    records += _END.pack(
        _END_SIGNATURE,
        0,
        0,
        few,
        few,
        min(headers_size, _ESCAPE_32),
        min(headers_offset, _ESCAPE_32),
        0,
    )
    return records


def _local_zip64(entry: Entry) -> bytes:
    # 4.5.3: a local header has to carry both sizes, original and compressed, or none.
    sizes = [entry.size, entry.data_size]
    return _zip64(sizes if max(sizes) >= _ESCAPE_32 else [])


def _central_zip64(entry: Entry, offset: int) -> bytes:
    # 4.5.3: here only the fields that overflow, in this order: original size, compressed size, header offset.
    return _zip64([value for value in (entry.size, entry.data_size, offset) if value >= _ESCAPE_32])


def _zip64(values: list[int]) -> bytes:
    if not values:
        return b""
    return _EXTRA.pack(_ZIP64_ID, 8 * len(values)) + struct.pack(f"<{len(values)}Q", *values)


def _timestamp(mtime: int) -> bytes:
    # A time that does not fit is left out, not bent: readers then use the MS-DOS date, which reaches to 2107.
    if mtime not in _TIMESTAMP_RANGE:
        return b""
    return _EXTRA.pack(_TIMESTAMP_ID, _TIMESTAMP.size) + _TIMESTAMP.pack(_TIMESTAMP_HAS_MTIME, mtime)


def _dos_time(mtime: int) -> tuple[int, int]:
    """Return (time, date) of APPNOTE 4.4.6, in UTC because the archive must not depend on where it is made."""
    moment = datetime.fromtimestamp(min(max(mtime, _DOS_FIRST), _DOS_LAST), UTC)
    time = (moment.hour << 11) | (moment.minute << 5) | (moment.second // 2)
    date = ((moment.year - _DOS_EPOCH_YEAR) << 9) | (moment.month << 5) | moment.day
    return time, date


def _method(entry: Entry) -> int:
    return _STORED if entry.packed is None else _DEFLATED


def _known_crc(entry: Entry) -> int:
    if entry.crc32 is None:
        raise UnknownCrcError(entry.name)
    return entry.crc32
