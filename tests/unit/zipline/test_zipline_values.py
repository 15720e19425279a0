"""Entries and limits refuse what no archive can hold."""

import dataclasses
from typing import Any

import pytest

from haulyard_zipline import Entry, EntryError, Limits, LimitsError, Supply, ZiplineError
from haulyard_zipline.records import MAX_LOCAL_HEADER_SIZE

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "x" * 65_536),
        ("name", "ü" * 32_768),
        ("name", "a\ud800"),
        ("size", -1),
        ("size", 2**63),
        ("crc32", -1),
        ("crc32", 2**32),
        ("packed", 0),
        ("packed", 2**63),
    ],
)
def test_an_entry_that_no_zip_can_hold_is_refused_and_the_field_named(field: str, value: object) -> None:
    good = Entry("a", 0, 0, 0)
    with pytest.raises(EntryError, match=f"^{field}: "):
        dataclasses.replace(good, **{field: value})  # type: ignore[arg-type]


def test_the_extremes_of_an_entry_are_accepted() -> None:
    Entry("x" * 65_535, 0, 0, -(2**70))
    Entry("x", 2**63 - 1, 2**32 - 1, 2**70)
    Entry("x", 0, None, 0)
    Entry("x", 0, 0, 0, packed=1)
    Entry("x", 0, 0, 0, packed=2**63 - 1)


def test_the_data_of_an_entry_is_what_is_deflated_or_else_the_file() -> None:
    assert Entry("x", 10, 7, 0).data_size == 10
    assert Entry("x", 10, 7, 0, packed=3).data_size == 3


@pytest.mark.parametrize("segments", [(0,), (5, 0), (-1, 6)])
def test_segments_without_a_length_are_refused(segments: tuple[int, ...]) -> None:
    with pytest.raises(EntryError, match=f"^segments: {min(segments)} is not a length"):
        Supply(segments, copyable=True)


def test_the_defaults_are_those_of_s3_and_of_the_design() -> None:
    limits = Limits()
    assert (limits.min_part, limits.max_part, limits.max_parts) == (5 * MIB, 5120 * MIB, 10_000)
    assert (limits.packed_part, limits.body_part, limits.single_put) == (16 * MIB, 64 * MIB, 16 * MIB)
    assert (limits.copied_part, limits.spread, limits.equal_parts) == (512 * MIB, 16, False)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"min_part": 0}, "min_part"),
        ({"max_parts": 0}, "max_parts"),
        ({"packed_part": 10 * MIB - 1}, "packed_part .* min_part"),
        ({"body_part": 5 * MIB - 1}, "body_part .* min_part"),
        ({"body_part": 5120 * MIB + 1}, "body_part .* max_part"),
        ({"copied_part": 5 * MIB - 1}, "copied_part .* min_part"),
        ({"spread": 0}, "spread"),
        ({"single_put": -1}, "single_put"),
        ({"single_put": 5120 * MIB + 1}, "single_put .* max_part"),
        ({"packed_part": 5115 * MIB - 2 * MAX_LOCAL_HEADER_SIZE + 1}, "packed_part .* max_part"),
    ],
)
def test_limits_that_contradict_each_other_are_refused_and_named(changes: dict[str, Any], names: str) -> None:
    with pytest.raises(LimitsError, match=names):
        Limits(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"min_part": 1, "packed_part": 2, "body_part": 1, "single_put": 0, "max_parts": 1},
        {"packed_part": 10 * MIB, "body_part": 5 * MIB},
        {"copied_part": 5 * MIB, "spread": 1},
        {"body_part": 5120 * MIB, "single_put": 5120 * MIB},
        {"packed_part": 5115 * MIB - 2 * MAX_LOCAL_HEADER_SIZE},
    ],
)
def test_the_extremes_of_limits_are_accepted(changes: dict[str, Any]) -> None:
    Limits(**changes)


@pytest.mark.parametrize("error", [EntryError, LimitsError])
def test_refusals_are_value_errors_and_errors_of_the_engine(error: type[Exception]) -> None:
    assert issubclass(error, ValueError)
    assert issubclass(error, ZiplineError)
