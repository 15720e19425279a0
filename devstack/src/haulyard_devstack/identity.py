"""Telling a process we once started from a stranger that got its pid later.

A pid file alone proves nothing: pids are reused. So the file also holds the process's start time (in clock ticks since
boot), the boot it belongs to, and its command line. Only when all of them match is a process ours to signal.
"""

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

_PROC = Path("/proc")


class ProcessIdentity(msgspec.Struct, frozen=True):
    """What a pid file holds."""

    pid: int
    start_ticks: int
    boot_id: str
    argv: list[str]

    @classmethod
    def observe(cls, pid: int, argv: Sequence[str]) -> "ProcessIdentity":
        """Describe the running process `pid`, which was started with (or is about to become) `argv`."""
        return cls(pid=pid, start_ticks=start_ticks(pid) or 0, boot_id=_boot_id(), argv=list(argv))

    def is_running(self) -> bool:
        """Say whether exactly this process is still there (a zombie is not)."""
        if not self.argv or self.boot_id != _boot_id() or start_ticks(self.pid) != self.start_ticks:
            return False
        # A process that is still being launched has the launcher's words before its own.
        return _cmdline(self.pid)[-len(self.argv) :] == self.argv

    def save(self, path: Path) -> None:
        """Write the pid file in one step, so that a crash leaves either the old or the new one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(path.suffix + ".new")
        fresh.write_bytes(msgspec.json.encode(self))
        fresh.replace(path)

    @classmethod
    def load(cls, path: Path) -> "ProcessIdentity | None":
        """Read a pid file; a missing or unreadable one names nobody."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, msgspec.DecodeError):
            return None


def own_identity() -> ProcessIdentity:
    """Describe the process we are."""
    return ProcessIdentity.observe(os.getpid(), _cmdline(os.getpid()))


def start_ticks(pid: int) -> int | None:
    """Return when the process started, in clock ticks since boot; None for a process that is gone or a zombie."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The second field is the name in parentheses and may hold anything; state and start time are fields 3 and 22.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def descendants(pid: int) -> list[int]:
    """List the children of a process, their children, and so on (PostgreSQL's backends leave its process group)."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        of_this = children.get(waiting.pop(), [])
        found += of_this
        waiting += of_this
    return found


def signal_tree(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process and all its descendants, the process first."""
    for member in [pid, *descendants(pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, number)


def end_orphan(pid_file: Path, stop_signal: signal.Signals, grace: float) -> bool:
    """End the process a pid file names, if it is still the very same one; return whether there was one to end."""
    recorded = ProcessIdentity.load(pid_file)
    found = recorded is not None and recorded.is_running()
    if recorded is not None and found:
        family = [(member, start_ticks(member)) for member in descendants(recorded.pid)]
        os.kill(recorded.pid, stop_signal)
        # A paused process would keep the signal for later.
        os.kill(recorded.pid, signal.SIGCONT)
        deadline = time.monotonic() + grace
        while recorded.is_running() and time.monotonic() < deadline:
            time.sleep(0.05)
        if recorded.is_running():
            signal_tree(recorded.pid, signal.SIGKILL)
        for member, ticks in family:
            if ticks is not None and start_ticks(member) == ticks:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member, signal.SIGKILL)
        while recorded.is_running():
            time.sleep(0.02)
    pid_file.unlink(missing_ok=True)
    return found


def _cmdline(pid: int) -> list[str]:
    try:
        raw = (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return []
    return [os.fsdecode(word) for word in raw.split(b"\0")[:-1]]


def _boot_id() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
