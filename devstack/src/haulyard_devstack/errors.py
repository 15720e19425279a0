"""What can go wrong while the embedded infrastructure runs, worded for the person at the terminal."""

from pathlib import Path


class DevstackError(Exception):
    """Something the user can read and act on; the command line prints it without a traceback."""


class StartError(DevstackError):
    """A child process did not become ready. The message ends with its last log lines; the rest is in `log_file`."""

    def __init__(self, name: str, reason: str, log_file: Path, tail: str = "") -> None:
        self.name = name
        self.log_file = log_file
        shown = f"\n  {name} said last:\n" + "\n".join(f"    {line}" for line in tail.splitlines()) if tail else ""
        super().__init__(f"{name} did not start: {reason} (log: {log_file}){shown}")


class LockedError(DevstackError):
    """Another stack runs on the same data directory; stop it, or choose another one with HAULYARD_HOME."""

    def __init__(self, root: Path, pid: int | None) -> None:
        self.pid = pid
        holder = f"process {pid}" if pid else "another process"
        super().__init__(
            f"{root} is in use by {holder}: stop it (haulyard-devstack down), or set HAULYARD_HOME to another directory"
        )
