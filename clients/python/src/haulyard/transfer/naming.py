"""Names of files on this machine and in archives. Pure, but for looking at what is on disk."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from haulyard.errors import UploadError

_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")
_MAX_NAME = 200
"""Bytes; file systems take 255, and ours add an ending while they are incomplete."""


def safe_filename(name: str, *, fallback: str) -> str:
    """Return a name that the server gave as one that is safe here: no folder, nothing hidden, nothing reserved."""
    safe = _UNSAFE.sub("_", name.strip()).lstrip(".").rstrip(". ")
    while len(os.fsencode(safe)) > _MAX_NAME:
        stem, dot, suffix = safe.rpartition(".")
        safe = f"{stem[:-1]}{dot}{suffix}" if len(stem) > 1 else safe[:-1]
    return fallback if not safe or _RESERVED.fullmatch(safe) else safe


@dataclass(frozen=True, kw_only=True)
class LocalFile:
    """A file to upload."""

    path: Path
    name: str
    """Its path inside archives, with slashes."""
    size: int


def local_files(path: str | Path, *, prefix: str = "") -> Iterator[LocalFile]:
    """Yield a file, or all files below a folder, with names that begin with the folder's own, as archivers do it.

    Links to files are followed, links to folders are not (they may lead in circles); what is neither file nor folder
    is passed over.

    Raises:
        UploadError: there is no such file or folder, or it cannot be read.
    """
    path = Path(path)
    try:
        if path.is_dir():
            top = path.resolve().name if path != Path() else ""
            for file in sorted(_below(path)):
                inside = file.relative_to(path).as_posix()
                yield _local_file(file, _joined(prefix, top, inside))
        elif path.is_file():
            yield _local_file(path, _joined(prefix, path.name))
        else:
            raise UploadError(f"{path}: there is no such file or folder")
    except OSError as error:
        raise UploadError(f"{error.filename or path}: {error.strerror}") from error


def _below(folder: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise error

    for parent, _, names in os.walk(folder, onerror=fail):
        for name in names:
            file = Path(parent, name)
            if file.is_file():
                yield file


def _local_file(path: Path, name: str) -> LocalFile:
    return LocalFile(path=path, name=name, size=path.stat().st_size)


def _joined(*parts: str) -> str:
    return "/".join(part.strip("/") for part in parts if part.strip("/"))
