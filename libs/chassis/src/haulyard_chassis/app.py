"""The HTTP side that all services have: one application with our problems, health, metrics, traces and OpenAPI."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version

from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.openapi.spec import Components
from litestar.types import ControllerRouterHandler, Method, Middleware

from haulyard_chassis.edge import Edge
from haulyard_chassis.health import Health
from haulyard_chassis.logs import get_logger
from haulyard_chassis.metrics import metrics_route
from haulyard_chassis.problems import EXCEPTION_HANDLERS

_MAX_BODY = 1_000_000

_CORS_METHODS: tuple[Method, ...] = ("GET", "HEAD", "POST", "PUT", "DELETE")
_CORS_REQUEST_HEADERS = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-None-Match",
    "If-Range",
    "Last-Event-ID",
    "Range",
    "traceparent",
)
_CORS_ANSWER_HEADERS = (
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Range",
    "Deprecation",
    "ETag",
    "Link",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "Sunset",
    "Warning",
    "X-Request-ID",
)

log = get_logger(__name__)

Lifespan = Callable[[Litestar], AbstractAsyncContextManager[None]]


def _told(lifespan: Lifespan) -> Lifespan:
    """Say in the log when the service can serve, and when it no longer does."""

    @asynccontextmanager
    async def told(app: Litestar) -> AsyncIterator[None]:
        async with lifespan(app):
            log.info("ready")
            yield
            log.info("stopping")
        log.info("stopped")

    return told


def make_app(
    *,
    title: str,
    description: str,
    routes: Sequence[ControllerRouterHandler],
    health: Health,
    lifespan: Lifespan,
    middleware: Sequence[Middleware] = (),
    cors_origins: Sequence[str] = (),
    components: Components | None = None,
    docs: OpenAPIRenderPlugin | None = None,
    metrics_enabled: bool = True,
    behind_tls: bool = False,
) -> Litestar:
    """Return a service's application.

    Args:
        title: of the OpenAPI document.
        description: of the OpenAPI document, in Markdown.
        routes: the service's own endpoints.
        health: becomes ``/health/live`` and ``/health/ready``.
        lifespan: opens connections when the application starts and closes them when it stops.
        middleware: around every request.
        cors_origins: web origins whose pages may call the service.
        components: what the OpenAPI document has beyond the endpoints.
        docs: a page at ``/docs`` that shows the document; without one there is only ``/docs/openapi.json``.
        metrics_enabled: whether there is ``/metrics``.
        behind_tls: ``X-Forwarded-Proto`` is set by a proxy of ours and can be believed.
    """
    app = Litestar(
        route_handlers=[*routes, *health.litestar_routes(), *([metrics_route()] if metrics_enabled else [])],
        lifespan=[_told(lifespan)],
        middleware=list(middleware),
        exception_handlers=EXCEPTION_HANDLERS,
        cors_config=CORSConfig(
            allow_origins=list(cors_origins),
            allow_methods=list(_CORS_METHODS),
            allow_headers=list(_CORS_REQUEST_HEADERS),
            expose_headers=list(_CORS_ANSWER_HEADERS),
        )
        if cors_origins
        else None,
        openapi_config=OpenAPIConfig(
            title=title,
            version=version("haulyard-chassis"),
            description=description,
            path="/docs",
            components=components or Components(),
            render_plugins=[*([docs] if docs else []), JsonRenderPlugin()],
        ),
        request_max_body_size=_MAX_BODY,
        logging_config=None,
        debug=False,
    )
    app.asgi_handler = Edge(app.asgi_handler, behind_tls=behind_tls)
    return app
