"""The container engine: the machine's own if one answers, else one that we start, as root, and leave no trace of.

Ours has its data in a directory of its own and touches no network but its own: it builds on the machine's network with
neither bridge nor firewall rules, and runs containers in a network namespace that ends with it.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from containers.commands import CommandError, run

_CLIENTS = ("/usr/bin/docker", "docker")
"""Debian's client first: what else is called docker may know nothing of BuildKit."""
_PACKAGES = {
    "/usr/sbin/dockerd": "docker.io",
    "mmdebstrap": "mmdebstrap",
    "iptables": "iptables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
}
_START = 60.0
_STOP = 60.0


class NoEngineError(Exception):
    """No container engine can be had here; the message says why."""


@dataclass(frozen=True)
class Engine:
    """An engine that answers."""

    client: str
    host: str | None
    """Its address, if it is not where the client looks."""
    namespace: str | None = None
    """File of the network namespace in which its published ports are, if that is not ours."""

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which docker, compose and testcontainers find it."""
        return {"DOCKER_BUILDKIT": "1", **({"DOCKER_HOST": self.host} if self.host else {})}

    def docker(self, *words: str | Path, seconds: float = 60) -> str:
        """Run a command of the client."""
        return run([self.client, *words], seconds=seconds, env=self.environment)

    def inside(self, argv: Sequence[str | Path]) -> list[str | Path]:
        """Return ``argv`` as it is run where published ports can be reached."""
        return [*(["nsenter", f"--net={self.namespace}"] if self.namespace else []), *argv]


def existing_engine() -> Engine | None:
    """Return the engine to which the machine's client talks, if one answers."""
    for client in _CLIENTS:
        found = shutil.which(client)
        if found is None:
            continue
        engine = Engine(client=found, host=None)
        with contextlib.suppress(CommandError):
            engine.docker("version", seconds=20)
            return engine
    return None


def install() -> None:
    """Install what our own engine takes, where it is missing.

    Raises:
        NoEngineError: we may not, or cannot.
    """
    if os.geteuid() != 0:
        raise NoEngineError("no engine answers, and only root can start one")
    missing = [package for program, package in _PACKAGES.items() if shutil.which(program) is None]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise NoEngineError(f"no engine answers, {', '.join(missing)} are missing, and there is no apt-get")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        run(["apt-get", "-q", "update"], seconds=180, env=quiet)
        run(["apt-get", "-q", "install", "-y", "--no-install-recommends", *missing], seconds=300, env=quiet)
    except CommandError as error:
        raise NoEngineError(f"no engine answers, and it cannot be installed: {error}") from error


@contextlib.contextmanager
def building_engine(home: Path) -> Iterator[Engine]:
    """An engine that builds images with the machine's network."""
    with _daemon(home, ["--bridge=none", "--iptables=false", "--ip-forward=false"], apart=False) as (engine, _):
        yield engine


@contextlib.contextmanager
def running_engine(home: Path) -> Iterator[Engine]:
    """An engine that runs containers, in a network of its own; it has the images that the other one built."""
    with _daemon(home, ["--bip=10.98.0.1/24"], apart=True) as (engine, pid):
        yield Engine(client=engine.client, host=engine.host, namespace=f"/proc/{pid}/ns/net")


@contextlib.contextmanager
def _daemon(home: Path, options: Sequence[str], *, apart: bool) -> Iterator[tuple[Engine, int]]:
    home.mkdir(parents=True, exist_ok=True)
    socket = home / "docker.sock"
    log_file = home / "dockerd.log"
    argv = [
        # Told to stop when we are killed.
        *(
            "setpriv",
            "--pdeathsig",
            "TERM",
            "/usr/sbin/dockerd",
            "--data-root",
            str(home / "data"),
            "--exec-root",
            str(home / "exec"),
        ),
        *("--pidfile", str(home / "dockerd.pid"), "--host", f"unix://{socket}", "--oom-score-adjust", "0"),
        *("--default-ulimit", "nofile=20000:20000", *options),
    ]
    if apart:
        # Both replace themselves, so the daemon has the pid that we know. Loopback is down in a new namespace.
        argv = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *argv]
    client = next(found for name in _CLIENTS if (found := shutil.which(name)))
    engine = Engine(client=client, host=f"unix://{socket}")
    with log_file.open("wb") as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _wait_until_it_answers(engine, process, log_file)
        yield engine, process.pid
    finally:
        _stop(engine, process)


def _wait_until_it_answers(engine: Engine, process: subprocess.Popen[bytes], log_file: Path) -> None:
    deadline = time.monotonic() + _START
    while True:
        try:
            engine.docker("version", seconds=20)
        except CommandError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                said = log_file.read_text(errors="replace")[-3_000:]
                raise NoEngineError(f"dockerd does not start here: {error}\n{said}") from error
            time.sleep(0.2)
        else:
            return


def _stop(engine: Engine, process: subprocess.Popen[bytes]) -> None:
    """End the containers, then the daemon, then whatever is left of it."""
    with contextlib.suppress(CommandError):
        left = engine.docker("ps", "--all", "--quiet").split()
        if left:
            engine.docker("rm", "--force", "--volumes", *left, seconds=120)
    process.terminate()
    try:
        process.wait(_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def remove(home: Path) -> None:
    """Remove an engine's data, and end and unmount what a killed engine left of itself there."""
    deadline = time.monotonic() + _STOP
    while (left := _processes_of(home)) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in sorted((path for path in mounts if path.startswith(f"{home}/")), reverse=True):
        run(["umount", "--lazy", mount], seconds=30)
    shutil.rmtree(home)


def _processes_of(home: Path) -> list[int]:
    """Return containerd and its shims: the directory is ours alone, and its name is in their arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                program = os.path.basename(words[0])  # noqa: PTH119 - bytes
                if program.startswith((b"dockerd", b"containerd")) and any(f"{home}/".encode() in w for w in words):
                    found.append(int(entry.name))
    return found
