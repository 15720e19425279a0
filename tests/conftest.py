"""Addresses of real NATS, PostgreSQL, Valkey and S3 for the tests that need them, from one fixture.

By default they are the embedded ones, kept under ``.haulyard/test`` (or ``HAULYARD_TEST_HOME``) so that the next run
starts fast. An address that is set in the environment is used instead, and ``HAULYARD_TEST_INFRA=containers`` starts
all four with testcontainers.
"""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from haulyard_devstack import Infra
from support.installation import make_installation

ROOT = Path(__file__).parents[1]

REAL = tuple(Path(__file__).parent / name for name in ("integration", "e2e", "chaos"))
MOST_RERUNS = 5


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run a test on real servers once more if it fails; see `docs/decisions/0019`."""
    for item in items:
        if any(item.path.is_relative_to(directory) for directory in REAL):
            item.add_marker(pytest.mark.flaky(reruns=1, reruns_delay=2))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail when so many tests had to be run again that it is not the machine."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return
    rerun = reporter.stats.get("rerun", [])
    if len(rerun) > MOST_RERUNS:
        reporter.write_line(f"{len(rerun)} tests had to be run again; no more than {MOST_RERUNS} may.", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
async def infra() -> AsyncIterator[Infra | None]:
    """The embedded servers of this test run, to be killed and started again by fault tests; None with containers."""
    if os.environ.get("HAULYARD_TEST_INFRA") == "containers":
        yield None
        return
    home = os.environ.get("HAULYARD_TEST_HOME")
    async with Infra(Path(home) if home else ROOT / ".haulyard" / "test") as running:
        yield running


@pytest.fixture(scope="session")
async def addresses(infra: Infra | None) -> AsyncIterator[dict[str, str]]:
    """``HAULYARD_…`` variables that tell a service where the four servers are."""
    if infra is not None:
        yield infra.environment()
        return
    from support.containers import running_containers  # noqa: PLC0415 - needs an engine

    with running_containers() as found:
        yield found


@pytest.fixture(scope="session")
async def infra_env(addresses: dict[str, str]) -> dict[str, str]:
    """Settings of the installation that integration tests share; no service runs in it but those that a test starts."""
    return await make_installation(addresses)


@pytest.fixture(scope="session")
async def running_env(addresses: dict[str, str]) -> dict[str, str]:
    """Settings of the installation in which end-to-end tests run all services."""
    return await make_installation(addresses)
