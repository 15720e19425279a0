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
