"""Running a program that does one thing and ends, such as `initdb` or `apt-get`."""

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from haulyard_devstack.errors import DevstackError
from haulyard_devstack.spawn import spawn

_SHOWN = 2000


async def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    words: str = "",
    wrapper: Sequence[str] = (),
    user: int | None = None,
    log_file: Path | None = None,
) -> str:
    """Run a program to its end and return what it printed. It dies with us, and is killed when we are cancelled.

    Args:
        argv: The program and its arguments.
        env: Variables on top of our own.
        cwd: Its working directory.
        words: Its standard input.
        wrapper: Words before the program that replace themselves by it.
        user: Run as this user and group id.
        log_file: Append its output here as well.

    Raises:
        DevstackError: It could not be run, or said it failed; the message holds the end of its output.
    """
    child = await spawn(
        argv,
        env=env or {},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=cwd,
        wrapper=wrapper,
        user=user,
    )
    try:
        raw, _ = await child.communicate(words.encode())
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.communicate()
        raise
    output = raw.decode(errors="replace")
    if log_file is not None:
        log_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with log_file.open("a") as log:
            log.write(output)
    if child.returncode != 0:
        where = f" (log: {log_file})" if log_file else ""
        name = os.path.basename(argv[0])  # noqa: PTH119
        raise DevstackError(f"{name} ended with exit code {child.returncode}{where}:\n{output[-_SHOWN:].strip()}")
    return output
