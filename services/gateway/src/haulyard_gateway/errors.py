"""Domain errors become HTTP answers in one place: this table. Errors that are only ours are defined here."""

import math
from typing import Any

from litestar import Request, Response
from litestar.types import ExceptionHandlersMap

from haulyard_chassis.broker import BrokerUnavailableError
from haulyard_chassis.identity import InvalidTokenError, KeysUnavailableError
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


class RecordUnavailableError(Exception):
    """The database that holds the record of jobs and users' wishes did not answer."""


class JobOverError(ProblemError):
    """The job is over: there is nothing left to stop. ``DELETE`` it if it is to be forgotten."""

    status = 409
    slug = "job-over"
    title = "The job is over"


class JobNotOverError(ProblemError):
    """The job is still at work; cancel it first, or wait until it is over."""

    status = 409
    slug = "job-not-over"
    title = "The job is not over"


class NothingToRetryError(ProblemError):
    """Every file of the job was archived, so there is nothing to do again."""

    status = 409
    slug = "nothing-to-retry"
    title = "There is nothing to retry"


class IdempotencyKeyReusedError(ProblemError):
    """The ``Idempotency-Key`` was sent before, with another request; take a new one for what is new."""

    status = 422
    slug = "idempotency-key-reused"
    title = "The idempotency key was used for another request"


class DeadLetterStaysError(ProblemError):
    """It is not known where the message was to go; it can be seen and deleted, but not sent again."""

    status = 409
    slug = "not-replayable"
    title = "The message cannot be sent again"


class RateLimitedError(ProblemError):
    """You asked too often; ``RateLimit`` says what is left, and ``Retry-After`` when to come back."""

    status = 429
    slug = "rate-limited"
    title = "Too many requests"

    def __init__(self, retry_after: float) -> None:
        seconds = max(1, math.ceil(retry_after))
        super().__init__(
            f"There were too many requests; the next one is served in {seconds} s.",
            headers={"Retry-After": str(seconds)},
        )


class TooManyJobsError(ProblemError):
    """As many of your jobs are running as may at once; try again after ``Retry-After`` seconds, when one is over."""

    status = 429
    slug = "too-many-jobs"
    title = "Too many jobs at once"


_UNAVAILABLE: dict[type[Exception], str] = {
    BrokerUnavailableError: "The request could not be handed over for processing.",
    JobStateUnavailableError: "The state of jobs cannot be read at the moment.",
    CatalogueUnavailableError: "The catalogue of files cannot be reached at the moment.",
    RecordUnavailableError: "The record of jobs cannot be reached at the moment.",
    StoreUnavailableError: "The object store cannot be reached at the moment.",
    KeysUnavailableError: "The keys with which tokens are signed cannot be had at the moment.",
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
