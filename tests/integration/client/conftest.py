"""Servers that misbehave as told, and clients of them."""

from collections.abc import AsyncIterator

import pytest

from haulyard import AsyncClient, RetryPolicy, Timeouts
from support.client_double import Double, running_double

QUICK = RetryPolicy(first_delay=0.01, max_delay=0.02)


@pytest.fixture
async def double() -> AsyncIterator[Double]:
    async with running_double() as running:
        yield running


@pytest.fixture
async def client(double: Double) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(double.url, "token", retries=QUICK, timeouts=Timeouts(connect=2, read=5)) as made:
        yield made
