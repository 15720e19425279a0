"""Who is asking, may they, and not too often: every endpoint under ``/v1`` wants a bearer token with its scopes.

Sources: RFC 6750, section 3.1 (insufficient_scope).
"""

from collections.abc import Mapping
from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.handlers import BaseRouteHandler
from litestar.openapi.spec import SecurityScheme
from litestar.types import Guard

from haulyard_chassis.identity import JOBS_READ, Principal, Verifier
from haulyard_chassis.limits import Decision, limit_headers
from haulyard_chassis.problems import ForbiddenError
from haulyard_gateway.answering import note_headers
from haulyard_gateway.context import Context
from haulyard_gateway.errors import RateLimitedError
from haulyard_gateway.headers import warning

UserRequest = Request[str, Principal, State]
"""A request that passed the guard: ``request.user`` is the user's id, ``request.auth`` says what they may."""

SCHEME_NAME = "bearer"
SCHEME = SecurityScheme(
    type="http",
    scheme="bearer",
    bearer_format="JWT",
    description="A JSON Web Token whose subject (`sub`) is the user, which has not expired (`exp`), and which grants"
    " (`scope`) what the endpoint needs.",
)

SCOPES = "scopes"
"""Of an endpoint's options: the scopes that it needs, all of them."""
OWN_COUNT = "own_count"
"""Of an endpoint's options: it counts its requests by itself, together with what else it asks of the cache."""
TICKET = "ticket"
"""Of an endpoint's options: the purpose of the ticket that may come instead of a token, in a parameter of this name."""

TICKET_SCHEME_NAME = "ticket"
TICKET_SCHEME = SecurityScheme(
    type="apiKey",
    name=TICKET,
    security_scheme_in="query",
    description="A ticket for one job and one purpose, as it comes in links: for browsers, which cannot send a token"
    " with them.",
)


def bearer_guard(verifier: Verifier) -> Guard:
    """Return a guard that lets only requests pass which may be served.

    The guard raises `haulyard_chassis.identity.InvalidTokenError`, `haulyard_chassis.identity.KeysUnavailableError`,
    `ForbiddenError`, `RateLimitedError`.
    """

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        context: Context = connection.app.state.context
        authorization = connection.headers.get("authorization")
        ticket = connection.query_params.get(TICKET) if TICKET in handler.opt else None
        if ticket is not None and authorization is None:
            job_id = str(connection.path_params["job_id"])
            user_id = context.tickets.verify(ticket, job_id, purpose=handler.opt[TICKET])
            principal = Principal(user_id, frozenset({JOBS_READ}))
        else:
            principal = await verifier.verify_header(authorization)
        connection.scope["user"] = principal.user_id
        connection.scope["auth"] = principal
        if not handler.opt.get(OWN_COUNT):
            decided(connection.scope, await context.ports.admission.take(principal.user_id))
        check_scopes(principal, handler.opt)

    return guard


def check_scopes(principal: Principal, options: Mapping[str, Any]) -> None:
    """Return if the token grants what an endpoint needs.

    Raises:
        ForbiddenError
    """
    needed = options.get(SCOPES, ())  # none for OPTIONS, which the framework answers
    missing = [scope for scope in needed if scope not in principal.scopes]
    if missing:
        raise ForbiddenError(
            f"The token does not grant {' and '.join(missing)}.",
            headers={
                "WWW-Authenticate": f'Bearer realm="haulyard", error="insufficient_scope", scope="{" ".join(needed)}"'
            },
        )


def decided(scope: Any, requests: Decision | None, *, jobs: Decision | None = None) -> None:
    """Have the answer say what is left of the limits; refuse a request that is one too many.

    Raises:
        RateLimitedError
    """
    headers = limit_headers(requests=requests, jobs=jobs)
    headers.pop("Retry-After", None)
    if requests is not None and requests.degraded:
        headers |= warning("the cache is away; limits are those of this process")
    if headers:
        note_headers(scope, headers)
    if requests is not None and not requests.allowed:
        raise RateLimitedError(requests.retry_after)


async def count(request: UserRequest, context: Context) -> None:
    """Count a request of an endpoint that has `OWN_COUNT`, but came to no decision of its own.

    Raises:
        RateLimitedError
    """
    decided(request.scope, await context.ports.admission.take(request.user))
