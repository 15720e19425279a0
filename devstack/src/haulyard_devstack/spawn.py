"""Starting a child so that it ends when we end, with variables for itself alone, and as another user if need be."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from haulyard_devstack import launch


async def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    stdin: int,
    stdout: int | IO[bytes],
    cwd: Path | None = None,
    wrapper: Sequence[str] = (),
    user: int | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
) -> asyncio.subprocess.Process:
    """Start `argv` in a session of its own, its error output joined to its output.

    Args:
        argv: The program and its arguments.
        env: Variables on top of our own. They travel in the environment, not in the arguments, which others can read.
        stdin: As for `asyncio.create_subprocess_exec`.
        stdout: As for `asyncio.create_subprocess_exec`.
        cwd: Its working directory.
        wrapper: Words before the program that replace themselves by it, like `unshare`.
        user: Run as this user and group id; only root can ask for it.
        death_signal: What the kernel sends it when the thread that called this ends.
    """
    return await asyncio.create_subprocess_exec(
        *wrapper,
        *(sys.executable, "-I", "-S", launch.__file__),
        *(str(os.getpid()), str(int(death_signal)), str(-1 if user is None else user)),
        *argv,
        stdin=stdin,
        stdout=stdout,
        stderr=asyncio.subprocess.STDOUT,
        cwd=cwd,
        env={**os.environ, launch.VARIABLE: json.dumps(dict(env))},
        start_new_session=True,
    )
