"""All services as real processes on the test's servers, reached over HTTP only."""

import secrets
from collections.abc import AsyncIterator

import pytest

from haulyard_devstack import Stack
from support.client import ApiClient
from support.services import running_services


@pytest.fixture(scope="session")
async def stack(running_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """The services of one installation: gateway, two orchestrators, two archivers, notifier."""
    async with running_services(tmp_path_factory.mktemp("stack"), running_env) as running:
        yield running


@pytest.fixture
async def api(stack: Stack) -> AsyncIterator[ApiClient]:
    """A client of the API, as a user of whom nobody has heard before."""
    user = f"user-{secrets.token_hex(4)}"
    async with ApiClient(stack.api_url, stack.token(user)) as client:
        yield client
