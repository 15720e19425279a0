"""What the demonstration runs against: the stack that `up` has started here, else one of its own."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from haulyard_chassis.identity import mint_token
from haulyard_devstack import probes
from haulyard_devstack.errors import DevstackError
from haulyard_devstack.identity import ProcessIdentity
from haulyard_devstack.services import GATEWAY
from haulyard_devstack.stack import running_stack
from haulyard_devstack.state import StackState

_USER = "demo"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A stack that answers."""

    api_url: str
    token: str
    child_ended: Callable[[], Awaitable[str]]
    """Returns what to tell the user when a part of the stack ends; may never return."""
    stays: bool
    """Whether it runs on after the demonstration."""


@contextlib.asynccontextmanager
async def demo_target(root: Path) -> AsyncIterator[Target]:
    """Use the stack under `root` if it runs, else start it, and stop it at the end.

    Raises:
        DevstackError: It runs and is not ready, or it cannot be started.
    """
    state = StackState.load(root)
    if state is not None and state.supervisor.is_running():
        print(f"Haulyard demo: using what runs under {root} (process {state.supervisor.pid})", flush=True)
        yield await _running_target(root, state)
        return
    print(f"Haulyard demo: starting everything under {root}", flush=True)
    async with running_stack(root) as stack:
        yield Target(
            api_url=stack.api_url,
            token=stack.token(_USER),
            child_ended=stack.child_ended,
            stays=False,
        )


async def _running_target(root: Path, state: StackState) -> Target:
    if not state.services:
        raise DevstackError(f"what runs under {root} is still starting; try again when it is ready")
    for name, url in state.services.items():
        if not await _answers(url):
            raise DevstackError(f"{name} of what runs under {root} is not ready; try again when it is")
    environment = _environment_of(root / "run" / f"{GATEWAY}.pid")
    try:
        return Target(
            api_url=environment["HAULYARD_PUBLIC_API_URL"],
            token=mint_token(environment["HAULYARD_JWT_SECRET"], _USER),
            child_ended=_never,
            stays=True,
        )
    except KeyError as error:
        raise DevstackError(
            f"the gateway that runs under {root} does not tell us its {error.args[0]}: run the demo as the user who "
            "started it, or stop it first (haulyard-devstack down)"
        ) from None


def _environment_of(pid_file: Path) -> dict[str, str]:
    """Return what a running service of ours was told: given addresses and generated secrets alike."""
    process = ProcessIdentity.load(pid_file)
    if process is None or not process.is_running():
        return {}
    try:
        raw = Path(f"/proc/{process.pid}/environ").read_bytes()
    except OSError:  # another user's process
        return {}
    pairs = (os.fsdecode(word).partition("=") for word in raw.split(b"\0") if word)
    return {name: value for name, _, value in pairs}


async def _answers(url: str) -> bool:
    try:
        async with asyncio.timeout(5):
            return await probes.http_ok(url)
    except (OSError, TimeoutError):
        return False


async def _never() -> str:
    await asyncio.Event().wait()
    raise AssertionError
