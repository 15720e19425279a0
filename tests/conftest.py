"""Addresses of real NATS, PostgreSQL, Valkey and S3 for the tests that need them, from one fixture.

By default they are the embedded ones, kept under ``.haulyard/test`` (or ``HAULYARD_TEST_HOME``) so that the next run
starts fast. An address that is set in the environment is used instead, and ``HAULYARD_TEST_INFRA=containers`` starts
all four with testcontainers.
"""

import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from haulyard_devstack import Infra

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


async def make_database(dsn: str, name: str) -> str:
    """Create an empty database beside the one of ``dsn`` and return its DSN."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


async def make_installation(addresses: dict[str, str]) -> dict[str, str]:
    """Return settings of an installation of its own: fresh database, namespace and bucket names on shared servers."""
    unique = f"t{secrets.token_hex(6)}"
    return {
        **addresses,
        "HAULYARD_POSTGRES_DSN": await make_database(addresses["HAULYARD_POSTGRES_DSN"], unique),
        "HAULYARD_NAMESPACE": unique,
        "HAULYARD_ARCHIVE_BUCKET": f"{unique}-archives",
        "HAULYARD_FILES_BUCKET": f"{unique}-files",
        "HAULYARD_JWT_SECRET": secrets.token_hex(32),
        "HAULYARD_TICKET_SECRET": secrets.token_hex(32),
        "HAULYARD_PUBLIC_API_URL": "http://127.0.0.1:1",
        "HAULYARD_PUBLIC_NOTIFIER_URL": "http://127.0.0.1:2",
        "HAULYARD_ENVIRONMENT": "development",
        "HAULYARD_LOG_FORMAT": "console",
    }


@pytest.fixture(scope="session")
async def infra_env(addresses: dict[str, str]) -> dict[str, str]:
    """Settings of the installation that integration tests share; no service runs in it but those that a test starts."""
    return await make_installation(addresses)


@pytest.fixture(scope="session")
async def running_env(addresses: dict[str, str]) -> dict[str, str]:
    """Settings of the installation in which end-to-end tests run all services."""
    return await make_installation(addresses)
