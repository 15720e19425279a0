"""A gateway and a notifier that know themselves to be behind a proxy, as docs/proxies.md sets them up."""

import asyncio
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.client import connect

from haulyard_devstack import Stack, ports
from haulyard_devstack.probes import http_ok
from haulyard_devstack.process import Command, ManagedProcess
from support.client import JOB_DEADLINE, ApiClient

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """Services behind a proxy; each is ``host:port``."""

    gateway: str
    notifier: str


class Following:
    """Follows a job by event stream and by WebSocket; leaving it waits until both have ended.

    Args:
        client: who follows.
        trust: trusts the certificate of ``wss`` URLs.
    """

    def __init__(self, client: ApiClient, *, trust: ssl.SSLContext | None = None) -> None:
        self._client = client
        self._trust = trust
        self._task: asyncio.Task[None] | None = None
        self.events: list[dict[str, Any]] = []
        self.messages: list[dict[str, Any]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is None:
            return
        if error is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        else:
            await self._task

    async def begin(self, job: Mapping[str, Any]) -> None:
        """Follow a job; return when both have told how it is."""
        told = asyncio.Event(), asyncio.Event()
        self._task = asyncio.create_task(self._follow(job, *told))
        both = asyncio.create_task(_all(told))
        await asyncio.wait((self._task, both), return_when=asyncio.FIRST_COMPLETED)
        both.cancel()
        assert not self.over, "a stream or a socket has ended already"

    @property
    def over(self) -> bool:
        """Whether one of them has failed, or both have ended."""
        return self._task is not None and self._task.done()

    async def _follow(self, job: Mapping[str, Any], by_events: asyncio.Event, by_socket: asyncio.Event) -> None:
        async with asyncio.timeout(JOB_DEADLINE), asyncio.TaskGroup() as group:
            group.create_task(self._stream(job["events_url"], by_events))
            group.create_task(self._socket(job["websocket_url"], by_socket))

    async def _stream(self, url: str, told: asyncio.Event) -> None:
        async for event in self._client.server_sent_events(url):
            self.events.append(json.loads(event["data"]))
            told.set()

    async def _socket(self, url: str, told: asyncio.Event) -> None:
        async with connect(url, ssl=self._trust, proxy=None) as socket:
            async for text in socket:
                self.messages.append(json.loads(text))
                told.set()


async def _all(events: Iterable[asyncio.Event]) -> None:
    for event in events:
        await event.wait()


def cache() -> Path:
    """Return where programs are kept that were fetched once."""
    return Path(os.environ.get("HAULYARD_CACHE") or ROOT / ".haulyard/cache").absolute()


def free_ports(count: int) -> list[int]:
    """Return ports on which nobody listens, each another."""
    chosen: list[int] = []
    while len(chosen) < count:
        chosen.append(ports.choose(taken=chosen))
    return chosen


def replaced(text: str, changes: Mapping[str, str]) -> str:
    """Return ``text`` with each of ``changes`` made; each must be in it once."""
    for old, new in changes.items():
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in the configuration"
        text = text.replace(old, new)
    return text


async def listens(port: int) -> bool:
    """Say whether somebody takes connections."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    await writer.wait_closed()
    return True


@asynccontextmanager
async def services_behind(stack: Stack, public_url: str, folder: Path) -> AsyncIterator[Behind]:
    """Run one more gateway and one more notifier of the installation, for clients that come by ``public_url``."""
    settings = {
        "HAULYARD_PUBLIC_API_URL": public_url,
        "HAULYARD_PUBLIC_NOTIFIER_URL": public_url,
        "HAULYARD_CORS_ORIGINS": public_url,
        "HAULYARD_BEHIND_TLS": str(public_url.startswith("https")).lower(),
    }
    gateway, notifier = free_ports(2)
    async with AsyncExitStack() as running:
        for name, port in (("gateway", gateway), ("notifier", notifier)):
            process = ManagedProcess(
                Command(
                    name=name,
                    argv=[sys.executable, "-m", f"haulyard_{name}"],
                    log_file=folder / f"{name}.log",
                    pid_file=folder / f"{name}.pid",
                    env={**stack.processes[name].command.env, **settings, "HAULYARD_HTTP_PORT": str(port)},
                    stop_grace=40.0,
                )
            )
            url = f"http://127.0.0.1:{port}/health/ready"
            running.push_async_callback(process.stop)
            await process.start(partial(http_ok, url), 60.0)
        yield Behind(gateway=f"127.0.0.1:{gateway}", notifier=f"127.0.0.1:{notifier}")
