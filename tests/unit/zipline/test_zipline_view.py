"""Ranges of an archive: what they need, and what they do not. That they are its bytes is tested with whole archives."""

from dataclasses import replace

import pytest

from haulyard_zipline import Data, Entry, UnknownCrcError, View, archive_size, content, local_header

KNOWN = Entry("known", 1_000, 7, 0)
UNKNOWN = Entry("unknown", 1_000, None, 0)
HEADER = len(local_header(KNOWN))


def test_headers_are_bytes_and_data_is_named() -> None:
    assert list(content([KNOWN], stop=HEADER + 1_000)) == [local_header(KNOWN), Data(0, 0, 1_000)]
    assert list(content([KNOWN], start=HEADER - 1, stop=HEADER + 1)) == [local_header(KNOWN)[-1:], Data(0, 0, 1)]


def test_offsets_and_lengths_are_those_of_the_deflated_data() -> None:
    entry = replace(KNOWN, packed=300)
    assert list(content([entry], start=HEADER + 100, stop=HEADER + 300)) == [Data(0, 100, 200)]
    assert archive_size([entry]) == archive_size([KNOWN]) - 700


def test_a_range_needs_only_the_crcs_of_the_headers_that_it_touches() -> None:
    entries = [KNOWN, UNKNOWN, KNOWN]
    header = HEADER + len("unknown") - len("known")
    second = HEADER + 1_000
    third = second + header + 1_000
    view = View(entries)
    assert list(view.content(HEADER, second)) == [Data(0, 0, 1_000)]
    assert list(view.content(second + header, third)) == [Data(1, 0, 1_000)]
    assert list(view.content(third, third + HEADER)) == [local_header(KNOWN)]
    assert b"".join(piece for piece in view.content(view.size - 22) if isinstance(piece, bytes))[:4] == b"PK\x05\x06"
    for start, stop in [(second - 1, second + 1), (second + header - 1, third), (third + HEADER + 1_000, view.size)]:
        # At once, not when the content is read: by then a response may have begun.
        with pytest.raises(UnknownCrcError, match="'unknown'"):
            view.content(start, stop)


def test_nothing_but_what_is_in_the_range_is_made() -> None:
    # If any other header were made, its CRC-32 would be missed.
    entries = [replace(UNKNOWN, name=f"{number:0100}") for number in range(99_990)]
    entries += [replace(KNOWN, name=f"{number:0100}") for number in range(10)]
    view = View(entries)
    assert sum(len(piece) for piece in view.content(view.size - 1_024) if isinstance(piece, bytes)) == 1_024


def test_literal_bytes_come_in_chunks_though_headers_are_small() -> None:
    entries = [Entry(f"{number}", 0, 0, 0) for number in range(70_000)]
    lengths = [len(piece) for piece in content(entries) if isinstance(piece, bytes)]
    assert sum(lengths) == archive_size(entries)
    assert max(lengths) < 64 * 1024 + 100
    assert min(lengths[:-1]) >= 64 * 1024


def test_the_size_is_known_before_crcs() -> None:
    assert archive_size([UNKNOWN]) == archive_size([replace(UNKNOWN, crc32=7)])
    assert archive_size([]) == 22


@pytest.mark.parametrize(("start", "stop"), [(-1, None), (0, 2_000), (5, 4), (2_000, None)])
def test_ranges_that_the_archive_does_not_have_are_refused(start: int, stop: int | None) -> None:
    with pytest.raises(ValueError, match="there are no bytes"):
        content([KNOWN], start=start, stop=stop)


@pytest.mark.parametrize("at", [0, 50, 1_040])
def test_an_empty_range_has_no_content_and_needs_no_crc(at: int) -> None:
    assert list(content([UNKNOWN], start=at, stop=at)) == []
