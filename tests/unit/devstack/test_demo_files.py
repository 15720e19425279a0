"""The demonstration takes real files of all sizes under names that make trouble, and the same ones each time."""

from pathlib import Path

import pytest

from haulyard_devstack.demo_errors import DemoError
from haulyard_devstack.demo_files import BIG, JOB_FILES, DemoFile, choose, select_files

MB = 1_000_000
BIG_FILE = DemoFile(Path("/big"), BIG + 1, "lib/big")


def files(*sizes: int) -> list[DemoFile]:
    return [DemoFile(Path(f"/{index}"), size, f"lib/{index}.bin") for index, size in enumerate(sizes)]


PLENTY = files(0, 0, *range(1, 2000), *range(64_000, 900_000, 4_000), *[2 * MB] * 40, *[20 * MB] * 20)


def test_a_job_has_a_hundred_different_files_from_none_to_many_bytes() -> None:
    job = choose(PLENTY, BIG_FILE).job
    sizes = sorted(file.size for file in job)
    assert len(job) == len({file.path for file in job}) == JOB_FILES
    assert sizes[0] == 0
    assert sizes[1] > 0
    assert sizes[-1] > BIG
    assert sum(300 < size < 64_000 for size in sizes) > 30
    assert 250 * MB < sum(sizes) < 500 * MB


def test_some_names_are_odd_and_two_are_the_same() -> None:
    names = [file.name for file in choose(PLENTY, BIG_FILE).job]
    assert len(names) - len(set(names)) == 1
    assert sum(not name.isascii() for name in names) >= 5
    assert any(" " in name for name in names)
    assert "report (final) v2.bin" in names


def test_the_choice_does_not_depend_on_the_order_in_which_files_are_found() -> None:
    assert choose(PLENTY, BIG_FILE) == choose(PLENTY[::-1], BIG_FILE)


def test_what_is_not_in_the_job_is_uploaded_besides() -> None:
    selection = choose(PLENTY, BIG_FILE)
    assert len(selection.others) == 150
    assert {file.path for file in selection.others}.isdisjoint(file.path for file in selection.job)


def test_smaller_files_make_up_for_missing_larger_ones() -> None:
    job = choose(files(0, *range(1, 500)), BIG_FILE).job
    assert len(job) == JOB_FILES
    assert sum(file.size > 0 for file in job) == JOB_FILES - 1


def test_too_few_files_are_said() -> None:
    with pytest.raises(DemoError, match=r"only 12 of 100"):
        choose(files(*range(11)), BIG_FILE)


def test_where_no_file_is_large_enough_real_ones_are_packed_into_one(tmp_path: Path) -> None:
    place, work = tmp_path / "place", tmp_path / "work"
    (place / "__pycache__").mkdir(parents=True)
    work.mkdir()
    for number in range(3):
        with (place / f"large {number}").open("wb") as file:
            file.truncate(39 * MB)  # a hole: takes no room
    for number in range(100):
        (place / f"small {number}").write_bytes(b"x" * number)
        (place / "__pycache__" / f"{number}.pyc").write_bytes(b"x")
    (place / "link").symlink_to("small 1")
    job = select_files(work, {"here": place, "nowhere": tmp_path / "nowhere"}).job
    largest = max(job, key=lambda file: file.size)
    assert largest.path == work / "packed.tar"
    assert largest.size == largest.path.stat().st_size > BIG
    assert not any("__pycache__" in str(file.path) or file.path.is_symlink() for file in job)
