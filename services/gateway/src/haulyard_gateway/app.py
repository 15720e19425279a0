"""The composition root: the one place that knows what the gateway is made of. Nothing connects before it is served."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.openapi.spec import Components

from haulyard_chassis.app import make_app
from haulyard_chassis.health import Health
from haulyard_chassis.identity import TokenVerifier
from haulyard_gateway import files, jobs
from haulyard_gateway.auth import REQUIREMENT, SCHEME, SCHEME_NAME, bearer_guard
from haulyard_gateway.connections import connect
from haulyard_gateway.context import Context, make_context
from haulyard_gateway.errors import DOMAIN_ERRORS
from haulyard_gateway.pages import DOCS, PAGES
from haulyard_gateway.ports import Ports
from haulyard_gateway.settings import GatewaySettings

_DESCRIPTION = """
Many files as one ZIP, made in the background and delivered by the object store.

1. `POST /v1/download/initiate` with the files' ids: the answer comes at once.
2. Follow the job: poll its status, or listen on its WebSocket or event stream.
3. `GET /v1/jobs/{job_id}/download`: a link to the archive.

Errors are problems ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)); each [kind](/problems) has a page.
"""

Connect = Callable[[GatewaySettings], AbstractAsyncContextManager[Ports]]


def create_app(settings: GatewaySettings, connect: Connect = connect) -> Litestar:
    """Return the gateway.

    Args:
        settings: what the environment says.
        connect: opens the ports when the application starts; tests give others.
    """
    # Health is wired before there is anything to check: the checks come with the connections.
    health = Health(required={})

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with connect(settings) as ports:
            app.state.context = make_context(settings, ports)
            health.required, health.reported = ports.health.required, ports.health.reported
            yield

    return make_app(
        title="Haulyard",
        description=_DESCRIPTION.strip(),
        routes=[_api(settings), *PAGES],
        health=health,
        lifespan=lifespan,
        cors_origins=settings.cors_origins,
        components=Components(security_schemes={SCHEME_NAME: SCHEME}),
        docs=DOCS,
    )


def _api(settings: GatewaySettings) -> Router:
    def context(state: State) -> Context:
        made: Context = state.context
        return made

    return Router(
        "/v1",
        route_handlers=[jobs.initiate, jobs.status, jobs.download, files.add_file, files.get_file],
        guards=[bearer_guard(TokenVerifier(settings.jwt_secret.get_secret_value()))],
        security=REQUIREMENT,
        exception_handlers=DOMAIN_ERRORS,
        dependencies={"context": Provide(context, sync_to_thread=False)},
    )
