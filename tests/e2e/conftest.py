"""All services as real processes on the test's servers, reached over HTTP only."""

import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from haulyard_devstack import Stack, running_stack
from haulyard_devstack.services import default_services
from support.client import ApiClient


@pytest.fixture(scope="session")
async def stack(running_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """The services of one installation: gateway, two orchestrators, two archivers, notifier."""
    root: Path = tmp_path_factory.mktemp("stack")
    own = {name: value for name, value in running_env.items() if "PUBLIC" not in name}
    quick = {
        "HAULYARD_STALE_SECONDS": "5",
        "HAULYARD_RATE_LIMIT_PER_MINUTE": "0",  # tests poll faster than a user may
        "HAULYARD_MAX_JOBS_PER_USER": "0",
    }
    specs = [replace(spec, env={**own, **quick}, prefer_port=None) for spec in default_services()]
    # Replicas take turns with messages and may both finish the same job.
    specs += [replace(spec, name="orchestrator-2") for spec in specs if spec.name == "orchestrator"]
    async with running_stack(root, env=own, services=specs) as running:
        yield running


@pytest.fixture
async def api(stack: Stack) -> AsyncIterator[ApiClient]:
    """A client of the API, as a user of whom nobody has heard before."""
    user = f"user-{secrets.token_hex(4)}"
    async with ApiClient(stack.api_url, stack.token(user)) as client:
        yield client
