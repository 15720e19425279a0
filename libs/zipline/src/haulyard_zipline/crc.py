"""CRC-32 (APPNOTE 4.4.7) of bytes, and of data whose slices were read by different hands."""

from collections.abc import Iterable

from isal import isal_zlib


def crc32(data: bytes | bytearray | memoryview, value: int = 0) -> int:
    """Return the CRC-32 of `data`, going on from `value`, the CRC-32 of the bytes before it."""
    return isal_zlib.crc32(data, value)


def crc32_combine(crc1: int, crc2: int, len2: int) -> int:
    """Return the CRC-32 of two runs of bytes joined, from the CRC-32 of each and the length of the second in bytes.

    Raises:
        ValueError: `len2` is negative.
    """
    # The C function takes a negative length for zero, and would hand back a CRC that looks right.
    if len2 < 0:
        raise ValueError(f"a slice cannot be {len2} bytes long")
    return isal_zlib.crc32_combine(crc1, crc2, len2)


def join_crcs(slices: Iterable[tuple[int, int]]) -> int:
    """Return the CRC-32 of data cut into slices, each given as (its CRC-32, its length in bytes), in their order.

    Raises:
        ValueError: a length is negative.
    """
    joined = 0
    for crc, length in slices:
        joined = crc32_combine(joined, crc, length)
    return joined
