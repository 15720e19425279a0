"""What is done to the installation: a process of ours is killed every second, and now and then a server goes away."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from haulyard_chassis.tasks import cancel_and_wait
from haulyard_devstack import Infra, Stack
from haulyard_devstack.errors import DevstackError
from haulyard_devstack.probes import http_ok
from haulyard_devstack.process import ManagedProcess

READY = 60.0
"""Seconds that a service may take to be ready again; then it is started anew."""


@dataclass
class Havoc:
    """What was broken."""

    kills: Counter[str] = field(default_factory=Counter)
    outages: Counter[str] = field(default_factory=Counter)
    restarts_failed: Counter[str] = field(default_factory=Counter)
    """Starts that ended because something else was away; any supervisor starts again."""
    own_ends: list[str] = field(default_factory=list)
    """Services that were ready and ended without having been killed."""
    ready_seconds: list[float] = field(default_factory=list)


class Supervisor:
    """Keeps the services running, whatever ends them, as Kubernetes does."""

    def __init__(self, stack: Stack, havoc: Havoc) -> None:
        self._stack = stack
        self._havoc = havoc
        self._starting: dict[str, asyncio.Task[None]] = {}

    def is_up(self, name: str) -> bool:
        """Whether a service was ready, and runs."""
        return name not in self._starting and self._stack.processes[name].running

    async def kill(self, name: str) -> None:
        """End a service with SIGKILL and have it started again."""
        self._havoc.kills[name] += 1
        self._start(self._stack.processes[name], kill=True)
        await asyncio.sleep(0)

    def _start(self, process: ManagedProcess, *, kill: bool = False) -> None:
        task = asyncio.create_task(self._until_ready(process, kill=kill), name=f"start {process.name}")
        self._starting[process.name] = task
        task.add_done_callback(lambda _: self._starting.pop(process.name))

    async def _until_ready(self, process: ManagedProcess, *, kill: bool) -> None:
        if kill:
            await process.kill()
        url = f"{self._stack.urls[process.name]}/health/ready"
        started = time.monotonic()
        while True:
            try:
                await process.start(lambda: http_ok(url), READY)
            except DevstackError:
                self._havoc.restarts_failed[process.name] += 1
                await asyncio.sleep(0.5)
            else:
                self._havoc.ready_seconds.append(time.monotonic() - started)
                return

    async def watch(self) -> None:
        """Start what ended by itself."""
        while True:
            for name, process in self._stack.processes.items():
                if name not in self._starting and not process.running:
                    self._havoc.own_ends.append(f"{name}: {process.log_tail()[-500:]}")
                    self._start(process)
            await asyncio.sleep(0.1)

    async def settle(self) -> None:
        """Wait until every service is ready.

        Raises:
            TimeoutError: one does not get ready although nothing is broken any more.
        """
        async with asyncio.timeout(2 * READY):
            while self._starting:
                await asyncio.wait(self._starting.values())

    async def stop(self) -> None:
        """Start nothing any more."""
        await cancel_and_wait(*self._starting.values())


async def kill_services(supervisor: Supervisor, victims: Iterator[str], *, every: float) -> None:
    """Kill the next service that runs, again and again."""
    while True:
        await asyncio.sleep(every)
        for name in victims:
            if supervisor.is_up(name):
                await supervisor.kill(name)
                break
            await asyncio.sleep(0.05)


async def take_servers_away(
    infra: Infra, victims: Iterator[str], havoc: Havoc, *, every: float, away: float, hard: Iterator[bool]
) -> None:
    """Stop or kill the next server, and start it again a moment later, again and again."""
    while True:
        await asyncio.sleep(every)
        name = next(victims)
        await (infra.kill(name) if next(hard) else infra.stop(name))
        havoc.outages[name] += 1
        await asyncio.sleep(away)
        await infra.start(name)
