"""The composition root: the one place that knows what the gateway is made of. Nothing connects before it is served."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.openapi.spec import Components

from haulyard_chassis.app import make_app
from haulyard_chassis.draining import on_termination
from haulyard_chassis.health import Health
from haulyard_chassis.identity import Verifier
from haulyard_chassis.jwks import make_verifier
from haulyard_chassis.remembered import RememberingVerifier
from haulyard_gateway import (
    admin,
    archive_download,
    archives,
    files,
    initiating,
    jobs,
    legacy,
    live,
    status,
    users,
    webhooks,
)
from haulyard_gateway.answering import with_noted_headers
from haulyard_gateway.auth import SCHEME, SCHEME_NAME, TICKET_SCHEME, TICKET_SCHEME_NAME, bearer_guard
from haulyard_gateway.connections import connect
from haulyard_gateway.context import Context, make_context
from haulyard_gateway.errors import DOMAIN_ERRORS
from haulyard_gateway.methods import options
from haulyard_gateway.pages import DOCS, PAGES
from haulyard_gateway.ports import Ports
from haulyard_gateway.settings import GatewaySettings
from haulyard_gateway.site import site_root, site_routes

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
    verifier = RememberingVerifier(make_verifier(settings))

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        try:
            async with connect(settings) as ports:
                app.state.context = make_context(settings, ports)
                health.required, health.reported = ports.health.required, ports.health.reported
                health.either = ports.health.either
                with on_termination(ports.changes.end_all):
                    yield
        finally:
            await verifier.close()

    return make_app(
        title="Haulyard",
        description=_DESCRIPTION.strip(),
        routes=[_api(verifier), *site_routes(settings, site_root()), *PAGES],
        health=health,
        lifespan=lifespan,
        cors_origins=settings.cors_origins,
        components=Components(security_schemes={SCHEME_NAME: SCHEME, TICKET_SCHEME_NAME: TICKET_SCHEME}),
        docs=DOCS,
        metrics_enabled=settings.metrics_enabled,
        behind_tls=settings.behind_tls,
    )


def _api(verifier: Verifier) -> Router:
    def context(state: State) -> Context:
        made: Context = state.context
        return made

    return Router(
        "/v1",
        route_handlers=[
            options,  # before those whose methods it lists
            initiating.initiate,
            legacy.check,
            legacy.start,
            archives.download_alias,
            jobs.list_jobs,
            status.status,
            live.live,
            archives.download,
            archive_download.get_archive,
            archive_download.head_archive,
            jobs.cancel,
            jobs.retry,
            jobs.delete_job,
            files.add_files,
            files.list_files,
            files.get_file,
            files.delete_file,
            users.export_data,
            users.erase_data,
            users.get_erasure,
            admin.list_dead_letters,
            admin.purge_dead_letters,
            admin.replay_dead_letters,
            admin.get_dead_letter,
            admin.delete_dead_letter,
            admin.replay_dead_letter,
            admin.inspect_job,
            webhooks.list_deliveries,
            webhooks.redeliver,
            webhooks.list_secrets,
            webhooks.rotate_secret,
        ],
        guards=[bearer_guard(verifier)],
        middleware=[with_noted_headers],
        exception_handlers=DOMAIN_ERRORS,
        dependencies={"context": Provide(context, sync_to_thread=False)},
    )
