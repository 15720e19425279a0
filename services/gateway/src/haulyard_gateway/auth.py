"""Who is asking: every endpoint under ``/v1`` wants a bearer token, and knows its user afterwards."""

from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.handlers import BaseRouteHandler
from litestar.openapi.spec import SecurityRequirement, SecurityScheme
from litestar.types import Guard

from haulyard_chassis.identity import TokenVerifier

UserRequest = Request[str, Any, State]
"""A request that passed the guard: ``request.user`` is the user's id."""

SCHEME_NAME = "bearer"
SCHEME = SecurityScheme(
    type="http",
    scheme="bearer",
    bearer_format="JWT",
    description="A JSON Web Token whose subject (`sub`) is the user and which has not expired (`exp`).",
)
REQUIREMENT: list[SecurityRequirement] = [{SCHEME_NAME: []}]


def bearer_guard(verifier: TokenVerifier) -> Guard:
    """Return a guard that lets only requests with a valid token pass.

    The guard raises `haulyard_chassis.identity.InvalidTokenError`.
    """

    def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        connection.scope["user"] = verifier.verify_header(connection.headers.get("authorization"))

    return guard
