"""Every error, whoever raises it, is a problem document (RFC 9457)."""

import re
from collections.abc import Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import msgspec
import pytest
from litestar import Litestar, get, post
from litestar.exceptions import HTTPException, ImproperlyConfiguredException, NotAuthorizedException
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.testing import TestClient

from haulyard_chassis.app import make_app
from haulyard_chassis.health import Health
from haulyard_chassis.problems import (
    ArchiveExpiredError,
    FieldError,
    InvalidRequestError,
    JobFailedError,
    JobNotReadyError,
    NotFoundError,
    ProblemError,
    UnauthorizedError,
    UnavailableError,
    json_pointer,
)

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
RAISED: dict[str, Exception] = {
    "invalid": InvalidRequestError(
        "it is wrong", errors=[FieldError(detail="too big", pointer="#/a/0"), FieldError(detail="odd", parameter="q")]
    ),
    "unauthorized": UnauthorizedError("no token"),
    "not-found": NotFoundError("no such job"),
    "not-ready": JobNotReadyError("wait"),
    "job-failed": JobFailedError("no file"),
    "expired": ArchiveExpiredError("too late"),
    "unavailable": UnavailableError("the broker is away", retry_after=7),
    "bug": RuntimeError("password=hunter2"),
    "framework-bug": ImproperlyConfiguredException("password=hunter2"),
    "teapot": HTTPException("short and stout", status_code=418),
    "forbidden": NotAuthorizedException("who are you?"),
}


class Item(msgspec.Struct):
    """Something in the body."""

    size: int


class Body(msgspec.Struct):
    """What is posted."""

    ids: list[int]
    items: list[Item] = []
    extra: dict[str, int] = {}


@get("/raise/{name:str}")
async def raises(name: FromPath[str]) -> None:
    raise RAISED[name]


@post("/validate")
async def validates(data: JSONBody[Body]) -> None:
    """Take a body."""


@get("/query")
async def queries(number: FromQuery[int], limit: Annotated[int, QueryParameter(le=10)] = 1) -> None:
    """Take parameters."""


@asynccontextmanager
async def lifespan(_: Litestar) -> Any:
    yield


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient[Litestar]]:
    """A tiny service."""

    async def answers() -> None:
        return

    async def away() -> None:
        raise OSError("password=hunter2")

    app = make_app(
        title="Tiny",
        description="For tests.",
        routes=[raises, validates, queries],
        health=Health({"broker": answers}, {"cache": away}),
        lifespan=lifespan,
        cors_origins=["https://page.example"],
    )
    with TestClient(app, raise_server_exceptions=False) as running:
        yield running


def problem(response: Any, status: int, slug: str) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert (body["status"], body["type"]) == (status, f"/problems/{slug}")
    assert body["instance"] == response.request.url.path
    assert body["title"]
    assert body["detail"]
    return body


@pytest.mark.parametrize(
    ("name", "status", "slug", "title", "detail"),
    [
        ("unauthorized", 401, "unauthorized", "A valid token is needed", "no token"),
        ("not-found", 404, "not-found", "Not found", "no such job"),
        ("not-ready", 409, "job-not-ready", "The archive is not ready", "wait"),
        ("job-failed", 409, "job-failed", "The job has no archive", "no file"),
        ("expired", 410, "archive-expired", "The archive has expired", "too late"),
        ("unavailable", 503, "unavailable", "Not available at the moment", "the broker is away"),
        ("teapot", 418, "i-m-a-teapot", "I'm a Teapot", "short and stout"),
        ("forbidden", 401, "unauthorized", "Unauthorized", "who are you?"),
    ],
)
def test_an_error_is_a_problem(
    client: TestClient[Litestar], name: str, status: int, slug: str, title: str, detail: str
) -> None:
    body = problem(client.get(f"/raise/{name}"), status, slug)
    assert re.fullmatch("[0-9a-f]{32}", body.pop("trace_id"))
    assert body == {
        "type": f"/problems/{slug}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": f"/raise/{name}",
    }


def test_wrong_input_names_each_place(client: TestClient[Litestar]) -> None:
    body = problem(client.get("/raise/invalid"), 400, "invalid-request")
    assert body["errors"] == [{"detail": "too big", "pointer": "#/a/0"}, {"detail": "odd", "parameter": "q"}]


def test_every_problem_class_has_a_type_of_its_own() -> None:
    kinds = [kind for kind in ProblemError.__subclasses__() if kind.__module__ == "haulyard_chassis.problems"]
    assert len({kind.slug for kind in kinds}) == len(kinds) == len({kind.title for kind in kinds})


def test_headers_say_how_to_go_on(client: TestClient[Litestar]) -> None:
    assert client.get("/raise/unauthorized").headers["www-authenticate"] == 'Bearer realm="haulyard"'
    assert client.get("/raise/unavailable").headers["retry-after"] == "7"
    assert client.post("/query").headers["allow"]


@pytest.mark.parametrize("name", ["bug", "framework-bug"])
def test_a_bug_is_a_problem_that_tells_nothing(client: TestClient[Litestar], name: str) -> None:
    response = client.get(f"/raise/{name}")
    problem(response, 500, "internal")
    assert "hunter2" not in response.text
    assert "Traceback" not in response.text


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"ids": [1, 2, "x"]}, "#/ids/2"),
        ({"ids": "x"}, "#/ids"),
        ({"ids": [], "items": [{"size": 1}, {"size": None}]}, "#/items/1/size"),
        ({"ids": [], "items": [{}]}, "#/items/0"),
        ({"ids": [], "extra": {"a": "x"}}, "#/extra"),
        ({}, "#"),
        ([], "#"),
    ],
)
def test_a_wrong_body_is_named_with_its_place(client: TestClient[Litestar], body: Any, pointer: str) -> None:
    errors = problem(client.post("/validate", json=body), 400, "invalid-request")["errors"]
    assert [error["pointer"] for error in errors] == [pointer]
    assert "$" not in errors[0]["detail"]


@pytest.mark.parametrize(
    ("query", "parameter"), [("number=x", "number"), ("", "number"), ("number=1&limit=11", "limit")]
)
def test_a_wrong_parameter_is_named(client: TestClient[Litestar], query: str, parameter: str) -> None:
    body = problem(client.get(f"/query?{query}"), 400, "invalid-request")
    assert [error["parameter"] for error in body.get("errors", [])] == ([parameter] if query else [])
    assert parameter in body["detail"] or query


@pytest.mark.parametrize("body", [b"{", b'{"ids": [1,]}', b"\xff\xfe", b""])
def test_malformed_json_is_400(client: TestClient[Litestar], body: bytes) -> None:
    problem(
        client.post("/validate", content=body, headers={"content-type": "application/json"}), 400, "invalid-request"
    )


def test_no_such_route_is_404(client: TestClient[Litestar]) -> None:
    problem(client.get("/nowhere"), 404, "not-found")


def test_a_wrong_method_is_405(client: TestClient[Litestar]) -> None:
    problem(client.delete("/validate"), 405, "method-not-allowed")


def test_a_body_that_is_too_large_is_413(client: TestClient[Litestar]) -> None:
    problem(client.post("/validate", json={"ids": [1] * 600_000}), 413, "content-too-large")


def test_the_trace_is_named_if_it_is_one(client: TestClient[Litestar]) -> None:
    body = client.get("/raise/not-found", headers={"traceparent": TRACE}).json()
    assert body["trace_id"] == "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize("header", ["x" * 100, "00-" + "0" * 32 + "-b7ad6b7169203331-01", "<script>alert(1)</script>"])
def test_a_trace_that_is_none_is_not_echoed(client: TestClient[Litestar], header: str) -> None:
    found = client.get("/raise/not-found", headers={"traceparent": header}).json()["trace_id"]
    assert re.fullmatch("[0-9a-f]{32}", found)
    assert found not in header


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ("$", "#"),
        ("$.a", "#/a"),
        ("$.file_ids[3]", "#/file_ids/3"),
        ("$.a.b.c", "#/a/b/c"),
        ("$.a[0][12].b", "#/a/0/12/b"),
        ("$[0]", "#/0"),
        ("$.a[...]", "#/a"),
        ("$.a[...].b", "#/a"),
        ("$[...]", "#"),
    ],
)
def test_a_path_becomes_a_json_pointer(path: str, pointer: str) -> None:
    assert json_pointer(path) == pointer


def test_a_service_is_ready_without_what_is_only_reported(client: TestClient[Litestar]) -> None:
    assert client.get("/health/live").json() == {"status": "ok", "checks": {}}
    ready = client.get("/health/ready")
    assert ready.status_code == 200
    assert ready.json() == {"status": "ok", "checks": {"broker": "ok", "cache": "unavailable"}}


async def test_a_service_is_not_ready_without_what_it_needs() -> None:
    async def away() -> None:
        raise ConnectionError

    ready, report = await Health({"broker": away}).report()
    assert not ready
    assert (report.status, report.checks) == ("unavailable", {"broker": "unavailable"})


async def test_of_two_that_can_stand_in_for_each_other_one_is_enough() -> None:
    async def away() -> None:
        raise ConnectionError

    async def there() -> None:
        return

    for broker, database in ((there, there), (there, away), (away, there), (away, away)):
        ready, report = await Health({}, either={"broker": broker, "database": database}).report()
        assert ready == (there in (broker, database))
        assert set(report.checks) == {"broker", "database"}


def test_a_page_of_an_allowed_origin_may_read_the_answer(client: TestClient[Litestar]) -> None:
    allowed = client.get("/health/live", headers={"Origin": "https://page.example"})
    assert allowed.headers["access-control-allow-origin"] == "https://page.example"
    other = client.get("/health/live", headers={"Origin": "https://other.example"})
    assert other.headers.get("access-control-allow-origin") != "https://other.example"
