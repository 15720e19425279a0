"""An archive that is only partly here: its bytes in ``<name>.part``, what they are in ``<name>.part.json``.

The description is written after the bytes that it tells of are on disk, so what it says is there is there, even after
a crash. It names the archive by job, size and ETag: bytes of another one are never mixed in.
"""

import asyncio
import os
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec

from haulyard.errors import DownloadError
from haulyard.transfer.ranges import Range, merged, missing

if sys.platform != "win32":
    import fcntl

_SAVE_EVERY = 64 * 1024 * 1024
"""Bytes that may arrive before the description is written anew: what a crash costs at most."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Which archive it is."""

    job_id: str
    size: int
    etag: str


class _Description(msgspec.Struct, frozen=True, kw_only=True):
    identity: Identity
    done: list[Range]


class PartialFile:
    """The incomplete file of one download, ours alone while it is open.

    Args:
        target: where the archive is to be in the end.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f"{target.name}.part")
        self._description = target.with_name(f"{target.name}.part.json")
        self._file: BinaryIO | None = None
        self._identity: Identity | None = None
        self._done: list[Range] = []
        self._unsaved = 0
        self._seeking = threading.Lock()
        self._saving = asyncio.Lock()

    def __enter__(self) -> Self:
        """Open or create the file.

        Raises:
            DownloadError: another process has it, or it cannot be written.
        """
        try:
            # Not "r+b", which fails without a file, nor "w+b", which forgets what is there.
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as error:
            raise DownloadError(f"{self.path} cannot be written: {error.strerror}") from error
        self._file = os.fdopen(descriptor, "r+b", buffering=0)
        if sys.platform != "win32":
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                self._file.close()
                raise DownloadError(f"Another download to {self.target} is running") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is None:
            return
        try:
            if self._identity is not None and self._done:
                self._save(list(self._done))
        finally:
            # A write that was given up still runs in its thread; it must not meet another file under this descriptor.
            with self._seeking:
                self._file.close()
                self._file = None

    @property
    def _opened(self) -> BinaryIO:
        if self._file is None:
            raise ValueError("the partial file is not open")
        return self._file

    def begin(self, identity: Identity) -> None:
        """Go on with what is here if it is of this archive, else from nothing."""
        description = self._described()
        self._done = []
        if description is not None and description.identity == identity:
            length = min(identity.size, self.path.stat().st_size)
            self._done = merged((max(0, start), min(end, length)) for start, end in description.done)
        self._identity = identity
        self._unsaved = 0
        if not self._done:
            self._description.unlink(missing_ok=True)
            self._opened.truncate(0)

    @property
    def bytes_done(self) -> int:
        """Bytes that are here."""
        return sum(end - start for start, end in self._done)

    def left(self) -> list[Range]:
        """Return what is still to be fetched."""
        return missing(self._archive.size, self._done)

    @property
    def _archive(self) -> Identity:
        if self._identity is None:
            raise ValueError("which archive it is has not been said")
        return self._identity

    async def write(self, at: int, data: bytes) -> None:
        """Write bytes to their place.

        Raises:
            DownloadError: the disk does not take them.
        """
        try:
            await asyncio.to_thread(self._write_at, at, data)
            self._done = merged([*self._done, (at, at + len(data))])
            self._unsaved += len(data)
            if self._unsaved >= _SAVE_EVERY and not self._saving.locked():
                async with self._saving:
                    self._unsaved = 0
                    await asyncio.to_thread(self._save, list(self._done))
        except OSError as error:
            raise DownloadError(f"{self.path} cannot be written: {error.strerror}") from error

    def _write_at(self, at: int, data: bytes) -> None:
        left = memoryview(data)
        with self._seeking:
            self._opened.seek(at)
            while left:
                left = left[self._opened.write(left) :]

    def _save(self, done: list[Range]) -> None:
        """Write the description of what is ``done``, which was written before."""
        os.fsync(self._opened.fileno())
        replacement = self._description.with_name(f"{self._description.name}.new")
        replacement.write_bytes(msgspec.json.encode(_Description(identity=self._archive, done=done)))
        replacement.replace(self._description)

    def _described(self) -> _Description | None:
        try:
            return msgspec.json.decode(self._description.read_bytes(), type=_Description)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None

    def finish(self, *, overwrite: bool) -> None:
        """Give the file, which is complete, its name.

        Raises:
            DownloadError: it is not complete, there is a file of this name, or the disk refuses.
        """
        if self.left():
            raise DownloadError(f"{self.path} is not complete")
        if not overwrite and self.target.exists():
            raise DownloadError(f"{self.target} exists already")
        try:
            self._opened.truncate(self._archive.size)
            os.fsync(self._opened.fileno())
            self.path.replace(self.target)
            self._description.unlink(missing_ok=True)
        except OSError as error:
            raise DownloadError(f"{self.target} cannot be written: {error.strerror}") from error
        self._identity, self._done = None, []  # nothing to be described any more

    def discard(self) -> None:
        """Forget what is here."""
        self._identity, self._done = None, []
        self._description.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
