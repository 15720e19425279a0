"""How far something is: a bar on a terminal, a line now and then elsewhere."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn

Report = Callable[[int], None]
"""Takes how much is done, of the total."""

_STEP = 25


def megabytes(size: float) -> str:
    """Word a number of bytes."""
    return f"{size / 1e6:,.1f} MB"


@contextlib.contextmanager
def progress(label: str, total: int, console: Console | None = None) -> Iterator[Report]:
    """Show how far something is while the block runs."""
    console = console or Console()
    with _bar(label, total, console) if console.is_terminal else _lines(label, total, console) as report:
        yield report


@contextlib.contextmanager
def _bar(label: str, total: int, console: Console) -> Iterator[Report]:
    columns = (
        TextColumn("  {task.description:<12}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        bar = bars.add_task(label, total=total)
        yield lambda done: bars.update(bar, completed=done)


@contextlib.contextmanager
def _lines(label: str, total: int, console: Console) -> Iterator[Report]:
    next_step = _STEP

    def report(done: int) -> None:
        nonlocal next_step
        percentage = done * 100 // total if total else 100
        if percentage >= next_step:
            line = f"  {label:<12} {percentage:>3} %  {megabytes(done)} of {megabytes(total)}"
            console.print(line, highlight=False, soft_wrap=True)
            next_step = percentage // _STEP * _STEP + _STEP

    yield report
