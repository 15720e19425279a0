"""Archives beyond 4 GiB, without making their data: zeros that are holes in a sparse file."""

import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from haulyard_zipline import Entry, Limits, crc32, directory, join_crcs, local_header, plan

ESCAPE = 0xFFFFFFFF
MIB = 1024 * 1024
GIB = 1024 * MIB


def zeros(name: str, size: int) -> Entry:
    whole, rest = divmod(size, MIB)
    megabyte = crc32(bytes(MIB)), MIB
    return Entry(name, size, join_crcs([*[megabyte] * whole, (crc32(bytes(rest)), rest)]), 1_700_000_000)


def write_sparse(path: Path, entries: Sequence[Entry]) -> None:
    layout = plan(entries, Limits())
    with path.open("wb") as file:
        for entry, offset in zip(entries, layout.offsets, strict=True):
            file.seek(offset)
            file.write(local_header(entry))
        file.seek(layout.directory_offset)
        file.write(directory(entries, layout))
        assert file.tell() == layout.size


CASES = {
    "one entry over 4 GiB": [zeros("large", 5 * GIB), zeros("after", 10)],
    "small entries over 4 GiB in total": [zeros(f"{number}", 1023 * MIB) for number in range(6)],
    "an entry of exactly the escape value": [zeros("a", ESCAPE), zeros("b", 1)],
    "an entry just below the escape value": [zeros("a", ESCAPE - 1), zeros("b", 1)],
}


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    """Return where to write a file with holes; skip where it would take the gigabytes that it seems to have."""
    probe = tmp_path / "probe"
    with probe.open("wb") as file:
        file.seek(64 * MIB)
        file.write(b"end")
    if probe.stat().st_blocks * 512 > MIB:
        pytest.skip("this file system has no holes")
    return tmp_path / "sparse.zip"


@pytest.mark.parametrize("entries", CASES.values(), ids=CASES.keys())
def test_sparse_archives_are_listed_by_strangers(entries: list[Entry], sparse: Path) -> None:
    write_sparse(sparse, entries)
    with zipfile.ZipFile(sparse) as archive:
        assert [(info.filename, info.file_size, info.CRC) for info in archive.infolist()] == [
            (entry.name, entry.size, entry.crc32) for entry in entries
        ]
        for entry in entries:
            # Checks the local header against the central one; the smaller entries are read whole, with their CRC.
            with archive.open(entry.name) as data:
                length = min(entry.size, MIB)
                assert data.read(length) == bytes(length)
    for command in (["unzip", "-Z1"], ["7z", "l", "-ba"]):
        # Of a size that equals the escape value, Info-ZIP's unzip believes that the Zip64 field did not give it.
        is_misread = command[0] == "unzip" and any(entry.size == ESCAPE for entry in entries)
        if shutil.which(command[0]) and not is_misread:
            listed = subprocess.run([*command, str(sparse)], capture_output=True, check=True, text=True).stdout
            assert [line.split()[-1] for line in listed.splitlines()] == [entry.name for entry in entries]


def test_planning_reaches_the_far_end_of_what_s3_stores() -> None:
    entries = [zeros("large", 5 * GIB), Entry("huge", 5_000 * GIB, 1, 0), Entry("tail", 1, 1, 0)]
    layout = plan(entries, Limits())
    assert len(layout.parts) <= 10_000
    assert layout.offsets[2] > 5_000 * GIB
    assert len(directory(entries, layout)) == layout.directory_size
    assert all(part.start + part.size == after.start for part, after in pairwise(layout.parts))
