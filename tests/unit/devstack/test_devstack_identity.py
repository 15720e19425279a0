"""A process is ours to end only if start time, boot and command line are the recorded ones."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from haulyard_devstack.identity import ProcessIdentity, descendants, end_orphan, own_identity, start_ticks

SLEEPER = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(SLEEPER, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child
        child.kill()


def test_a_running_process_is_recognised(sleeper: subprocess.Popen[bytes]) -> None:
    assert ProcessIdentity.observe(sleeper.pid, SLEEPER).is_running()


def test_we_recognise_ourselves() -> None:
    assert own_identity().is_running()


@pytest.mark.parametrize(
    "change",
    [{"start_ticks": 1}, {"boot_id": "another boot"}, {"argv": ["nats-server", "-c", "x"]}, {"argv": []}],
    ids=["start time", "boot", "command", "no command"],
)
def test_a_stranger_with_the_same_pid_is_left_alone(
    sleeper: subprocess.Popen[bytes], tmp_path: Path, change: dict[str, object]
) -> None:
    pid_file = tmp_path / "child.pid"
    identity = msgspec.structs.replace(ProcessIdentity.observe(sleeper.pid, SLEEPER), **change)
    identity.save(pid_file)
    assert not identity.is_running()
    assert not end_orphan(pid_file, signal.SIGTERM, 5)
    assert sleeper.poll() is None
    assert not pid_file.exists()


def test_an_orphan_is_ended(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    pid_file = tmp_path / "child.pid"
    ProcessIdentity.observe(sleeper.pid, SLEEPER).save(pid_file)
    assert end_orphan(pid_file, signal.SIGTERM, 5)
    assert sleeper.wait(5) == -signal.SIGTERM


def test_a_paused_orphan_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "import signal,time; signal.signal(15, 1); print(flush=True); time.sleep(60)"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGSTOP)
        ProcessIdentity.observe(child.pid, argv).save(tmp_path / "child.pid")
        assert end_orphan(tmp_path / "child.pid", signal.SIGTERM, 0.2)
        assert child.wait(5) == -signal.SIGKILL


@pytest.mark.parametrize("content", [None, b"", b"1234", b'{"pid": "x"}'])
def test_a_missing_or_damaged_pid_file_names_nobody(tmp_path: Path, content: bytes | None) -> None:
    pid_file = tmp_path / "child.pid"
    if content is not None:
        pid_file.write_bytes(content)
    assert ProcessIdentity.load(pid_file) is None
    assert not end_orphan(pid_file, signal.SIGTERM, 1)


def test_a_zombie_is_not_running() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    identity = ProcessIdentity.observe(child.pid, child.args)  # type: ignore[arg-type]
    while start_ticks(child.pid) is not None:
        pass
    assert not identity.is_running()
    child.wait()


def test_descendants_are_found_over_generations() -> None:
    inner = "import time; print(flush=True); time.sleep(60)"
    outer = f"import subprocess,sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    with subprocess.Popen([sys.executable, "-c", outer], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        (grandchild,) = descendants(child.pid)
        assert start_ticks(grandchild) is not None
        child.kill()
        os.kill(grandchild, signal.SIGKILL)
