"""Whole archives, assembled part by part as archivers do, and read by strangers."""

import io
import shutil
import subprocess
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haulyard_zipline import (
    Data,
    Directory,
    Entry,
    Header,
    Layout,
    Limits,
    crc32,
    directory,
    join_crcs,
    local_header,
    plan,
    safe_names,
)

# Scaled down: a thousand bytes here are about a megabyte there. Only max_part keeps room for the longest headers.
SCALED = Limits(min_part=5_000, packed_part=16_000, body_part=64_000, single_put=16_000, max_part=5_000_000)
TIME = 1_709_622_551


def build(members: Mapping[str, bytes], limits: Limits) -> bytes:
    """Make the archive like the services do: CRCs unknown at first, each part from its pieces, blockers respected."""
    data = list(members.values())
    entries = [Entry(name, len(content), None, TIME) for name, content in members.items()]
    layout = plan(entries, limits)
    parts: dict[int, bytes] = {}
    slices: dict[int, dict[int, tuple[int, int]]] = {index: {} for index in range(len(entries))}
    while len(parts) < len(layout.parts):
        known = {index for index, entry in enumerate(entries) if entry.crc32 is not None}
        number = next(
            number
            for number in range(1, len(layout.parts) + 1)
            if number not in parts and layout.blockers(number, known) <= parts.keys()
        )
        for piece in layout.parts[number - 1].pieces:
            if isinstance(piece, Directory):
                continue
            found = slices[piece.entry]
            if isinstance(piece, Data):
                content = data[piece.entry][piece.offset : piece.offset + piece.length]
                found[piece.offset] = crc32(content), len(content)
            if sum(length for _, length in found.values()) == entries[piece.entry].size:
                crc = join_crcs(found[offset] for offset in sorted(found))
                entries[piece.entry] = replace(entries[piece.entry], crc32=crc)
        parts[number] = write_part(layout, number, entries, data)
    return b"".join(parts[number] for number in sorted(parts))


def write_part(layout: Layout, number: int, entries: Sequence[Entry], data: Sequence[bytes]) -> bytes:
    part = layout.parts[number - 1]
    written = bytearray()
    for piece in part.pieces:
        match piece:
            case Header(index):
                written += local_header(entries[index])
            case Data(index, offset, length):
                written += data[index][offset : offset + length]
            case Directory():
                written += directory(entries, layout)
    assert len(written) == part.size
    return bytes(written)


def synthetic(seed: int, length: int) -> bytes:
    """Bytes that differ everywhere, so that a slice in the wrong place is seen."""
    return b"".join(zlib.crc32(b"%d/%d" % (seed, at)).to_bytes(4, "big") for at in range(length // 4 + 1))[:length]


@st.composite
def limits_of_any_scale(draw: st.DrawFn) -> Limits:
    min_part = draw(st.integers(10, 300))
    packed_part = 2 * min_part + draw(st.integers(0, 1_000))
    return Limits(
        min_part=min_part,
        max_part=200_000,
        packed_part=packed_part,
        body_part=draw(st.integers(min_part, min_part + 2_000)),
        single_put=draw(st.sampled_from([0, 100, 1_000, 5_000])),
    )


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.text(max_size=20), st.one_of(st.just(0), st.integers(0, 300), st.integers(0, 6_000))),
        max_size=12,
    ),
    limits_of_any_scale(),
)
def test_any_archive_is_read_back_the_same(files: list[tuple[str, int]], limits: Limits) -> None:
    names = safe_names([name for name, _ in files])
    members = {name: synthetic(at, size) for at, (name, (_, size)) in enumerate(zip(names, files, strict=True))}
    archive = build(members, limits)
    assert build(members, limits) == archive, "the same entries give the same bytes"
    with zipfile.ZipFile(io.BytesIO(archive)) as read:
        assert read.testzip() is None
        assert read.namelist() == list(members)
        for info in read.infolist():
            assert read.read(info) == members[info.filename]
            assert info.external_attr >> 16 == 0o100644
            assert info.date_time == (2024, 3, 5, 7, 9, 10)


SCRIPTS = [
    "plain.txt", "with spaces.txt", "Übergröße.txt", "русский.txt", "日本語/漢字.txt", "العربية.txt", "עברית.txt",
    "हिन्दी.txt", "ไทย.txt", "한국어.txt", "Ελληνικά.txt", "emoji 😀👩‍👩‍👧.png", "same.txt", "SAME.txt", "same.txt",
    "a", "a/b", "../../etc/passwd", "C:\\Windows\\nul.txt", "-rf", "con", "x" * 300 + ".tar.gz",
]  # fmt: skip

# Slow readers check each of these, so there are few; each is here for what its name says.
EXAMPLES: dict[str, tuple[dict[str, bytes], Limits]] = {
    "one empty file": ({"empty": b""}, SCALED),
    "one PUT": ({"a.txt": b"a", "empty": b"", "b.bin": synthetic(1, 5_000)}, SCALED),
    "names": ({name: synthetic(1, 2_000) for name in safe_names(SCRIPTS)}, SCALED),
    "a hundred small files": ({f"{at:03}.bin": synthetic(at, at * 37) for at in range(100)}, SCALED),
    "large files": ({f"{at}.bin": synthetic(at, 100_000 + at) for at in range(4)}, SCALED),
    "small and large by turns": (
        {
            f"{at}.bin": synthetic(at, size)
            for at, size in enumerate([10, 40_000, 0, 15_999, 16_000, 16_001, 80_000, 1])
        },
        SCALED,
    ),
    "many entries": ({f"{at // 1000}/{at}": b"" for at in range(70_000)}, Limits()),
}


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("archives")
    paths = {}
    for label, (members, limits) in EXAMPLES.items():
        paths[label] = folder / f"{label.replace(' ', '-')}.zip"
        paths[label].write_bytes(build(members, limits))
    return paths


def run(*command: str, stdin: bytes = b"") -> bytes:
    """Run a reader, or skip if it is not installed. Whatever it complains of is a failure."""
    program = shutil.which(command[0])
    if program is None:
        pytest.skip(f"{command[0]} is not installed")
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    done = subprocess.run([program, *command[1:]], input=stdin, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, (done.stdout[-2_000:] + done.stderr[-2_000:]).decode(errors="replace")
    assert b"warning" not in (done.stdout + done.stderr).lower()
    return done.stdout


each_example = pytest.mark.parametrize("label", EXAMPLES)


def test_an_empty_archive_is_valid(tmp_path: Path) -> None:
    archive = build({}, SCALED)
    with zipfile.ZipFile(io.BytesIO(archive)) as read:
        assert read.namelist() == []
    assert run("bsdtar", "-tf", "-", stdin=archive) == b""


@each_example
def test_python_reads_it(label: str, archives: dict[str, Path]) -> None:
    members, _ = EXAMPLES[label]
    with zipfile.ZipFile(archives[label]) as read:
        assert read.testzip() is None
        assert {name: read.read(name) for name in read.namelist()} == members


@each_example
def test_unzip_finds_no_fault(label: str, archives: dict[str, Path]) -> None:
    assert b"No errors detected" in run("unzip", "-tq", str(archives[label]))


@each_example
def test_7z_finds_no_fault(label: str, archives: dict[str, Path]) -> None:
    assert b"Everything is Ok" in run("7z", "t", str(archives[label]))


@each_example
def test_bsdtar_reads_it_from_a_pipe(label: str, archives: dict[str, Path]) -> None:
    members, _ = EXAMPLES[label]
    archive = archives[label].read_bytes()
    assert run("bsdtar", "-tf", "-", stdin=archive).decode().splitlines() == list(members)
    assert run("bsdtar", "-xOf", "-", stdin=archive) == b"".join(members.values())


JAVA_READER = """
import java.io.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;
import java.util.zip.*;

class Reader {
    static void tell(String how, String name, InputStream data) throws IOException {
        CRC32 crc = new CRC32();
        byte[] bytes = data.readAllBytes();
        crc.update(bytes);
        StringBuilder hex = new StringBuilder();
        for (byte part : name.getBytes(StandardCharsets.UTF_8)) hex.append(String.format("%02x", part));
        System.out.println(how + " " + hex + " " + bytes.length + " " + crc.getValue());
    }

    public static void main(String[] paths) throws IOException {
        for (String path : paths) {
            try (ZipInputStream stream = new ZipInputStream(new FileInputStream(path))) {
                for (ZipEntry entry; (entry = stream.getNextEntry()) != null; ) tell("stream", entry.getName(), stream);
            }
            try (ZipFile file = new ZipFile(path)) {
                for (ZipEntry entry : Collections.list(file.entries()))
                    tell("file", entry.getName(), file.getInputStream(entry));
            }
        }
    }
}
"""


def test_java_reads_all_as_stream_and_as_file(archives: dict[str, Path], tmp_path: Path) -> None:
    source = tmp_path / "Reader.java"
    source.write_text(JAVA_READER)
    # One virtual machine for all, for starting it takes longer than reading.
    lines = run("java", "-XX:TieredStopAtLevel=1", str(source), *map(str, archives.values())).decode().splitlines()
    expected = []
    for members, _ in EXAMPLES.values():
        told = [f"{name.encode().hex()} {len(content)} {zlib.crc32(content)}" for name, content in members.items()]
        expected += [f"stream {line}" for line in told] + [f"file {line}" for line in told]
    assert lines == expected
