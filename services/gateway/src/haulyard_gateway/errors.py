"""Domain errors become HTTP answers in one place: this table. Errors that are only ours are defined here."""

from typing import Any

from litestar import Request, Response
from litestar.types import ExceptionHandlersMap

from haulyard_chassis.broker import BrokerUnavailableError
from haulyard_chassis.identity import InvalidTokenError
from haulyard_chassis.job_state import JobStateUnavailableError
from haulyard_chassis.logs import get_logger
from haulyard_chassis.problems import (
    Problem,
    ProblemError,
    UnauthorizedError,
    UnavailableError,
    problem_response,
)
from haulyard_chassis.store import StoreUnavailableError

log = get_logger(__name__)


class CatalogueUnavailableError(Exception):
    """The database that holds the catalogue did not answer."""


_UNAVAILABLE: dict[type[Exception], str] = {
    BrokerUnavailableError: "The job could not be handed over for processing.",
    JobStateUnavailableError: "The state of jobs cannot be read at the moment.",
    CatalogueUnavailableError: "The catalogue of files cannot be reached at the moment.",
    StoreUnavailableError: "The object store cannot be reached at the moment.",
}


def to_problem(error: Exception) -> ProblemError:
    """Return the problem that tells a client of a domain error."""
    if isinstance(error, InvalidTokenError):
        return UnauthorizedError(f"The request is not authenticated: {error}.")
    for kind, detail in _UNAVAILABLE.items():
        if isinstance(error, kind):
            return UnavailableError(f"{detail} Try again.")
    raise error


def _answer(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    problem = to_problem(error)
    if isinstance(problem, UnavailableError):
        log.warning("dependency unavailable", path=request.url.path, error=f"{type(error).__name__}: {error}")
    return problem_response(request, problem)


DOMAIN_ERRORS: ExceptionHandlersMap = dict.fromkeys((InvalidTokenError, *_UNAVAILABLE), _answer)
"""For the router of the API."""


def problem_kinds() -> list[type[ProblemError]]:
    """Return every kind of problem that the API may answer with, by status."""
    found: list[type[ProblemError]] = [ProblemError]
    for kind in found:
        found.extend(kind.__subclasses__())
    return sorted(set(found), key=lambda kind: (kind.status, kind.slug))
