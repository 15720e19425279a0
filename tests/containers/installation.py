"""Bringing deploy/compose up, and looking at what then runs."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from containers.commands import CommandError, run
from containers.engine import Engine
from containers.images import ROOT, SERVICES

PROJECT = "haulyard-test"
COMPOSE = ROOT / "deploy" / "compose"
UID = 10001
_UP = 300.0
_STOP = 40
"""Seconds that a service may take to stop: those of its `stop_grace_period`."""


@dataclass(frozen=True)
class Installation:
    """All services and servers, running."""

    engine: Engine
    compose: list[str | Path]

    def containers(self, service: str) -> list[dict[str, Any]]:
        """Return what the engine says about each container of a service."""
        ids = self._compose("ps", "--all", "--quiet", service).split()
        found: list[dict[str, Any]] = json.loads(self.engine.docker("inspect", *ids)) if ids else []
        return found

    def logs(self) -> str:
        """Return the last lines of all containers."""
        return self._compose("logs", "--no-color", "--tail", "30")

    def _compose(self, *words: str, seconds: float = 60) -> str:
        return run([*self.compose, *words], seconds=seconds, env=self.engine.environment)


@contextmanager
def running_installation(engine: Engine, folder: Path, compose: str) -> Iterator[Installation]:
    """Run compose.yaml, unchanged, on fresh secrets and volumes; nothing of it is left afterwards."""
    environment = make_environment(folder)
    words: list[str | Path] = [
        *(compose, "--project-name", PROJECT, "--file", COMPOSE / "compose.yaml", "--env-file", environment),
    ]
    installation = Installation(engine, words)
    try:
        try:
            # What cannot be pulled is there already; what can is pulled.
            up = ["up", "--detach", "--no-build", "--wait", "--wait-timeout", f"{_UP:.0f}"]
            run([*words, *up], seconds=_UP + 60, env=engine.environment)
        except CommandError as error:
            raise CommandError(f"{error}\n{installation.logs()}") from error
        yield installation
    finally:
        run([*words, "down", "--volumes", "--timeout", str(_STOP)], seconds=180, env=engine.environment)


def make_environment(folder: Path) -> Path:
    """Make secrets as a user does, but elsewhere: a user's own ``.env`` stays what it is."""
    folder.mkdir()
    for name in ("make-env.sh", ".env.example"):
        shutil.copy(COMPOSE / name, folder / name)
    run([folder / "make-env.sh"], seconds=30)
    return folder / ".env"


def shortcomings(installation: Installation) -> list[str]:
    """Return what is not as docs/containers.md says; nothing if all is."""
    found = []
    for service in (*SERVICES, "migrate"):
        containers = installation.containers(service)
        if not containers:
            found.append(f"{service}: no container")
        for container in containers:
            found += [f"{container['Name'].lstrip('/')}: {problem}" for problem in _problems(container)]
            if service != "migrate":
                found += [f"{service}: {problem}" for problem in _inside(installation.engine, container["Id"])]
    for server in ("nats", "postgres", "valkey", "s3"):
        for container in installation.containers(server):
            if container["State"].get("Health", {}).get("Status") != "healthy":
                found.append(f"{server}: not healthy")
            if not container["HostConfig"]["ReadonlyRootfs"]:
                found.append(f"{server}: its root can be written to")
    return found


def _problems(container: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with how a container of ours is run."""
    host, state = container["HostConfig"], container["State"]
    if state["Status"] == "running":
        if state.get("Health", {}).get("Status") != "healthy":
            yield f"not healthy: {state.get('Health')}"
    elif state["ExitCode"] != 0:
        yield f"ended with exit code {state['ExitCode']}"
    if state["OOMKilled"] or container["RestartCount"]:
        yield "was killed or started again"
    if container["Config"]["User"] != f"{UID}:{UID}":
        yield f"runs as {container['Config']['User'] or 'root'}"
    if not host["ReadonlyRootfs"]:
        yield "its root can be written to"
    if host["CapDrop"] != ["ALL"] or host["CapAdd"]:
        yield "has capabilities"
    if "no-new-privileges:true" not in host["SecurityOpt"]:
        yield "may gain privileges"
    if not host["Memory"] or not host["PidsLimit"]:
        yield "has no limits"


_LOOK = """
import glob, json, os, shutil
status = dict(line.split(":\t") for line in open("/proc/1/status") if ":\t" in line)
writable = []
for folder in ("/", "/tmp", "/var/tmp", "/opt/haulyard", "/run"):
    try:
        open(folder + "/probe", "w").close()
        writable.append(folder)
    except OSError:
        pass
sources = glob.glob("/opt/haulyard/lib/python3*/site-packages/haulyard_*/*.py")
print(json.dumps({
    "uids": status["Uid"].split(),
    "gids": status["Gid"].split() + status["Groups"].split(),
    "capabilities": [status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
    "privileges": status["NoNewPrivs"].strip(),
    "first": open("/proc/1/cmdline").read().split("\\0")[:2],
    "writable": writable,
    "builders": [tool for tool in ("cc", "gcc", "g++", "make", "git", "uv") if shutil.which(tool)],
    "pip": bool(glob.glob("/opt/haulyard/lib/python3*/site-packages/pip")),
    "page": os.path.exists(os.path.join(os.path.dirname(sources[0]), "static", "index.html")) if sources else False,
    "pyc": len(glob.glob("/opt/haulyard/lib/python3*/site-packages/haulyard_*/__pycache__/*.pyc")),
}))
"""


def _inside(engine: Engine, container: str) -> Iterator[str]:
    """Yield what is wrong when one looks from inside of a container."""
    seen = json.loads(engine.docker("exec", container, "python3", "-c", _LOOK))
    if set(seen["uids"]) | set(seen["gids"]) != {str(UID)}:
        yield f"process 1 runs as {seen['uids']}, {seen['gids']}"
    if any(int(mask, 16) for mask in seen["capabilities"]):
        yield f"process 1 has capabilities: {seen['capabilities']}"
    if seen["privileges"] != "1":
        yield "process 1 may gain privileges"
    if "python" not in seen["first"][0]:
        yield f"process 1 is not Python but {seen['first']}: it would not get SIGTERM"
    if seen["writable"]:
        yield f"can be written to: {seen['writable']}"
    if seen["builders"] or seen["pip"]:
        yield f"build tools: {seen['builders']}, pip: {seen['pip']}"
    if not seen["pyc"]:
        yield "nothing is compiled"


def stop_of(installation: Installation, service: str) -> str | None:
    """Stop a service by SIGTERM and say what is wrong with how it ended."""
    for container in installation.containers(service):
        installation.engine.docker("stop", "--time", str(_STOP), container["Id"], seconds=_STOP + 30)
    codes = [container["State"]["ExitCode"] for container in installation.containers(service)]
    # As process 1 it ends by itself; 137 would be the SIGKILL that comes when the grace is over.
    return None if set(codes) <= {0, 143} else f"{service} did not stop by itself: exit codes {codes}"
