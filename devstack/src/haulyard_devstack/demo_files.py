"""Which real files of this machine the demonstration archives: always the same ones, from none to many bytes.

Only what is installed for everybody is looked at (Python, its packages, shared data and libraries), never anybody's own
files. The choice depends on nothing but those files, so two runs on one machine archive the same.
"""

import os
import sysconfig
import tarfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from haulyard_devstack.demo_errors import DemoError

JOB_FILES = 100
"""As many as one job may have."""
_OTHER_FILES = 150
"""Files that are uploaded too, and not asked for: the job picks out its own."""

_KB, _MB = 1000, 1000 * 1000
BIG = 100 * 1024 * 1024
"""At least one file is larger than this."""
_BIG_BELOW = 160 * _MB
_PACKED = 110 * _MB
_MAX_NAME = 500
_MAX_ENTRIES = 15_000
"""About as many directory entries are looked at in each place, which takes a second in all."""
_SKIPPED = frozenset({"__pycache__", "site-packages", "dist-packages"})
"""What Python may rewrite, and packages of others."""

_SIZES = ((10 * _MB, 40 * _MB, 8), (1 * _MB, 10 * _MB, 15), (64 * _KB, 1 * _MB, 30), (1, 64 * _KB, 45))
"""From, below, and how many of such files a job gets. What a machine lacks in one row is made up for in the next."""

_ODD_NAMES = (
    "Übersicht/{name}",
    "写真/{name}",
    "Δοκιμή/{name}",
    "📦 Fracht/{name}",
    "with spaces/and   more spaces/{name}",
    "cafe\u0301/{name}",  # a letter and its accent as two characters, as some systems store it
    "report (final) v2{suffix}",
    "100 % #1 & more?/it's {name}",
    "twins/read me.txt",
    "twins/read me.txt",
)
"""Names that make trouble in careless archives; the last two are the same."""


@dataclass(frozen=True, slots=True)
class DemoFile:
    """A file of this machine, and the name that it gets in Haulyard's catalogue."""

    path: Path
    size: int
    name: str


@dataclass(frozen=True, slots=True)
class Selection:
    """What is uploaded."""

    job: list[DemoFile]
    """What the job is to archive."""
    others: list[DemoFile]

    @property
    def all(self) -> list[DemoFile]:
        """Both."""
        return [*self.job, *self.others]


def places() -> dict[str, Path]:
    """Return where to look, by the first part of the files' names."""
    return {
        "python": Path(sysconfig.get_path("stdlib")),
        "packages": Path(sysconfig.get_path("purelib")),
        "programs": Path(sysconfig.get_path("scripts")),
        "share": Path("/usr/share"),
        "lib": Path("/usr/lib"),
    }


def select_files(work: Path, where: Mapping[str, Path]) -> Selection:
    """Look around and choose; where no file is large enough, pack one from real ones.

    Args:
        work: An empty directory of ours.
        where: See `places`.

    Raises:
        DemoError: There are too few files.
    """
    found: dict[Path, DemoFile] = {}
    for label, folder in where.items():
        for file in _scan(label, folder.resolve()):
            found.setdefault(file.path, file)
    files = list(found.values())
    large = [file for file in files if BIG < file.size < _BIG_BELOW]
    big = min(large, key=lambda file: (file.size, file.name)) if large else _pack(files, work / "packed.tar")
    return choose(files, big)


def choose(files: Sequence[DemoFile], big: DemoFile) -> Selection:
    """Choose from all sizes, evenly within each row of sizes.

    Raises:
        DemoError: There are too few files.
    """
    empty = min((file for file in files if file.size == 0), key=lambda file: file.name, default=None)
    if empty is None:
        raise DemoError("this machine's Python has no empty file, which is hard to believe")
    job = [big, empty]
    lacking = 0
    for smallest, below, count in _SIZES:
        wanted = count + lacking
        taken = _spread([file for file in files if smallest <= file.size < below], wanted)
        lacking = wanted - len(taken)
        job += taken
    if lacking:
        raise DemoError(f"only {len(job)} of {JOB_FILES} files were found on this machine")
    in_job = {file.path for file in job}
    rest = [file for file in files if file.path not in in_job and 0 < file.size < _MB]
    others = _spread(rest, _OTHER_FILES)
    renamed = [*job[: -len(_ODD_NAMES)], *map(_rename, job[-len(_ODD_NAMES) :], _ODD_NAMES)]
    return Selection(job=sorted(renamed, key=lambda file: file.name), others=others)


def _spread(files: Sequence[DemoFile], count: int) -> list[DemoFile]:
    ordered = sorted(files, key=lambda file: (file.size, file.name))
    if len(ordered) <= count:
        return ordered
    return [ordered[index * len(ordered) // count] for index in range(count)]


def _rename(file: DemoFile, pattern: str) -> DemoFile:
    name = PurePosixPath(file.name)
    return replace(file, name=pattern.format(name=name.name, suffix=name.suffix))


def _scan(label: str, folder: Path) -> Iterator[DemoFile]:
    """Walk level by level, so that one deep package does not hide all others behind the limit."""
    waiting = deque([(folder, label)])
    seen = 0
    while waiting and seen < _MAX_ENTRIES:
        parent, shown_parent = waiting.popleft()
        for entry in _entries(parent):
            seen += 1
            shown = f"{shown_parent}/{entry.name}"
            # isprintable is also false for names that are no UTF-8
            if entry.name in _SKIPPED or not shown.isprintable() or len(shown.encode()) > _MAX_NAME:
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.append((Path(entry.path), shown))
            elif entry.is_file(follow_symlinks=False) and os.access(entry.path, os.R_OK):
                yield DemoFile(Path(entry.path), entry.stat(follow_symlinks=False).st_size, shown)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:  # it is not there, or not for us
        return []


def _pack(files: Sequence[DemoFile], target: Path) -> DemoFile:
    with tarfile.open(target, "w") as archive:
        for file in sorted(files, key=lambda file: file.name):
            archive.add(file.path, file.name)
            if archive.offset > _PACKED:
                break
    size = target.stat().st_size
    if size <= BIG:
        raise DemoError(f"all files that were found on this machine are only {size} bytes")
    return DemoFile(target, size, "packed/many files (one archive).tar")
