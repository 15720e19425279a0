"""The four servers together: started in parallel, each one skipped when its address is given, stopped together."""

import asyncio
import fcntl
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from haulyard_devstack.errors import DevstackError, LockedError
from haulyard_devstack.nats import NatsServer
from haulyard_devstack.postgres import PostgresServer
from haulyard_devstack.process import ManagedProcess
from haulyard_devstack.s3 import s3_server
from haulyard_devstack.s3_endpoint import REGION
from haulyard_devstack.server import Place, Server
from haulyard_devstack.valkey import ValkeyServer

log = logging.getLogger(__name__)

ReadyListener = Callable[[str, str, float], None]

ADDRESS_OF = {
    "nats": "HAULYARD_NATS_URL",
    "postgres": "HAULYARD_POSTGRES_DSN",
    "valkey": "HAULYARD_REDIS_URL",
    "s3": "HAULYARD_S3_ENDPOINT",
}
"""The variable that holds each server's address. Where it is set, the embedded server is not started."""
_S3_EXTRAS = ("HAULYARD_S3_ACCESS_KEY", "HAULYARD_S3_SECRET_KEY", "HAULYARD_S3_REGION")


class DirectoryLock:
    """Holds a data directory for one stack. The kernel lets go of it when its process ends, however that happens."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take the directory, if this object has not taken it already.

        Raises:
            LockedError: Somebody has it; the error names their pid.
            DevstackError: The directory cannot be written to.
        """
        if self._fd is not None:
            return
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except PermissionError as error:
            raise DevstackError(
                f"{error.filename} belongs to another user: run as them, or set HAULYARD_HOME to a directory of yours"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip()
            os.close(descriptor)
            raise LockedError(self._root, int(holder) if holder.isdigit() else None) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._fd = descriptor

    def release(self) -> None:
        """Give the directory back."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class Infra:
    """The embedded infrastructure under one data directory; an async context manager.

    ```python
    async with Infra(Path(".haulyard/dev")) as infra:
        environment = os.environ | infra.environment()
    ```

    Args:
        root: Where data, logs, pid files and secrets live. Only one `Infra` can use it at a time.
        env: Addresses of servers that are not to be started here, and options; by default our own environment.
        cache: Downloaded software, shared by several roots; by default `HAULYARD_CACHE`, else `cache` beside `root`.
        on_ready: Called with name, address and seconds as each server becomes ready.
        on_exit: Called with name and return code when a child ends by itself. Nothing is restarted.
    """

    def __init__(
        self,
        root: Path,
        *,
        env: Mapping[str, str] = os.environ,
        cache: Path | None = None,
        on_ready: ReadyListener | None = None,
        on_exit: Callable[[str, int], None] | None = None,
    ) -> None:
        self.root = root.absolute()
        self._env = dict(env)
        shared = self._env.get("HAULYARD_CACHE", "")
        self._cache = (cache or (Path(shared) if shared else self.root.parent / "cache")).absolute()
        self._on_ready = on_ready
        self._on_exit = on_exit
        self._lock = DirectoryLock(self.root)
        self._servers: dict[str, Server] = {}

    async def __aenter__(self) -> Self:
        self.lock()
        try:
            self._servers = self._build()
            await self._start_all()
        except BaseException:
            await self._stop_all()
            self.unlock()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop_all()
        self.unlock()

    def lock(self) -> None:
        """Take the data directory ahead of starting.

        Raises:
            LockedError: Another stack runs there.
        """
        self._lock.acquire()

    def unlock(self) -> None:
        """Give the data directory back."""
        self._lock.release()

    @property
    def names(self) -> list[str]:
        """The servers that run here: those of `nats`, `postgres`, `valkey`, `s3` whose address was not given."""
        return list(self._servers)

    @property
    def processes(self) -> dict[str, ManagedProcess]:
        """Every child by its name (S3 has several)."""
        return {name: process for server in self._servers.values() for name, process in server.processes.items()}

    def server_processes(self, name: str) -> list[str]:
        """Return the names of one server's children."""
        return list(self._servers[name].processes)

    def logs_to_follow(self) -> dict[str, Path]:
        """Return the log files that a person at the terminal wants to see, by the name of the child."""
        return {
            name: process.command.log_file
            for server in self._servers.values()
            if server.follow_logs
            for name, process in server.processes.items()
        }

    def environment(self) -> dict[str, str]:
        """Return the addresses of all four, started here or given, and the keys of S3, for child services."""
        addresses = {name: self._env[name] for name in ADDRESS_OF.values() if self._env.get(name)}
        if "s3" not in self._servers:
            addresses |= {name: self._env[name] for name in _S3_EXTRAS if self._env.get(name)}
        for server in self._servers.values():
            addresses |= server.environment()
        addresses.setdefault("HAULYARD_S3_REGION", REGION)
        return addresses

    def addresses(self) -> dict[str, str]:
        """Return the addresses of the servers that run here, without secrets, to show to people."""
        return {name: server.address for name, server in self._servers.items()}

    async def start(self, name: str) -> None:
        """Start one server again after `stop` or `kill`; it keeps its address if nobody took the port meanwhile."""
        await self._servers[name].start()

    async def stop(self, name: str) -> None:
        """Stop one server cleanly."""
        await self._servers[name].stop()

    async def kill(self, name: str) -> None:
        """End one server with SIGKILL, all its processes at once."""
        await self._servers[name].kill()

    async def pause(self, name: str) -> None:
        """Freeze one server (SIGSTOP)."""
        self._servers[name].pause()

    async def resume(self, name: str) -> None:
        """Let a frozen server go on (SIGCONT)."""
        self._servers[name].resume()

    def _build(self) -> dict[str, Server]:
        place = Place(self.root, self._cache, self._child_ended)
        makers: dict[str, Callable[[], Server]] = {
            "nats": lambda: NatsServer(place),
            "postgres": lambda: PostgresServer(place),
            "valkey": lambda: ValkeyServer(place),
            "s3": lambda: s3_server(place, self._env),
        }
        return {name: make() for name, make in makers.items() if not self._env.get(ADDRESS_OF[name])}

    async def _start_all(self) -> None:
        # A failure cancels the others' starts; each of them stops what it had started.
        try:
            async with asyncio.TaskGroup() as group:
                for server in self._servers.values():
                    group.create_task(self._start_one(server))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _start_one(self, server: Server) -> None:
        started = time.monotonic()
        await server.start()
        if self._on_ready is not None:
            self._on_ready(server.name, server.address, time.monotonic() - started)

    async def _stop_all(self) -> None:
        results = await asyncio.gather(*(server.stop() for server in self._servers.values()), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                log.error("while stopping: %s", result)

    def _child_ended(self, process: ManagedProcess, code: int) -> None:
        if self._on_exit is not None:
            self._on_exit(process.name, code)
