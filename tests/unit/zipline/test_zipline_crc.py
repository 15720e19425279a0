import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haulyard_zipline import crc32, crc32_combine, join_crcs

# The check value of CRC-32/ISO-HDLC, the CRC of ZIP.
CHECK = b"123456789"
CHECK_CRC = 0xCBF43926


@pytest.mark.parametrize("data", [CHECK, bytearray(CHECK), memoryview(CHECK)], ids=["bytes", "bytearray", "memoryview"])
def test_it_is_the_crc_of_zip(data: bytes | bytearray | memoryview) -> None:
    assert crc32(data) == CHECK_CRC


@given(st.binary(), st.binary())
def test_going_on_from_a_value_equals_reading_all_at_once(first: bytes, second: bytes) -> None:
    assert crc32(second, crc32(first)) == zlib.crc32(first + second)


@given(st.binary(), st.binary())
def test_combining_two_crcs_equals_reading_all_at_once(first: bytes, second: bytes) -> None:
    assert crc32_combine(crc32(first), crc32(second), len(second)) == zlib.crc32(first + second)


@given(st.lists(st.binary()))
def test_joining_slices_in_order_equals_reading_all_at_once(slices: list[bytes]) -> None:
    assert join_crcs((crc32(data), len(data)) for data in slices) == zlib.crc32(b"".join(slices))


def test_joining_no_slices_is_the_crc_of_no_bytes() -> None:
    assert join_crcs([]) == zlib.crc32(b"") == 0


def test_lengths_beyond_32_bits_count_in_full() -> None:
    # 2**33 zeros by doubling, one at a time; the length is no multiple of 2**32 - 1, the period of the CRC.
    crc, length = crc32(b"\0"), 1
    while length < 2**33:
        crc, length = crc32_combine(crc, crc, length), 2 * length
    # The same by 32 equal slices.
    sixteenth = crc32(b"\0"), 1
    while sixteenth[1] < 2**28:
        sixteenth = crc32_combine(sixteenth[0], sixteenth[0], sixteenth[1]), 2 * sixteenth[1]
    assert join_crcs([sixteenth] * 32) == crc
    # Taken once from a pass of zlib over as many zeros.
    assert crc == 0x41D912FF


def test_a_negative_length_is_refused() -> None:
    with pytest.raises(ValueError, match="-1 bytes"):
        crc32_combine(1, 2, -1)
