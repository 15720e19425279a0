"""Infrastructure and services together: what `up`, the demo and end-to-end tests run on."""

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from haulyard_devstack import probes
from haulyard_devstack.errors import DevstackError
from haulyard_devstack.infra import Infra, ReadyListener
from haulyard_devstack.logs import MergedLog
from haulyard_devstack.ports import LOOPBACK
from haulyard_devstack.process import Command, ManagedProcess, describe_exit
from haulyard_devstack.remembered import Remembered
from haulyard_devstack.services import (
    GATEWAY,
    NOTIFIER,
    ServiceSpec,
    choose_ports,
    default_services,
    development_environment,
)
from haulyard_devstack.state import StackState

_STOP_GRACE = 40.0
"""More than the services' own grace for running work (25 s) and what they take to leave servers that do not answer."""


def default_root(env: Mapping[str, str] = os.environ) -> Path:
    """Return the data directory of the development stack: `HAULYARD_HOME`, else `.haulyard/dev` of this directory."""
    return Path(env.get("HAULYARD_HOME") or ".haulyard/dev").absolute()


@dataclass
class Stack:
    """A running stack."""

    infra: Infra
    environment: dict[str, str]
    """All of the services' common environment: addresses, keys, secrets. What a client or test needs is in it too."""
    urls: dict[str, str]
    """The base URL of each service by its name."""
    output: MergedLog
    processes: dict[str, ManagedProcess] = field(default_factory=dict)
    """The services' processes, to be killed or paused in tests."""
    _ended: asyncio.Queue[tuple[str, int]] = field(default_factory=asyncio.Queue)

    @property
    def api_url(self) -> str:
        """The base URL of the public API."""
        return self.environment.get("HAULYARD_PUBLIC_API_URL", self.urls[GATEWAY])

    @property
    def notifier_url(self) -> str:
        """The base URL of the WebSocket and SSE endpoint."""
        return self.environment.get("HAULYARD_PUBLIC_NOTIFIER_URL", self.urls[NOTIFIER])

    def token(self, user_id: str, ttl_seconds: int = 24 * 3600) -> str:
        """Return a bearer token for a user of this development installation."""
        from haulyard_chassis.identity import mint_token  # noqa: PLC0415 -- the infrastructure alone needs no chassis

        return mint_token(self.environment["HAULYARD_JWT_SECRET"], user_id, ttl_seconds)

    @contextlib.contextmanager
    def paused(self, *prefixes: str) -> Iterator[None]:
        """Keep those services from running whose names begin with one of ``prefixes``."""
        processes = [process for name, process in self.processes.items() if name.startswith(prefixes)]
        for process in processes:
            process.pause()
        try:
            yield
        finally:
            for process in processes:
                process.resume()

    async def child_ended(self) -> str:
        """Wait until a child ends by itself, and return what to tell the user. Nothing is restarted."""
        name, code = await self._ended.get()
        return f"{name} ended by itself with {describe_exit(code)}"

    def note_end(self, name: str, code: int) -> None:
        """Take the news that a child ended by itself."""
        self._ended.put_nowait((name, code))


@contextlib.asynccontextmanager
async def running_stack(
    root: Path | None = None,
    *,
    env: Mapping[str, str] = os.environ,
    cache: Path | None = None,
    services: Sequence[ServiceSpec] | None = None,
    output: MergedLog | None = None,
    show_logs: bool = False,
) -> AsyncIterator[Stack]:
    """Start infrastructure and services, print one line for each as it becomes ready, and stop all at the end.

    Args:
        root: The data directory; by default `HAULYARD_HOME`, else `.haulyard/dev` of the current directory.
        env: The user's environment: addresses that are not to be started, settings that win over ours.
        cache: Downloaded software; see `Infra`.
        services: What to run; by default Haulyard's services.
        output: Where lines go; by default the standard output.
        show_logs: Also print what the children log: services from their start, servers from when they are ready.
    """
    root = (root or default_root(env)).absolute()
    out = output or MergedLog()
    specs = default_services() if services is None else services
    width = max(len(name) for name in ("postgres", *(spec.name for spec in specs)))

    def ready(name: str, address: str, seconds: float) -> None:
        out.say(f"  {name:<{width}}  ready  {address}  ({seconds:.1f} s)")

    def infra_ended(name: str, code: int) -> None:
        stack.note_end(name, code)

    infra = Infra(root, env=env, cache=cache, on_ready=ready, on_exit=infra_ended)
    stack = Stack(infra=infra, environment={}, urls={}, output=out)
    async with contextlib.AsyncExitStack() as cleanup:
        await cleanup.enter_async_context(out.running())
        infra.lock()
        cleanup.callback(infra.unlock)
        state = StackState.of_this_process()
        state.save(root)
        cleanup.callback(StackState.remove, root)
        await cleanup.enter_async_context(infra)
        if show_logs:
            for name, log_file in infra.logs_to_follow().items():
                out.follow(name, log_file)
        kept = Remembered(root / "services.json")
        ports = choose_ports(specs, kept)
        stack.urls = {name: f"http://{LOOPBACK}:{port}" for name, port in ports.items()}
        stack.environment = infra.environment() | development_environment(env, kept, ports)
        cleanup.push_async_callback(_stop_services, stack)
        state.infrastructure = infra.addresses()
        state.services = {spec.name: stack.urls[spec.name] + spec.health_path for spec in specs}
        state.save(root)
        await _start_services(stack, specs, ports, root, ready, show_logs=show_logs)
        yield stack


async def _start_services(
    stack: Stack,
    specs: Sequence[ServiceSpec],
    ports: Mapping[str, int],
    root: Path,
    ready: ReadyListener,
    *,
    show_logs: bool,
) -> None:
    async def start(spec: ServiceSpec) -> None:
        address = {"HAULYARD_HTTP_HOST": LOOPBACK, "HAULYARD_HTTP_PORT": str(ports[spec.name])}
        log_file = root / "logs" / f"{spec.name}.log"
        process = ManagedProcess(
            Command(
                name=spec.name,
                argv=spec.argv,
                log_file=log_file,
                pid_file=root / "run" / f"{spec.name}.pid",
                env={**stack.environment, **spec.env, **address},
                stop_grace=_STOP_GRACE,
            ),
            lambda process, code: stack.note_end(process.name, code),
        )
        stack.processes[spec.name] = process
        if show_logs:
            stack.output.follow(spec.name, log_file)
        started = time.monotonic()
        url = stack.urls[spec.name]
        await process.start(lambda: probes.http_ok(url + spec.health_path), spec.ready_timeout)
        ready(spec.name, url, time.monotonic() - started)

    missing = [spec.argv[0] for spec in specs if shutil.which(spec.argv[0]) is None]
    if missing:
        raise DevstackError(f"not installed: {', '.join(missing)} (run `make install`)")
    try:
        async with asyncio.TaskGroup() as group:
            for spec in specs:
                group.create_task(start(spec))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _stop_services(stack: Stack) -> None:
    # Each is told in the reverse order of starting; they finish their work side by side.
    await asyncio.gather(*(process.stop() for process in reversed(stack.processes.values())), return_exceptions=True)
