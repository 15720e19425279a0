"""Haulyard in containers, for real: builds the images, brings deploy/compose up, does a job, tests on testcontainers.

``PYTHONPATH=tests python -m containers.run`` (`make containers`). Exit codes: 0, all is well; 1, something is not;
77, there is no container engine here and none can be started, so nothing was tried.

As root it runs an engine of its own, which pulls nothing: bases and servers are stand-ins made of Debian's packages and
Python wheels. Otherwise, and with ``--engine existing``, it uses the engine that answers, which pulls what it lacks.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType

from containers import images, installation
from containers.commands import CommandError, run
from containers.engine import Engine, NoEngineError, building_engine, existing_engine, install, remove, running_engine
from containers.images import ROOT, SERVERS, SERVICES

NOTHING_TRIED = 77
SUITE = tuple(
    f"tests/integration/{name}" for name in ("chassis", "client", "gateway", "notifier", "orchestrator", "proxy")
)
"""All but the tests of the embedded servers."""
"""What is run on testcontainers: every adapter, and the flow of jobs; a minute."""
_SUITE_TIME = 900.0


@dataclass
class Report:
    """Prints what is done as it is done, and counts."""

    passed: int = 0
    failures: list[str] = field(default_factory=list)

    def check(self, what: str, work: Callable[[], object]) -> None:
        """Do one thing; an error or a returned complaint is a failure, and the rest goes on."""
        started = time.monotonic()
        try:
            complaint = work()
        except (CommandError, AssertionError) as error:
            complaint = str(error)
        seconds = time.monotonic() - started
        if complaint:
            self.failures.append(what)
            _print(f"FAILED  {what} ({seconds:.0f} s)\n{complaint}")
        else:
            self.passed += 1
            _print(f"ok      {what} ({seconds:.0f} s)")

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Do what all that follows needs: without it the run ends."""
        started = time.monotonic()
        _print(f"        {what} …")
        try:
            yield
        except CommandError:
            self.failures.append(what)
            raise
        _print(f"ok      {what} ({time.monotonic() - started:.0f} s)")
        self.passed += 1


def main() -> int:
    """Run all of it and return the exit code."""
    parser = argparse.ArgumentParser(prog="containers.run", description=__doc__)
    parser.add_argument("--engine", choices=["own", "existing"], default="own" if os.geteuid() == 0 else "existing")
    chosen = parser.parse_args().engine
    signal.signal(signal.SIGTERM, _interrupt)
    # Not in the clone: PostgreSQL's socket paths and other people's uids do not mind how deep this lies.
    work = Path(tempfile.mkdtemp(prefix="haulyard-containers-"))
    report = Report()
    try:
        if chosen == "own":
            _with_own_engine(work, report)
        else:
            _with_existing_engine(work, report)
    except NoEngineError as error:
        _say_loudly(str(error))
        return NOTHING_TRIED
    except CommandError as error:
        _print(str(error))
    finally:
        remove(work)
    for failure in report.failures:
        _print(f"FAILED  {failure}")
    _print(f"{report.passed} passed, {len(report.failures)} failed")
    return 1 if report.failures else 0


def _with_own_engine(work: Path, report: Report) -> None:
    install()
    home = work / "engine"
    with building_engine(home) as engine:
        with report.step("make a base of Debian's packages"):
            images.make_base(engine, work / "base")
        _build(engine, report)
        with report.step("build stand-ins of the servers"):
            images.build_servers(engine)
    with running_engine(home) as engine:
        _try_all(engine, work, report)


def _with_existing_engine(work: Path, report: Report) -> None:
    engine = existing_engine()
    if engine is None:
        raise NoEngineError("no container engine answers `docker version`")
    _build(engine, report)
    _try_all(engine, work, report)


def _build(engine: Engine, report: Report) -> None:
    page = "required" if (ROOT / "services/gateway/src/haulyard_gateway/static/index.html").exists() else "optional"
    with report.step(f"build the four images (page: {page})"):
        images.build_services(engine, page=page)


def _try_all(engine: Engine, work: Path, report: Report) -> None:
    compose = shutil.which("docker-compose", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if compose is None:
        raise CommandError("docker-compose is not installed beside this Python: make install")
    with ExitStack() as stack:
        with report.step("bring compose up"):
            running = stack.enter_context(installation.running_installation(engine, work / "compose", compose))
        secret = _secret(work / "compose" / ".env")
        python = [sys.executable, "-m", "containers.job"]
        environment = {"PYTHONPATH": str(ROOT / "tests"), "HAULYARD_JWT_SECRET": secret}
        report.check(
            "one job over HTTP, and its ZIP",
            lambda: _tell(run(engine.inside(python), seconds=300, env=environment)),
        )
        report.check(
            "uid, read-only root, capabilities, limits, health", lambda: "\n".join(installation.shortcomings(running))
        )
        for service in SERVICES:
            report.check(f"{service} stops at SIGTERM", partial(installation.stop_of, running, service))
    report.check("the integration suite on testcontainers", lambda: _test_on_containers(engine, SUITE))


def _test_on_containers(engine: Engine, suite: Sequence[str]) -> None:
    environment = engine.environment | {
        "HAULYARD_TEST_INFRA": "containers",
        "TESTCONTAINERS_RYUK_DISABLED": "true",
        **({"TESTCONTAINERS_HOST_OVERRIDE": "127.0.0.1"} if engine.namespace else {}),
        **{f"HAULYARD_TEST_{server.upper()}_IMAGE": image for server, image in SERVERS.items()},
    }
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *suite]
    said = run(engine.inside(words), seconds=_SUITE_TIME, env=environment, cwd=ROOT)
    _tell(said)


def _tell(said: str) -> None:
    """Show the last line that a program printed."""
    _print(f"        {said.strip().splitlines()[-1]}")


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command's output


def _secret(environment: Path) -> str:
    lines = environment.read_text().splitlines()
    return next(line.partition("=")[2] for line in lines if line.startswith("HAULYARD_JWT_SECRET="))


def _say_loudly(why: str) -> None:
    bar = "!" * 78
    text = f"{bar}\n!! CONTAINERS WERE NOT TRIED: {why}\n!! Nothing is tested but what is called ok above.\n{bar}"
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - a command's output


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
