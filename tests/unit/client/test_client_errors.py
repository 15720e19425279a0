import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import haulyard
from haulyard import ApiError, errors
from haulyard.cli.exits import EXITS, Exit, exit_of


def answer(status: int, slug: str = "about:blank") -> ApiError:
    body = {"type": f"/problems/{slug}", "title": "T", "status": status, "detail": "D", "extra": 1}
    return ApiError.from_answer(status, "application/problem+json", json.dumps(body).encode(), retry_after=2.0)


@pytest.mark.parametrize(
    ("status", "slug", "kind", "code"),
    [
        (400, "invalid-request", errors.InvalidRequestError, Exit.USAGE),
        (422, "idempotency-key-reused", errors.InvalidRequestError, Exit.USAGE),
        (401, "unauthorized", errors.UnauthorizedError, Exit.AUTH),
        (403, "forbidden", errors.ForbiddenError, Exit.AUTH),
        (404, "not-found", errors.NotFoundError, Exit.NOT_FOUND),
        (405, "method-not-allowed", errors.ApiError, Exit.JOB_FAILED),
        (409, "job-not-ready", errors.JobNotReadyError, Exit.CONFLICT),
        (409, "job-failed", errors.JobFailedError, Exit.JOB_FAILED),
        (409, "job-over", errors.ConflictError, Exit.CONFLICT),
        (410, "archive-expired", errors.ArchiveExpiredError, Exit.JOB_FAILED),
        (429, "too-many-jobs", errors.TooManyRequestsError, Exit.UNAVAILABLE),
        (500, "internal", errors.UnavailableError, Exit.UNAVAILABLE),
        (503, "unavailable", errors.UnavailableError, Exit.UNAVAILABLE),
    ],
)
def test_each_problem_is_an_exception_of_its_kind_and_an_exit_code(
    status: int, slug: str, kind: type[ApiError], code: Exit
) -> None:
    error = answer(status, slug)
    assert type(error) is kind
    assert (str(error), error.status, error.title, error.retry_after) == ("D", status, "T", 2.0)
    assert exit_of(error) is code


def test_each_thing_that_is_wrong_is_named() -> None:
    body = {"detail": "D", "errors": [{"detail": "x is no id", "pointer": "#/file_ids/1"}]}
    error = ApiError.from_answer(400, "application/problem+json", json.dumps(body).encode())
    assert error.errors == (haulyard.FieldError(detail="x is no id", pointer="#/file_ids/1"),)
    assert error.to_dict()["errors"] == [{"detail": "x is no id", "pointer": "#/file_ids/1"}]


@given(st.integers(400, 599), st.sampled_from(["application/json", "text/html", "text/plain", ""]), st.binary())
def test_whatever_a_proxy_answers_is_an_error_with_its_status(status: int, content_type: str, body: bytes) -> None:
    error = ApiError.from_answer(status, content_type, body)
    assert error.status == status
    assert str(error)


def test_every_error_of_the_package_has_an_exit_code() -> None:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, haulyard.HaulyardError)
    ]
    assert all(any(base in EXITS for base in kind.__mro__) for kind in kinds)
    assert len(kinds) > 15
