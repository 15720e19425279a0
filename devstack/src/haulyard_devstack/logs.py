"""The logs of all children as one stream of lines, each with its owner's name in front."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TextIO

_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
_PERIOD = 0.1
_CHUNK = 256 * 1024


class _Followed:
    def __init__(self, path: Path, position: int) -> None:
        self.path = path
        self.position = position
        self.rest = b""

    def new_lines(self) -> list[str]:
        try:
            with self.path.open("rb") as file:
                if file.seek(0, 2) < self.position:  # it was moved away and begun anew
                    self.position = 0
                file.seek(self.position)
                chunk = file.read(_CHUNK)
        except OSError:
            return []
        self.position += len(chunk)
        *lines, self.rest = (self.rest + chunk).split(b"\n")
        return [line.decode(errors="replace").rstrip() for line in lines]


class MergedLog:
    """Prints what the children append to their log files.

    It reads the files instead of pipes: a child never waits for the printer, and what it says after us is kept.
    """

    def __init__(self, output: TextIO | None = None, *, colour: bool | None = None) -> None:
        self._output = output or sys.stdout
        self._colour = self._output.isatty() if colour is None else colour
        self._followed: dict[str, _Followed] = {}

    def follow(self, name: str, path: Path) -> None:
        """Print what is appended to this file from now on."""
        self._followed[name] = _Followed(path, path.stat().st_size if path.exists() else 0)

    def say(self, line: str) -> None:
        """Print a line of our own."""
        print(line, file=self._output, flush=True)

    def print_new(self) -> None:
        """Print the complete lines that have come since the last time."""
        width = max((len(name) for name in self._followed), default=0)
        for index, (name, followed) in enumerate(self._followed.items()):
            for line in filter(None, followed.new_lines()):
                self.say(f"{self._paint(f'{name:{width}} |', index)} {line}")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep printing while the block runs, and once more at its end."""

        async def print_forever() -> None:
            while True:
                self.print_new()
                await asyncio.sleep(_PERIOD)

        task = asyncio.create_task(print_forever(), name="merged log")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self.print_new()

    def _paint(self, text: str, index: int) -> str:
        return f"\x1b[{_COLOURS[index % len(_COLOURS)]}m{text}\x1b[0m" if self._colour else text
