"""Headers and end records, field by field, read by an independent parser: this file. Offsets are those of APPNOTE."""

import struct
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haulyard_zipline import (
    Entry,
    Limits,
    UnknownCrcError,
    directory,
    directory_at,
    directory_size,
    local_header,
    local_header_size,
    plan,
)
from haulyard_zipline.records import MAX_LOCAL_HEADER_SIZE, end_records

ESCAPE = 0xFFFFFFFF
GIB = 1024**3
MARCH = int(datetime(2024, 3, 5, 7, 9, 11, tzinfo=UTC).timestamp())
ENTRY = Entry("é.txt", 5, 0x12345678, MARCH)
# 2024-03-05 07:09:10, for seconds come in twos.
DOS_TIME = 7 << 11 | 9 << 5 | 5
DOS_DATE = 44 << 9 | 3 << 5 | 5
TIMESTAMP = struct.pack("<HHBl", 0x5455, 5, 1, MARCH)


def unpack(layout: str, data: bytes, at: int = 0) -> tuple[int, ...]:
    return struct.unpack_from("<" + layout, data, at)


def extras(data: bytes) -> dict[int, bytes]:
    found = {}
    while data:
        kind, length = unpack("HH", data)
        assert kind not in found
        found[kind], data = data[4 : 4 + length], data[4 + length :]
        assert len(found[kind]) == length
    return found


def local_extras(header: bytes) -> dict[int, bytes]:
    name_length, extra_length = unpack("HH", header, 26)
    assert len(header) == 30 + name_length + extra_length
    return extras(header[30 + name_length :])


def central_extras(header: bytes) -> dict[int, bytes]:
    name_length, extra_length = unpack("HH", header, 28)
    return extras(header[46 + name_length : 46 + name_length + extra_length])


def central_header(entry: Entry, offset: int) -> bytes:
    return directory_at([entry], [offset], offset + entry.size)


def read_end_records(data: bytes) -> tuple[dict[str, int], dict[str, int] | None]:
    """The end record and, if there is one, the Zip64 end record."""
    end = data[-22:]
    assert end[:4] == b"PK\x05\x06"
    disk, start_disk, here, count, size, offset, comment = unpack("4H2LH", end, 4)
    assert (disk, start_disk, comment) == (0, 0, 0)
    assert here == count
    classic = {"count": count, "size": size, "offset": offset}
    locator = data[-42:-22]
    if locator[:4] != b"PK\x06\x07":
        return classic, None
    disk, at, disks = unpack("LQL", locator, 4)
    assert (disk, disks) == (0, 1)
    end64 = data[-98:-42]
    assert end64[:4] == b"PK\x06\x06"
    rest, _, needed, disk, start_disk, here, count, size, offset = unpack("Q2H2L4Q", end64, 4)
    assert rest == 44
    assert needed == 45
    assert (disk, start_disk) == (0, 0)
    assert here == count
    assert at == offset + size
    return classic, {"count": count, "size": size, "offset": offset}


def test_a_local_header_has_exactly_these_bytes() -> None:
    name = "é.txt".encode()
    expected = (
        b"PK\x03\x04"
        + struct.pack("<5H", 20, 1 << 11, 0, DOS_TIME, DOS_DATE)
        + struct.pack("<3L2H", 0x12345678, 5, 5, len(name), len(TIMESTAMP))
        + name
        + TIMESTAMP
    )
    assert local_header(ENTRY) == expected


def test_a_directory_has_exactly_these_bytes() -> None:
    name = "é.txt".encode()
    central = (
        b"PK\x01\x02"
        + struct.pack("<6H", 3 << 8 | 63, 20, 1 << 11, 0, DOS_TIME, DOS_DATE)
        + struct.pack("<3L", 0x12345678, 5, 5)
        + struct.pack("<5H2L", len(name), len(TIMESTAMP), 0, 0, 0, 0o100644 << 16, 0)
        + name
        + TIMESTAMP
    )
    data_end = len(local_header(ENTRY)) + 5
    end = b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, 1, 1, len(central), data_end, 0)
    assert directory([ENTRY], plan([ENTRY], Limits())) == central + end


def test_headers_of_deflated_data_say_so_and_give_both_sizes() -> None:
    entry = replace(ENTRY, packed=3)
    header, central = local_header(entry), central_header(entry, 0)
    assert unpack("HHH", header, 4) == (20, 1 << 11, 8)
    assert unpack("HHH", central, 6) == (20, 1 << 11, 8)
    # CRC-32 of the file, compressed size, size of the file.
    assert unpack("LLL", header, 14) == unpack("LLL", central, 16) == (0x12345678, 3, 5)
    assert len(header) == len(local_header(ENTRY))


@pytest.mark.parametrize(
    ("size", "packed", "central_field"),
    [
        (ESCAPE, 5, struct.pack("<Q", ESCAPE)),
        (5 * GIB, ESCAPE - 1, struct.pack("<Q", 5 * GIB)),
        (ESCAPE - 1, ESCAPE, struct.pack("<Q", ESCAPE)),
        (5 * GIB, 4 * GIB, struct.pack("<QQ", 5 * GIB, 4 * GIB)),
    ],
)
def test_zip64_fields_hold_both_sizes_in_local_headers_and_what_overflows_in_central_ones(
    size: int, packed: int, central_field: bytes
) -> None:
    entry = replace(ENTRY, size=size, packed=packed)
    header, central = local_header(entry), central_header(entry, 0)
    assert unpack("HHH", header, 4) == unpack("HHH", central, 6) == (45, 1 << 11, 8)
    assert unpack("LL", header, 18) == (ESCAPE, ESCAPE)
    assert local_extras(header)[1] == struct.pack("<QQ", size, packed)
    assert unpack("LL", central, 20) == (min(packed, ESCAPE), min(size, ESCAPE))
    assert central_extras(central)[1] == central_field


def test_headers_are_not_written_before_the_crc_is_known() -> None:
    entry = replace(ENTRY, crc32=None)
    with pytest.raises(UnknownCrcError, match=r"é\.txt") as caught:
        local_header(entry)
    assert caught.value.name == "é.txt"
    with pytest.raises(UnknownCrcError):
        directory([ENTRY, entry], plan([ENTRY, entry], Limits()))


def test_a_directory_of_other_entries_than_the_layouts_is_refused() -> None:
    layout = plan([ENTRY, ENTRY], Limits())
    with pytest.raises(ValueError, match="zip"):
        directory([ENTRY], layout)


entries = st.builds(
    Entry,
    name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50),
    size=st.one_of(st.integers(0, 1000), st.integers(ESCAPE - 2, ESCAPE + 2), st.integers(0, 2**63 - 1)),
    crc32=st.integers(0, ESCAPE),
    mtime=st.integers(-(2**45), 2**45),
    packed=st.one_of(st.none(), st.integers(1, 1000), st.integers(ESCAPE - 2, ESCAPE + 2)),
)


@given(entries)
def test_sizes_of_local_headers_are_known_before_crcs(entry: Entry) -> None:
    assert local_header_size(replace(entry, crc32=None)) == len(local_header(entry)) <= MAX_LOCAL_HEADER_SIZE


@given(st.lists(st.tuples(entries, st.integers(0, 2**63)), max_size=8), st.integers(0, 2**63))
def test_sizes_of_directories_are_known_before_crcs(places: list[tuple[Entry, int]], at: int) -> None:
    listed = [entry for entry, _ in places]
    offsets = [offset for _, offset in places]
    early = directory_size([replace(entry, crc32=None) for entry in listed], offsets, at)
    assert early == len(directory_at(listed, offsets, at))


def test_the_longest_local_header_is_as_long_as_stated() -> None:
    assert local_header_size(Entry("x" * 65_535, 5 * GIB, None, 0)) == MAX_LOCAL_HEADER_SIZE


@given(entries, st.integers(0, 2**40))
def test_flags_say_utf8_and_never_that_sizes_follow_the_data(entry: Entry, offset: int) -> None:
    assert unpack("H", local_header(entry), 6) == unpack("H", central_header(entry, offset), 8) == (0x0800,)


@pytest.mark.parametrize("size", [0, ESCAPE - 1])
def test_sizes_below_the_escape_value_need_no_zip64(size: int) -> None:
    header = local_header(replace(ENTRY, size=size))
    assert unpack("H", header, 4) == (20,)
    assert unpack("LL", header, 18) == (size, size)
    assert set(local_extras(header)) == {0x5455}
    central = central_header(replace(ENTRY, size=size), 0)
    assert unpack("H", central, 6) == (20,)
    assert unpack("LL", central, 20) == (size, size)
    assert set(central_extras(central)) == {0x5455}


@pytest.mark.parametrize("size", [ESCAPE, ESCAPE + 1, 5 * GIB])
def test_sizes_from_the_escape_value_on_stand_in_zip64_fields(size: int) -> None:
    header = local_header(replace(ENTRY, size=size))
    assert unpack("H", header, 4) == (45,)
    assert unpack("LL", header, 18) == (ESCAPE, ESCAPE)
    assert local_extras(header)[1] == struct.pack("<QQ", size, size)
    central = central_header(replace(ENTRY, size=size), 7)
    assert unpack("H", central, 6) == (45,)
    assert unpack("LL", central, 20) == (ESCAPE, ESCAPE)
    assert unpack("L", central, 42) == (7,)
    assert central_extras(central)[1] == struct.pack("<QQ", size, size)


@pytest.mark.parametrize(
    ("size", "offset", "field"),
    [
        (5, ESCAPE - 1, None),
        (5, ESCAPE, struct.pack("<Q", ESCAPE)),
        (5, 2**40, struct.pack("<Q", 2**40)),
        (ESCAPE, 2**40, struct.pack("<3Q", ESCAPE, ESCAPE, 2**40)),
    ],
)
def test_only_what_overflows_stands_in_the_zip64_field_of_a_central_header(
    size: int, offset: int, field: bytes | None
) -> None:
    central = central_header(replace(ENTRY, size=size), offset)
    assert unpack("LL", central, 20) == (size, size)
    assert unpack("L", central, 42) == (min(offset, ESCAPE),)
    assert central_extras(central).get(1) == field
    assert unpack("H", central, 6) == (45 if field else 20,)


@pytest.mark.parametrize("offset", [0, ESCAPE - 1, ESCAPE, 2**40])
def test_the_end_record_of_a_far_directory_is_zip64(offset: int) -> None:
    classic, zip64 = read_end_records(directory_at([ENTRY], [0], offset))
    size = 46 + 6 + 9
    assert classic == {"count": 1, "size": size, "offset": min(offset, ESCAPE)}
    assert zip64 == (None if offset < ESCAPE else {"count": 1, "size": size, "offset": offset})


@pytest.mark.parametrize(("count", "is_zip64"), [(65_534, False), (65_535, True), (70_000, True)])
def test_the_end_record_of_many_entries_is_zip64(count: int, *, is_zip64: bool) -> None:
    data = directory_at([ENTRY] * count, [0] * count, 99)
    classic, zip64 = read_end_records(data)
    size = count * (46 + 6 + 9)
    assert classic == {"count": min(count, 65_535), "size": size, "offset": 99}
    assert zip64 == ({"count": count, "size": size, "offset": 99} if is_zip64 else None)
    assert len(data) == size + 22 + (76 if is_zip64 else 0)


@pytest.mark.parametrize("size", [ESCAPE - 1, ESCAPE, 2**40])
def test_the_end_record_of_a_directory_larger_than_4_gib_is_zip64(size: int) -> None:
    # Not by way of `directory`: it would have to build those gigabytes.
    classic, zip64 = read_end_records(bytes(20) + end_records(1, size, 99))
    assert classic == {"count": 1, "size": min(size, ESCAPE), "offset": 99}
    assert zip64 == (None if size < ESCAPE else {"count": 1, "size": size, "offset": 99})


@pytest.mark.parametrize(
    ("mtime", "date", "time"),
    [
        (-(2**70), (1980, 1, 1), (0, 0, 0)),
        (0, (1980, 1, 1), (0, 0, 0)),
        (MARCH, (2024, 3, 5), (7, 9, 10)),
        (2**32, (2106, 2, 7), (6, 28, 16)),
        (2**33, (2107, 12, 31), (23, 59, 58)),
        (2**70, (2107, 12, 31), (23, 59, 58)),
    ],
)
def test_dos_dates_are_utc_and_stay_within_their_range(
    mtime: int, date: tuple[int, int, int], time: tuple[int, int, int]
) -> None:
    entry = replace(ENTRY, mtime=mtime)
    for dos_time, dos_date in (unpack("HH", local_header(entry), 10), unpack("HH", central_header(entry, 0), 12)):
        assert ((dos_date >> 9) + 1980, dos_date >> 5 & 15, dos_date & 31) == date
        assert (dos_time >> 11, dos_time >> 5 & 63, (dos_time & 31) * 2) == time


@pytest.mark.parametrize("mtime", [-(2**31), -1, 0, MARCH, 2**31 - 1])
def test_the_extended_timestamp_is_in_both_headers(mtime: int) -> None:
    entry = replace(ENTRY, mtime=mtime)
    expected = struct.pack("<Bl", 1, mtime)
    assert local_extras(local_header(entry))[0x5455] == expected
    assert central_extras(central_header(entry, 0))[0x5455] == expected


@pytest.mark.parametrize("mtime", [-(2**31) - 1, 2**31])
def test_a_time_that_the_extended_timestamp_cannot_hold_is_left_to_the_dos_date(mtime: int) -> None:
    entry = replace(ENTRY, mtime=mtime)
    assert not local_extras(local_header(entry))
    assert not central_extras(central_header(entry, 0))
