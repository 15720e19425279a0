"""The commands `up`, `down`, `status` and `demo`."""

import asyncio
import importlib
import json
import os
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from haulyard_devstack import probes
from haulyard_devstack.errors import DevstackError
from haulyard_devstack.identity import ProcessIdentity, end_orphan
from haulyard_devstack.infra import DirectoryLock
from haulyard_devstack.logs import MergedLog
from haulyard_devstack.services import ServiceSpec
from haulyard_devstack.stack import Stack, running_stack
from haulyard_devstack.state import StackState

_DOWN_TIMEOUT = 120.0
_ORPHAN_GRACE = 15.0


def run_until_signal(work: Callable[[], Coroutine[Any, Any, int]], *, stopped_code: int = 0) -> int:
    """Run `work` to its end; Ctrl-C, SIGTERM or SIGHUP cancel it, so that its cleanup stops every child.

    Args:
        work: what to run.
        stopped_code: what to return when it was stopped by a signal.

    Returns:
        What `work` returned, or `stopped_code`.
    """

    async def main() -> int:
        task = asyncio.create_task(work())
        stopped = False

        def stop() -> None:
            nonlocal stopped
            # Only the first one counts: a second cancellation would interrupt the cleanup and leave children behind.
            if not stopped:
                stopped = True
                print("\nstopping", flush=True)
                task.cancel()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, stop)
        try:
            return await task
        except asyncio.CancelledError:
            print("stopped", flush=True)
            return stopped_code

    return asyncio.run(main())


async def up(root: Path, *, services: Sequence[ServiceSpec] | None = None) -> int:
    """Run the stack in the foreground until it is told to stop, or until a child ends by itself."""
    output = MergedLog()
    output.say(f"Haulyard: starting under {root}")
    async with running_stack(root, services=services, output=output, show_logs=True) as stack:
        output.say(banner(stack))
        problem = await stack.child_ended()
        output.print_new()
        output.say(f"\nerror: {problem}; stopping everything (logs: {root / 'logs'})")
        return 1


def banner(stack: Stack) -> str:
    """Return what to tell the user once all is running."""
    api, token = stack.api_url, stack.token("developer")
    return f"""
Haulyard is up. Open this link: you are signed in by it.
  {api}/#token={token}

  API        {api}
  API docs   {api}/docs
  Notifier   {stack.notifier_url}
To try the API, paste these two lines into a shell; README.md goes on from there:
  API={api}
  TOKEN={token}
Ctrl-C stops everything; the data stays.
"""


def down(root: Path) -> int:
    """Stop the stack that runs under `root`; if its supervisor was killed, clean up what it left."""
    state = StackState.load(root)
    if state is not None and state.supervisor.is_running():
        os.kill(state.supervisor.pid, signal.SIGTERM)
        deadline = time.monotonic() + _DOWN_TIMEOUT
        while state.supervisor.is_running():
            if time.monotonic() > deadline:
                raise DevstackError(f"process {state.supervisor.pid} did not stop in {_DOWN_TIMEOUT:.0f} s")
            time.sleep(0.1)
        print("stopped")
        return 0
    if not root.exists():
        print("nothing is running")
        return 0
    lock = DirectoryLock(root)
    lock.acquire()  # whoever holds it without a state, such as a test run, is not ours to stop
    try:
        ended = [path.stem for path in sorted((root / "run").glob("*.pid")) if _end(path)]
        StackState.remove(root)
    finally:
        lock.release()
    print(f"ended what was left over: {', '.join(ended)}" if ended else "nothing is running")
    return 0


def _end(pid_file: Path) -> bool:
    recorded = ProcessIdentity.load(pid_file)
    # PostgreSQL's SIGTERM waits for its clients; SIGINT does not.
    postgres = recorded is not None and recorded.argv[0].endswith("/postgres")
    return end_orphan(pid_file, signal.SIGINT if postgres else signal.SIGTERM, _ORPHAN_GRACE)


async def status(root: Path, *, as_json: bool = False) -> int:
    """Print what runs under `root` and whether it answers; return 0 if everything does."""
    state = StackState.load(root)
    if state is None or not state.supervisor.is_running():
        print(json.dumps({"running": False}) if as_json else f"nothing is running under {root}")
        return 1
    answers = {name: await _answers(url) for name, url in state.services.items()}
    if as_json:
        services = {name: {"url": url, "ready": answers[name]} for name, url in state.services.items()}
        print(json.dumps({"running": True, "pid": state.supervisor.pid, "services": services}))
    else:
        print(f"running under {root} (process {state.supervisor.pid})")
        for name, address in state.infrastructure.items():
            print(f"  {name:<14} {address}")
        for name, url in state.services.items():
            print(f"  {name:<14} {url}  {'ready' if answers[name] else 'NOT READY'}")
    return 0 if all(answers.values()) else 1


async def _answers(url: str) -> bool:
    try:
        async with asyncio.timeout(3):
            return await probes.http_ok(url)
    except (OSError, TimeoutError):
        return False


async def demo() -> int:
    """Run the demonstration; it starts its own stack."""
    module = importlib.import_module("haulyard_devstack.demo")
    result: int = await module.run()
    return result
