"""Running programs to their end, within a time, with an error that shows what they said."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_SHOWN = 6_000


class CommandError(Exception):
    """A program failed or took too long; the message ends with its output."""


def run(
    argv: Sequence[str | Path], *, seconds: float, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> str:
    """Run a program and return what it printed.

    Raises:
        CommandError: it is not there, ended with an error, or ran for more than ``seconds``.
    """
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        said = (error.output or b"").decode(errors="replace")
        raise CommandError(f"not done within {seconds:.0f} s: {' '.join(words)}\n{said[-_SHOWN:]}") from error
    except OSError as error:
        raise CommandError(f"cannot run {words[0]}: {error}") from error
    output = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise CommandError(f"exit code {done.returncode}: {' '.join(words)}\n{output[-_SHOWN:]}")
    return output
