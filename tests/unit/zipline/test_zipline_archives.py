"""Whole archives, assembled part by part as archivers do, and read by strangers."""

import io
import shutil
import subprocess
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haulyard_zipline import (
    Data,
    Directory,
    Entry,
    Header,
    Layout,
    Limits,
    Supply,
    archive_size,
    content,
    crc32,
    directory,
    join_crcs,
    local_header,
    plan,
    safe_names,
)
from unit.zipline.drawing import PLENTY, limits_of_any_scale

MIB = 1024 * 1024

# Scaled down: a thousand bytes here are about a megabyte there. Only max_part keeps room for the longest headers.
SCALED = Limits(min_part=5_000, packed_part=16_000, body_part=64_000, single_put=16_000, max_part=5_000_000)


class How(NamedTuple):
    """What may differ in how an archive is made of the same files."""

    limits: Limits
    deflated: bool = False
    """Every second file is deflated."""
    known: bool = False
    """Every CRC-32 is known beforehand; of deflated files it always is."""
    segment: int | None = None
    """The data can be copied, and lies in segments of at most this many bytes."""


TIME = 1_709_622_551


def deflate(plain: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(plain) + compressor.flush()


def files(members: Mapping[str, bytes], how: How) -> tuple[list[Entry], list[bytes], list[Supply] | None]:
    """Return the entries, the data of each, and where it comes from."""
    entries, data = [], []
    for at, (name, plain) in enumerate(members.items()):
        if how.deflated and at % 2:
            data.append(deflate(plain))
            entries.append(Entry(name, len(plain), crc32(plain), TIME, packed=len(data[-1])))
        else:
            data.append(plain)
            entries.append(Entry(name, len(plain), crc32(plain) if how.known else None, TIME))
    if how.segment is None:
        return entries, data, None
    supplies = []
    for packed in data:
        full, rest = divmod(len(packed), how.segment)
        supplies.append(Supply((how.segment,) * full + ((rest,) if rest else ()), copyable=True))
    return entries, data, supplies


def build(members: Mapping[str, bytes], how: How) -> bytes:
    """Make the archive like the services do: CRCs unknown at first, each part from its pieces, blockers respected."""
    entries, data, supplies = files(members, how)
    layout = plan(entries, how.limits, supplies)
    parts: dict[int, bytes] = {}
    slices: dict[int, dict[int, tuple[int, int]]] = {index: {} for index in range(len(entries))}
    waiting = [part.number for part in layout.parts]
    while waiting:
        known = {index for index, entry in enumerate(entries) if entry.crc32 is not None}
        number = next(number for number in waiting if layout.blockers(number, known) <= parts.keys())
        waiting.remove(number)
        for piece in layout.parts[number - 1].pieces:
            if isinstance(piece, Directory) or entries[piece.entry].crc32 is not None:
                continue
            found = slices[piece.entry]
            if isinstance(piece, Data):
                slice_ = data[piece.entry][piece.offset : piece.offset + piece.length]
                found[piece.offset] = crc32(slice_), len(slice_)
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
            case Header(index, offset, length):
                written += local_header(entries[index])[offset:][:length]
            case Data(index, offset, length):
                written += data[index][offset : offset + length]
            case Directory(offset, length):
                written += directory(entries, layout)[offset:][:length]
    assert len(written) == part.size
    return bytes(written)


def synthetic(seed: int, length: int) -> bytes:
    """Bytes that differ everywhere, so that a slice in the wrong place is seen."""
    return b"".join(zlib.crc32(b"%d/%d" % (seed, at)).to_bytes(4, "big") for at in range(length // 4 + 1))[:length]


file_lists = st.lists(
    st.tuples(st.text(max_size=20), st.one_of(st.just(0), st.integers(0, 300), st.integers(0, 6_000))), max_size=12
)


@given(
    file_lists,
    st.builds(
        How,
        limits_of_any_scale(),
        deflated=st.booleans(),
        known=st.booleans(),
        segment=st.one_of(st.none(), st.integers(50, 5_000)),
    )
    | st.builds(
        How,
        limits_of_any_scale(equal_parts=True),
        deflated=st.booleans(),
        known=st.just(True),  # noqa: FBT003 - the one value to draw
        segment=st.one_of(st.none(), st.integers(50, 5_000)),
    ),
)
def test_any_archive_is_read_back_the_same(listed: list[tuple[str, int]], how: How) -> None:
    how = how._replace(limits=replace(how.limits, max_parts=PLENTY))
    names = safe_names([name for name, _ in listed])
    members = {name: synthetic(at, size) for at, (name, (_, size)) in enumerate(zip(names, listed, strict=True))}
    archive = build(members, how)
    assert build(members, how) == archive, "the same entries give the same bytes"
    # How they are cut in parts, and what was known beforehand, does not matter.
    assert build(members, How(Limits(), deflated=how.deflated)) == archive
    with zipfile.ZipFile(io.BytesIO(archive)) as read:
        assert read.testzip() is None
        assert read.namelist() == list(members)
        for info in read.infolist():
            assert read.read(info) == members[info.filename]
            assert info.external_attr >> 16 == 0o100644
            assert info.date_time == (2024, 3, 5, 7, 9, 10)


@given(file_lists, st.sampled_from(["deflated", None]), st.data())
def test_any_range_of_the_view_is_that_slice_of_the_archive(
    listed: list[tuple[str, int]], deflated: Literal["deflated"] | None, data: st.DataObject
) -> None:
    names = safe_names([name for name, _ in listed])
    members = {name: synthetic(at, size) for at, (name, (_, size)) in enumerate(zip(names, listed, strict=True))}
    how = How(Limits(), deflated=bool(deflated), known=True)
    archive = build(members, how)
    entries, sources, _ = files(members, how)
    assert archive_size(entries) == len(archive)
    for _ in range(5):
        start = data.draw(st.integers(0, len(archive)))
        stop = data.draw(st.one_of(st.none(), st.integers(start, len(archive))))
        pieces = content(entries, start=start, stop=stop)
        read = b"".join(
            piece if isinstance(piece, bytes) else sources[piece.entry][piece.offset : piece.offset + piece.length]
            for piece in pieces
        )
        assert read == archive[start:stop]


SCRIPTS = [
    "plain.txt", "with spaces.txt", "Übergröße.txt", "русский.txt", "日本語/漢字.txt", "العربية.txt", "עברית.txt",
    "हिन्दी.txt", "ไทย.txt", "한국어.txt", "Ελληνικά.txt", "emoji 😀👩‍👩‍👧.png", "same.txt", "SAME.txt", "same.txt",
    "a", "a/b", "../../etc/passwd", "C:\\Windows\\nul.txt", "-rf", "con", "x" * 300 + ".tar.gz",
]  # fmt: skip

MIXED = {
    f"{at}.txt": b"%d: what is easily deflated; " % at * (size // 28) + synthetic(at, size % 28)
    for at, size in enumerate([10, 40_000, 0, 0, 900_000, 2_000_000, 15_000, 300_000, 1, 1])
} | {"noise.bin": synthetic(99, 200_000), "noise 2.bin": synthetic(98, 200_000)}

# Slow readers check each of these, so there are few; each is here for what its name says.
EXAMPLES: dict[str, tuple[dict[str, bytes], How]] = {
    "one empty file": ({"empty": b""}, How(SCALED)),
    "one PUT": ({"a.txt": b"a", "empty": b"", "b.bin": synthetic(1, 5_000)}, How(SCALED)),
    "names": ({name: synthetic(1, 2_000) for name in safe_names(SCRIPTS)}, How(SCALED)),
    "a hundred small files": ({f"{at:03}.bin": synthetic(at, at * 37) for at in range(100)}, How(SCALED)),
    "large files": ({f"{at}.bin": synthetic(at, 100_000 + at) for at in range(4)}, How(SCALED)),
    "small and large by turns": (
        {
            f"{at}.bin": synthetic(at, size)
            for at, size in enumerate([10, 40_000, 0, 15_999, 16_000, 16_001, 80_000, 1])
        },
        How(SCALED),
    ),
    "copied in the store": (
        {f"{at}.bin": synthetic(at, size) for at, size in enumerate([10, 40_000, 0, 5_000, 9_999, 6_000, 80_000, 1])},
        How(SCALED, known=True, segment=1_000_000),
    ),
    "copied and read for its CRC": (
        {f"{at}.bin": synthetic(at, 100_000 + at) for at in range(4)},
        How(SCALED, segment=1_000_000),
    ),
    "deflated and stored by turns": (MIXED, How(SCALED, deflated=True)),
    "deflated in segments long and short": (MIXED, How(SCALED, deflated=True, segment=6_000)),
    "deflated in short segments": (MIXED, How(SCALED, deflated=True, segment=4_000)),
    "equal parts": (MIXED, How(replace(SCALED, equal_parts=True), deflated=True, known=True, segment=70_000)),
    "many entries": ({f"{at // 1000}/{at}": b"" for at in range(70_000)}, How(Limits())),
}


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("archives")
    paths = {}
    for label, (members, how) in EXAMPLES.items():
        paths[label] = folder / f"{label.replace(' ', '-')}.zip"
        paths[label].write_bytes(build(members, how))
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


@each_example
def test_it_is_what_the_view_of_its_entries_gives(label: str, archives: dict[str, Path]) -> None:
    members, how = EXAMPLES[label]
    entries, data, _ = files(members, how._replace(known=True))
    pieces = content(entries)
    read = b"".join(piece if isinstance(piece, bytes) else data[piece.entry] for piece in pieces)
    assert read == archives[label].read_bytes()


def test_equal_parts_of_many_entries_join_to_the_same_archive(archives: dict[str, Path]) -> None:
    members, _ = EXAMPLES["many entries"]
    limits = Limits(min_part=MIB // 2, packed_part=MIB, single_put=0, equal_parts=True)
    assert build(members, How(limits, known=True)) == archives["many entries"].read_bytes()


def test_an_empty_archive_is_valid(tmp_path: Path) -> None:
    archive = build({}, How(SCALED))
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
