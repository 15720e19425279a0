"""The whole gateway on real NATS, PostgreSQL, Valkey and S3, each reached through a wire that a test can cut."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from haulyard_chassis.identity import mint_token
from haulyard_gateway.app import create_app
from haulyard_gateway.settings import GatewaySettings
from integration.orchestrator.conftest import world  # noqa: F401 - a fixture

Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


class Wire:
    """A TCP proxy on a port of its own: `cut` breaks what runs through it and refuses what is new."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def connect(self) -> None:
        """Listen, on the same port again after a cut."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Break everything."""
        if self._server is not None:
            self._server.close()
            for writer in self._writers:
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None

    @property
    def url(self) -> str:
        """The address with our port for the target's."""
        userinfo, at, _ = self._target.netloc.rpartition("@")
        return self._target._replace(netloc=f"{userinfo}{at}127.0.0.1:{self._port}").geturl()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._writers |= {writer, there_writer}
        with contextlib.suppress(OSError):
            await asyncio.gather(self._copy(reader, there_writer), self._copy(there_reader, writer))
        self._writers -= {writer, there_writer}

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def cut(wire: Wire) -> AsyncIterator[None]:
    """Break a wire for a while."""
    await wire.cut()
    try:
        yield
    finally:
        await wire.connect()


@pytest.fixture(scope="session")
async def wires(infra_env: dict[str, str]) -> AsyncIterator[dict[str, Wire]]:
    """The wires to ``nats``, ``postgres`` and ``redis``."""
    variables = {"nats": "HAULYARD_NATS_URL", "postgres": "HAULYARD_POSTGRES_DSN", "redis": "HAULYARD_REDIS_URL"}
    found = {name: Wire(infra_env[variable]) for name, variable in variables.items()}
    for wire in found.values():
        await wire.connect()
    yield found
    for wire in found.values():
        await wire.cut()


@pytest.fixture(scope="session")
async def settings(infra_env: dict[str, str], wires: dict[str, Wire]) -> GatewaySettings:
    values: dict[str, Any] = {name.removeprefix("HAULYARD_").lower(): value for name, value in infra_env.items()}
    return GatewaySettings.model_validate(
        values
        | {
            "nats_url": wires["nats"].url,
            "postgres_dsn": wires["postgres"].url,
            "redis_url": wires["redis"].url,
            "cors_origins": "https://app.example.com",
            "rate_limit_per_minute": 0,
            "max_jobs_per_user": 0,
        }
    )


@asynccontextmanager
async def serve(settings: GatewaySettings, *, user: str = "alice") -> AsyncIterator[httpx.AsyncClient]:
    """Start a gateway in this loop and yield a client of it."""
    assert settings.jwt_secret is not None
    app: Any = create_app(settings)
    started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()

    async def run() -> None:
        # In a task of its own: the application's life must begin and end in one, and fixtures' halves run in two.
        try:
            async with app.lifespan():
                started.set_result(None)
                await stop.wait()
        except Exception as error:
            if started.done():
                raise
            started.set_exception(error)

    running = asyncio.create_task(run())
    await started
    token = mint_token(settings.jwt_secret.get_secret_value(), user)
    headers = {"Authorization": f"Bearer {token}"}
    try:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://gateway.test", headers=headers
        ) as client:
            yield client
    finally:
        stop.set()
        await running


@pytest.fixture(scope="session")
def serving() -> Serve:
    """Starts gateways with other settings."""
    return serve


@pytest.fixture(scope="session")
async def gateway(settings: GatewaySettings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the user ``alice``."""
    async with serve(settings) as client:
        yield client
