"""CRC-32 as ZIP has it (PKWARE APPNOTE 6.3.10, section 4.4.7), of bytes and of joined slices.

ISA-L computes it many times faster than zlib, and releases the GIL.
"""

from collections.abc import Iterable

from isal import isal_zlib


def crc32(data: bytes | bytearray | memoryview, value: int = 0) -> int:
    """Return the CRC-32 of what ``value`` is the CRC-32 of, followed by ``data``."""
    return int(isal_zlib.crc32(data, value))


def crc32_combine(first: int, second: int, second_length: int) -> int:
    """Return the CRC-32 of two byte strings put together, from that of each.

    Args:
        first: CRC-32 of the first.
        second: CRC-32 of the second.
        second_length: bytes of the second.
    """
    return int(isal_zlib.crc32_combine(first, second, second_length))


def join_crcs(slices: Iterable[tuple[int, int]]) -> int:
    """Return the CRC-32 of slices put together, each given as its CRC-32 and its length in bytes."""
    joined = 0
    for value, length in slices:
        joined = crc32_combine(joined, value, length)
    return joined
