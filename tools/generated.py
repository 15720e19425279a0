"""Files that are made from the code: written anew where they differ from what they should be, or only named."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def is_check(description: str | None, arguments: Sequence[str] | None = None) -> bool:
    """Return whether a tool was called with ``--check``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a file is stale")
    return bool(parser.parse_args(arguments).check)


def refresh(expected: Iterable[tuple[Path, str]], *, check: bool) -> tuple[list[Path], list[Path]]:
    """Write the files that are not what they should be, and name each; with ``check`` only name them.

    Args:
        expected: each file with its text; what a file follows from must come before it.
        check: change nothing.

    Returns:
        All files, and those that were stale.
    """
    every, stale = [], []
    for path, text in expected:
        every.append(path)
        if path.exists() and path.read_text("utf-8") == text:
            continue
        stale.append(path)
        print(f"{'stale' if check else 'written'}: {path.relative_to(ROOT)}")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    return every, stale
