"""The world of the orchestrator's tests: real servers, and no loops but the test's own."""

import os
from collections.abc import AsyncIterator

import pytest

from haulyard_orchestrator.settings import OrchestratorSettings
from support.world import World, open_world


@pytest.fixture(scope="session")
def settings(infra_env: dict[str, str]) -> OrchestratorSettings:
    before = dict(os.environ)
    os.environ.update(infra_env)
    try:
        return OrchestratorSettings()
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="session")
async def world(settings: OrchestratorSettings) -> AsyncIterator[World]:
    async with open_world(settings) as opened:
        yield opened
