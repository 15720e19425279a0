"""One supervised child process: started, watched until it is ready, stopped cleanly, always reaped.

Nothing is ever restarted from here. A child that ends by itself is reported through `on_exit`; its owner decides.
"""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from haulyard_devstack.errors import StartError
from haulyard_devstack.identity import ProcessIdentity, descendants, end_orphan, signal_tree, start_ticks
from haulyard_devstack.spawn import spawn

log = logging.getLogger(__name__)

Probe = Callable[[], Awaitable[bool]]

_LOG_LIMIT = 16 * 1024 * 1024
_TAIL_BYTES = 4096
_TAIL_LINES = 12


@dataclass(frozen=True, kw_only=True)
class Command:
    """How to run one child."""

    name: str
    argv: Sequence[str]
    log_file: Path
    pid_file: Path
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables for the command alone, on top of our own environment."""
    cwd: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_grace: float = 15.0
    """Seconds between the stop signal and SIGKILL."""
    wrapper: Sequence[str] = ()
    """Words before the command that replace themselves by it, like `unshare`."""
    user: int | None = None
    """Run as this user and group id; only root can ask for it."""


class ManagedProcess:
    """A child process and its pid file. One object can be started again after it has stopped."""

    def __init__(self, command: Command, on_exit: Callable[["ManagedProcess", int], None] | None = None) -> None:
        self.command = command
        self._on_exit = on_exit
        self._child: asyncio.subprocess.Process | None = None
        self._reaper: asyncio.Task[int] | None = None
        self._expected_end = False
        self._log_start = 0

    @property
    def name(self) -> str:
        """The name used in messages and file names."""
        return self.command.name

    @property
    def pid(self) -> int | None:
        """The child's pid while it runs."""
        return self._child.pid if self._child is not None and self.running else None

    @property
    def running(self) -> bool:
        """Whether the child has been started and not yet reaped."""
        return self._reaper is not None and not self._reaper.done()

    @property
    def exit_code(self) -> int | None:
        """How the child ended the last time: negative for a signal; None while it runs, or if it never ran."""
        return self._reaper.result() if self._reaper is not None and self._reaper.done() else None

    async def start(self, ready: Probe, timeout: float = 30.0) -> None:  # noqa: ASYNC109 -- part of the error message
        """Start the child and wait until `ready` says yes.

        Raises:
            StartError: It ended, or stayed silent for `timeout` seconds; it has been stopped.
        """
        if self.running:
            return
        command = self.command
        if await asyncio.to_thread(end_orphan, command.pid_file, command.stop_signal, command.stop_grace):
            log.info("%s: ended a process left over from an earlier run", self.name)
        try:
            await self._spawn()
            await self._wait_ready(ready, timeout)
            self._expected_end = False
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Ask the child to stop, insist after the grace, and reap it. Harmless when it does not run."""
        if self._reaper is None:
            return
        self._expected_end = True
        if self.running:
            self._signal(self.command.stop_signal)
            self._signal(signal.SIGCONT)
            _, late = await asyncio.wait({self._reaper}, timeout=self.command.stop_grace)
            if late:
                log.warning("%s did not stop in %.0f s, killing it", self.name, self.command.stop_grace)
                self._signal_tree(signal.SIGKILL)
        await self._reaper
        self.command.pid_file.unlink(missing_ok=True)

    async def kill(self) -> None:
        """Kill the child and its descendants at once, as a crash would; the pid file stays, as after a crash."""
        self._expected_end = True
        family = [(pid, start_ticks(pid)) for pid in self.members()]
        self._signal_tree(signal.SIGKILL)
        if self._reaper is not None:
            await self._reaper
        for pid, ticks in family:  # those that are not our own children are reaped by others
            while ticks is not None and start_ticks(pid) == ticks:  # noqa: ASYNC110 -- nobody tells us
                await asyncio.sleep(0.01)

    async def ended(self) -> None:
        """Wait until the child has ended, for whatever reason, and is reaped."""
        if self._reaper is not None:
            await asyncio.wait({self._reaper})

    def pause(self) -> None:
        """Freeze the child: its sockets stay open and nobody answers."""
        self._signal_tree(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen child go on."""
        self._signal_tree(signal.SIGCONT)

    def log_tail(self) -> str:
        """Return the last lines written since this start."""
        with contextlib.suppress(OSError), self.command.log_file.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self._log_start, size - _TAIL_BYTES))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-_TAIL_LINES:])
        return ""

    async def _spawn(self) -> None:
        command = self.command
        command.log_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if command.log_file.exists() and command.log_file.stat().st_size > _LOG_LIMIT:
            command.log_file.replace(command.log_file.with_suffix(".old.log"))
        # The child writes into the file by itself: nothing is lost or blocked when we are slow, paused or gone.
        with command.log_file.open("ab") as output:
            self._log_start = output.tell()
            child = await spawn(
                command.argv,
                env=command.env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                cwd=command.cwd,
                wrapper=command.wrapper,
                user=command.user,
                death_signal=command.stop_signal,
            )
        self._child = child
        self._expected_end = True  # until it is ready, its end is the answer to `start`, not news
        self._reaper = asyncio.create_task(self._reap(child), name=f"reap {self.name}")
        ProcessIdentity.observe(child.pid, command.argv).save(command.pid_file)

    async def _wait_ready(self, ready: Probe, timeout: float) -> None:  # noqa: ASYNC109
        assert self._reaper is not None  # noqa: S101
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        pause = 0.02
        while True:
            answer = False
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(5):
                    answer = await ready()
            if self._reaper.done():
                raise self._failed(f"it ended with {describe_exit(self._reaper.result())}")
            if answer:
                return
            if loop.time() > deadline:
                raise self._failed(f"not ready after {timeout:.0f} s")
            await asyncio.wait({self._reaper}, timeout=pause)
            pause = min(pause * 1.5, 0.25)

    def _failed(self, reason: str) -> StartError:
        return StartError(self.name, reason, self.command.log_file, self.log_tail())

    async def _reap(self, child: asyncio.subprocess.Process) -> int:
        code = await child.wait()
        # The group outlives its leader when helpers are left in it; they are of no use to anyone now.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        if not self._expected_end:
            log.error("%s ended by itself with %s (log: %s)", self.name, describe_exit(code), self.command.log_file)
            if self._on_exit is not None:
                self._on_exit(self, code)
        return code

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is not None and start_ticks(self.pid) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _signal_tree(self, number: signal.Signals) -> None:
        if self.pid is not None and start_ticks(self.pid) is not None:
            signal_tree(self.pid, number)

    def members(self) -> list[int]:
        """List the pids of the child and its descendants while it runs."""
        return [self.pid, *descendants(self.pid)] if self.pid is not None else []


def describe_exit(code: int) -> str:
    """Word a return code: `exit code 1`, `signal SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
