"""What the four embedded servers have in common."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from haulyard_devstack.process import Command, ManagedProcess, Probe
from haulyard_devstack.remembered import Remembered

ExitListener = Callable[[ManagedProcess, int], None]


@dataclass(frozen=True)
class Place:
    """Where one stack keeps its things."""

    root: Path
    """The data directory of the stack; its lock file is here."""
    cache: Path
    """What several stacks may share: downloaded and unpacked software."""
    on_exit: ExitListener | None = None
    """Called when a child ends by itself."""

    def data(self, name: str) -> Path:
        """Return the directory of one server's data, made if missing and closed to others."""
        path = self.root / name
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def log_file(self, name: str) -> Path:
        """Return where a child's output goes."""
        return self.root / "logs" / f"{name}.log"

    def pid_file(self, name: str) -> Path:
        """Return where a child's identity is recorded."""
        return self.root / "run" / f"{name}.pid"


class Server(ABC):
    """One embedded server: prepares its data, runs one or more processes, and knows its address."""

    name: str
    follow_logs = True
    """Whether its log lines are for the user of `up`; if not, they are only in the files."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.data = place.data(self.name)
        self.kept = Remembered(self.data / "remembered.json")
        self.processes: dict[str, ManagedProcess] = {}
        """The children in the order they were started."""
        self._port = 0
        """Where clients connect, once it has started."""
        self._turn = asyncio.Lock()

    @property
    @abstractmethod
    def address(self) -> str:
        """What to show to people: no secrets in it."""

    @abstractmethod
    def environment(self) -> dict[str, str]:
        """Return the variables by which the services find this server; valid once it has started."""

    @abstractmethod
    async def _start(self) -> None:
        """Prepare the data and start the processes."""

    @property
    def running(self) -> bool:
        """Whether all processes run."""
        return bool(self.processes) and all(process.running for process in self.processes.values())

    async def start(self) -> None:
        """Start the server and return when it answers. Whatever was started is stopped again if that fails."""
        async with self._turn:
            if self.running:
                return
            await self._stop()  # a server of several processes may have lost only one of them
            try:
                await self._start()
            except BaseException:
                await self._stop()
                raise

    async def stop(self) -> None:
        """Stop cleanly; the data stays."""
        async with self._turn:
            await self._stop()

    async def kill(self) -> None:
        """End every process with SIGKILL, as a crash of the machine would."""
        async with self._turn:
            await asyncio.gather(*(process.kill() for process in self.processes.values()))

    def pause(self) -> None:
        """Freeze the server (SIGSTOP): connections stay open, nothing answers."""
        for process in self.processes.values():
            process.pause()

    def resume(self) -> None:
        """Let a frozen server go on (SIGCONT)."""
        for process in self.processes.values():
            process.resume()

    async def _stop(self) -> None:
        for process in reversed(self.processes.values()):
            await process.stop()

    async def _run(self, command: Command, ready: Probe, timeout: float = 30.0) -> None:  # noqa: ASYNC109
        process = ManagedProcess(command, self.place.on_exit)
        self.processes[command.name] = process
        await process.start(ready, timeout)
