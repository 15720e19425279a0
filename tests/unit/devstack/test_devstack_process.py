"""A child is awaited, stopped, reaped and reported; nothing of it is left."""

import asyncio
import contextlib
import os
import select
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from haulyard_devstack import Infra, LockedError, StartError
from haulyard_devstack.identity import ProcessIdentity, start_ticks
from haulyard_devstack.infra import DirectoryLock
from haulyard_devstack.process import Command, ManagedProcess

Make = Callable[[str], ManagedProcess]


@pytest.fixture
def ended() -> asyncio.Queue[int]:
    return asyncio.Queue()


@pytest.fixture
def make(tmp_path: Path, ended: asyncio.Queue[int]) -> Make:
    def build(script: str) -> ManagedProcess:
        command = Command(
            name="child",
            argv=[sys.executable, "-u", "-c", script],
            log_file=tmp_path / "logs" / "child.log",
            pid_file=tmp_path / "run" / "child.pid",
            env={"ONLY_FOR_THE_CHILD": "a value"},
            stop_grace=1.0,
        )
        return ManagedProcess(command, lambda _, code: ended.put_nowait(code))

    return build


def says(process: ManagedProcess, word: str) -> Callable[[], "asyncio.Future[bool]"]:
    async def probe() -> bool:
        return word in process.log_tail()

    return lambda: asyncio.ensure_future(probe())


async def gone(pid: int) -> None:
    """Return when the process has ended; the kernel tells."""

    def wait() -> None:
        descriptor = os.pidfd_open(pid)
        try:
            assert select.select([descriptor], [], [], 5)[0], f"process {pid} still runs"
        finally:
            os.close(descriptor)

    with contextlib.suppress(ProcessLookupError):
        await asyncio.to_thread(wait)


SLEEP = "import time, os; print('ready', os.environ['ONLY_FOR_THE_CHILD']); time.sleep(60)"


async def test_a_child_becomes_ready_and_stops_without_being_reported(
    make: Make, ended: asyncio.Queue[int], tmp_path: Path
) -> None:
    process = make(SLEEP)
    await process.start(says(process, "ready a value"))
    pid = process.pid
    assert pid is not None
    recorded = ProcessIdentity.load(tmp_path / "run" / "child.pid")
    assert recorded is not None
    assert recorded.is_running()
    await process.stop()
    assert start_ticks(pid) is None
    assert not process.running
    assert ended.empty()
    assert not (tmp_path / "run" / "child.pid").exists()


async def test_a_child_that_ends_early_fails_with_its_last_words(make: Make, ended: asyncio.Queue[int]) -> None:
    process = make("print('the disk is full'); raise SystemExit(3)")
    with pytest.raises(StartError, match=r"exit code 3(.|\n)*the disk is full"):
        await process.start(says(process, "never"))
    assert ended.empty()


async def test_a_silent_child_fails_at_the_deadline_and_is_stopped(make: Make) -> None:
    process = make("import time; time.sleep(60)")
    with pytest.raises(StartError, match="not ready after 0 s"):
        await process.start(says(process, "never"), timeout=0.3)
    assert not process.running


async def test_a_child_that_ends_by_itself_is_reported_and_not_restarted(make: Make, ended: asyncio.Queue[int]) -> None:
    process = make("import time; print('ready'); time.sleep(0.3); raise SystemExit(7)")
    await process.start(says(process, "ready"))
    assert await asyncio.wait_for(ended.get(), 5) == 7
    assert not process.running


async def test_a_child_that_ignores_the_signal_is_killed(make: Make) -> None:
    process = make("import signal, time; signal.signal(15, signal.SIG_IGN); print('ready'); time.sleep(60)")
    await process.start(says(process, "ready"))
    pid = process.pid
    assert pid is not None
    await process.stop()
    assert start_ticks(pid) is None


async def test_a_helper_left_in_the_childs_group_goes_with_it(make: Make, tmp_path: Path) -> None:
    inner = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
    process = make(
        "import subprocess, sys, time\n"
        f"print('pid', subprocess.Popen([sys.executable, '-c', {inner!r}]).pid); time.sleep(60)"
    )
    await process.start(says(process, "pid"))
    helper = int(process.log_tail().split()[1])
    await process.stop()
    await gone(helper)


async def test_a_paused_child_can_be_stopped(make: Make) -> None:
    process = make(SLEEP)
    await process.start(says(process, "ready"))
    process.pause()
    await asyncio.wait_for(process.stop(), 5)
    assert not process.running


async def test_a_killed_childs_orphan_record_lets_the_next_start_go_on(make: Make, tmp_path: Path) -> None:
    process = make(SLEEP)
    await process.start(says(process, "ready"))
    await process.kill()
    assert (tmp_path / "run" / "child.pid").exists()
    await process.start(says(process, "ready"))
    await process.stop()


SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from haulyard_devstack.process import Command, ManagedProcess
async def main():
    root = Path(sys.argv[1])
    async def ready():
        return "ready" in process.log_tail()
    argv = [sys.executable, "-uc", "import time; print('ready'); time.sleep(60)"]
    process = ManagedProcess(Command(name="child", argv=argv, log_file=root / "child.log", pid_file=root / "child.pid"))
    await process.start(ready)
    print(process.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux's")
async def test_children_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SUPERVISOR, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert supervisor.stdout is not None
    child = int(await supervisor.stdout.readline())
    assert start_ticks(child) is not None
    supervisor.kill()
    await supervisor.wait()
    await gone(child)


async def test_two_stacks_never_share_a_directory(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path / "dev")
    lock.acquire()
    with pytest.raises(LockedError, match=f"process {os.getpid()}"):
        await Infra(tmp_path / "dev", env={}).__aenter__()
    lock.release()
    again = DirectoryLock(tmp_path / "dev")
    again.acquire()
    again.release()
