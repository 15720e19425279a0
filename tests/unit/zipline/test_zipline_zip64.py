"""Archives beyond 4 GiB, without making their data: zeros that are holes in a sparse file."""

import os
import shutil
import subprocess
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from haulyard_zipline import (
    Data,
    Directory,
    Entry,
    Header,
    Limits,
    Supply,
    content,
    crc32,
    directory,
    join_crcs,
    local_header,
    plan,
)

ESCAPE = 0xFFFFFFFF
MIB = 1024 * 1024
GIB = 1024 * MIB


def zeros(name: str, size: int) -> Entry:
    whole, rest = divmod(size, MIB)
    megabyte = crc32(bytes(MIB)), MIB
    return Entry(name, size, join_crcs([*[megabyte] * whole, (crc32(bytes(rest)), rest)]), 1_700_000_000)


LAYOUTS = {
    "streamed": (Limits(), False),
    "copied": (Limits(), True),
    "equal parts": (Limits(equal_parts=True), True),
}


def write_sparse(path: Path, entries: Sequence[Entry], limits: Limits, *, copyable: bool) -> None:
    """Write the literal bytes of an archive part by part; all data are holes."""
    layout = plan(entries, limits, [Supply((entry.size,), copyable) for entry in entries])
    end = directory(entries, layout)
    with path.open("wb") as file:
        for part in layout.parts:
            assert file.tell() == part.start
            for piece in part.pieces:
                match piece:
                    case Header(index, offset, length):
                        file.write(local_header(entries[index])[offset:][:length])
                    case Data(_, _, length):
                        file.seek(length, os.SEEK_CUR)
                    case Directory(offset, length):
                        file.write(end[offset:][:length])
            assert file.tell() == part.start + part.size
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
@pytest.mark.parametrize(("limits", "copyable"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_sparse_archives_are_listed_by_strangers(
    entries: list[Entry], limits: Limits, *, copyable: bool, sparse: Path
) -> None:
    write_sparse(sparse, entries, limits, copyable=copyable)
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


def test_the_view_of_a_large_archive_is_what_its_layout_makes(sparse: Path) -> None:
    entries = CASES["one entry over 4 GiB"]
    write_sparse(sparse, entries, Limits(), copyable=True)
    with sparse.open("rb") as file:
        for piece in content(entries):
            if isinstance(piece, bytes):
                assert file.read(len(piece)) == piece
            else:
                file.seek(piece.length, os.SEEK_CUR)
        assert file.read() == b""


def test_a_deflated_file_over_4_gib_in_a_small_archive_is_read_by_strangers(tmp_path: Path) -> None:
    plain = zeros("large", 4 * GIB + 5)
    deflate = zlib.compressobj(wbits=-15)
    # Of many equal blocks one is enough: after a full flush nothing refers to what was before.
    block = deflate.compress(bytes(MIB)) + deflate.flush(zlib.Z_FULL_FLUSH)
    data = block * 4096 + deflate.compress(bytes(5)) + deflate.flush()
    entries = [replace(plain, packed=len(data)), zeros("after", 10)]
    path = tmp_path / "deflated.zip"
    sources = [data, bytes(10)]
    with path.open("wb") as file:
        for piece in content(entries):
            if isinstance(piece, Data):
                file.write(sources[piece.entry][piece.offset : piece.offset + piece.length])
            else:
                file.write(piece)
    with zipfile.ZipFile(path) as archive:
        large, after = archive.infolist()
        assert (large.file_size, large.compress_size, large.CRC) == (4 * GIB + 5, len(data), plain.crc32)
        assert archive.read(after) == bytes(10)
        with archive.open(large) as read:
            assert read.read(MIB) == bytes(MIB)
    for command in (["unzip", "-Z1", str(path)], ["bsdtar", "-tf", "-"]):
        if shutil.which(command[0]):
            with path.open("rb") as file:
                listed = subprocess.run(command, stdin=file, capture_output=True, check=True, text=True).stdout
            assert listed.splitlines() == ["large", "after"]


@pytest.mark.parametrize("copyable", [False, True])
def test_planning_reaches_the_far_end_of_what_s3_stores(*, copyable: bool) -> None:
    entries = [zeros("large", 5 * GIB), Entry("huge", 5_000 * GIB, 1, 0), Entry("tail", 1, 1, 0)]
    layout = plan(entries, Limits(), [Supply((entry.size,), copyable) for entry in entries])
    assert len(layout.parts) <= 10_000
    assert layout.offsets[2] > 5_000 * GIB
    assert len(directory(entries, layout)) == layout.directory_size
    assert all(part.start + part.size == after.start for part, after in pairwise(layout.parts))
