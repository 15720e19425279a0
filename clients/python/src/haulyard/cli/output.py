"""What is shown: results on the standard output, everything else on the standard error, bars only on terminals."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from haulyard.models import JobStatus, Model, Update

_UNITS = ("kB", "MB", "GB", "TB", "PB")


def printable(text: str) -> str:
    """Return text that does nothing to a terminal but being shown: names come from others."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def size_text(size: int | None) -> str:
    """Return a number of bytes for people, in powers of 1000 as file managers have it."""
    if size is None:
        return "-"
    if size < 1000:  # noqa: PLR2004 - the step of the units
        return f"{size} B"
    value = float(size)
    for unit in _UNITS:
        value /= 1000
        if value < 999.95 or unit == _UNITS[-1]:  # noqa: PLR2004 - what is shown as 1000.0 is one of the next unit
            return f"{value:.1f} {unit}"
    raise AssertionError


def time_text(moment: datetime | None) -> str:
    """Return a time for people: UTC, to the second."""
    return "-" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows with their columns aligned; nothing is cut off, for what is cut off cannot be copied."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


class Output:
    """Shows things, as the user wants them.

    Args:
        as_json: results as JSON, one value a line; errors too, on the standard error.
        quiet: nothing but results and errors.
    """

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self.as_json = as_json
        self._quiet = quiet
        self._console = Console(stderr=True, highlight=False)
        self._bars: Progress | None = None

    @property
    def is_live(self) -> bool:
        """Whether somebody sits there and watches."""
        return self._console.is_terminal and not self._quiet and not self.as_json

    @property
    def can_ask(self) -> bool:
        """Whether somebody can answer."""
        return self.is_live and sys.stdin.isatty()

    def result(self, value: Model | dict[str, Any], *lines: str) -> None:
        """Show a result: the value as JSON, or the lines."""
        if self.as_json:
            plain = value.to_dict() if isinstance(value, Model) else value
            click.echo(msgspec.json.encode(plain).decode())
        else:
            for line in lines:
                click.echo(printable(line))

    def note(self, text: str) -> None:
        """Tell what happens."""
        if not self._quiet and not self.as_json:
            self._say(Text(printable(text)))

    def warn(self, text: str) -> None:
        """Tell what is not as it should be, and does not stop us."""
        if not self.as_json:
            self._say(Text(printable(text), style="yellow"))

    def _say(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)

    @contextmanager
    def bar(self, title: str, total: int | None = None) -> Iterator["Bar"]:
        """Show a bar while the block runs; on something that is no terminal, nothing."""
        if not self.is_live:
            yield Bar(None, None)
            return
        bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            DownloadColumn(),
            TimeRemainingColumn(compact=True),
            console=self._console,
            expand=True,
            transient=True,
        )
        with bars:
            self._bars = bars
            try:
                yield Bar(bars, bars.add_task(printable(title), total=total))
            finally:
                self._bars = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take the bar away while the block runs."""
        bars = self._bars
        if bars is not None:
            bars.stop()
        try:
            yield
        finally:
            if bars is not None:
                bars.start()


class Bar:
    """A bar, or none."""

    def __init__(self, bars: Progress | None, task: TaskID | None) -> None:
        self._bars = bars
        self._task = task

    def show(self, title: str, done: int, total: int | None) -> None:
        """Show how far it is; None: it is not known."""
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, description=printable(title), completed=done, total=total)

    def advance(self, count: int) -> None:
        """Show that it is further."""
        if self._bars is not None and self._task is not None:
            self._bars.advance(self._task, count)

    def job(self, update: Update) -> None:
        """Show how far a job is."""
        progress = update.progress
        title = update.status if update.status is JobStatus.QUEUED else f"{progress.current}/{progress.total} files"
        self.show(title, progress.bytes_current, progress.bytes_total or None)
