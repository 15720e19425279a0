"""The HTTP side that all services have: one Litestar application with our problems, health and OpenAPI."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version

from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.types import ControllerRouterHandler, Middleware

from haulyard_chassis.health import Health
from haulyard_chassis.problems import EXCEPTION_HANDLERS

_MAX_BODY = 1_000_000

Lifespan = Callable[[Litestar], AbstractAsyncContextManager[None]]


def make_app(
    *,
    title: str,
    description: str,
    routes: Sequence[ControllerRouterHandler],
    health: Health,
    lifespan: Lifespan,
    middleware: Sequence[Middleware] = (),
    cors_origins: Sequence[str] = (),
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
    """
    return Litestar(
        route_handlers=[*routes, *health.litestar_routes()],
        lifespan=[lifespan],
        middleware=list(middleware),
        exception_handlers=EXCEPTION_HANDLERS,
        cors_config=CORSConfig(
            allow_origins=list(cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "traceparent"],
            expose_headers=["Location", "Retry-After", "Warning"],
        )
        if cors_origins
        else None,
        openapi_config=OpenAPIConfig(
            title=title,
            version=version("haulyard-chassis"),
            description=description,
            path="/docs",
            render_plugins=[SwaggerRenderPlugin()],
        ),
        request_max_body_size=_MAX_BODY,
        logging_config=None,
        debug=False,
    )
