"""A store played by a small local server, and what tests leave behind in the process."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import structlog
from aiohttp import web

from haulyard_chassis import store_requests
from haulyard_chassis.settings import ServiceSettings
from haulyard_chassis.store import ObjectStore

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """Whatever a test sets up for the whole process is gone afterwards."""
    root = logging.getLogger()
    before = list(root.handlers), root.level, structlog.get_config()
    yield
    root.handlers[:], root.level = before[0], before[1]
    structlog.configure(**before[2])
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def standing_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[Handler], AbstractAsyncContextManager[ObjectStore]]:
    """Makes a client of a store that does what a handler does; its tries follow each other at once."""
    monkeypatch.setattr(store_requests, "FIRST_PAUSE", 0.0)
    return _standing_in


@asynccontextmanager
async def _standing_in(handler: Handler) -> AsyncIterator[ObjectStore]:
    """A client of a store that does what ``handler`` does."""
    server = web.Server(handler)  # type: ignore[arg-type]
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    settings: dict[str, Any] = {
        "nats_url": "nats://x",
        "postgres_dsn": "x",
        "redis_url": "x",
        "s3_endpoint": f"http://{host}:{port}",
        "s3_access_key": "k",
        "s3_secret_key": "s",
    }
    client = ObjectStore(ServiceSettings(**settings))
    await client.open()
    try:
        async with asyncio.timeout(20):  # what hangs, fails
            yield client
    finally:
        await client.close()
        await runner.cleanup()
