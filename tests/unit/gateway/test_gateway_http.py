"""What holds for every answer: who may ask, how errors look, which headers there are, and what OpenAPI says."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import structlog
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from haulyard_chassis.identity import SCOPES, Tickets, mint_token
from haulyard_chassis.problems import UnavailableError
from haulyard_gateway.errors import DOMAIN_ERRORS, problem_kinds, to_problem

if TYPE_CHECKING:
    from litestar import Litestar
    from litestar.testing import AsyncTestClient

    from haulyard_gateway.settings import GatewaySettings
    from unit.gateway.conftest import World

    Client = AsyncTestClient[Litestar]

INITIATE = "/v1/download/initiate"
JOB = "job_01KC8ZB0J0W8G3R5Q2T7V9X4YZ"
API = [
    ("POST", INITIATE, {"202", "400", "413", "415", "422", "503"}),
    ("POST", "/v1/download/check", {"200", "400", "413", "415", "503"}),
    ("POST", "/v1/download/start", {"200", "202", "400", "409", "410", "413", "415", "422", "503"}),
    ("GET", f"/v1/download/{JOB}", {"200", "404", "409", "410", "503"}),
    ("GET", "/v1/jobs", {"200", "400", "503"}),
    ("GET", f"/v1/jobs/{JOB}/status", {"200", "304", "400", "404", "503"}),
    ("GET", f"/v1/jobs/{JOB}/live", {"200", "404", "503"}),
    ("GET", f"/v1/jobs/{JOB}/download", {"200", "404", "409", "410", "503"}),
    ("GET", f"/v1/jobs/{JOB}/archive", {"200", "206", "304", "307", "400", "404", "409", "410", "412", "416", "503"}),
    ("HEAD", f"/v1/jobs/{JOB}/archive", {"200", "304", "400", "404", "409", "410", "412", "503"}),
    ("POST", f"/v1/jobs/{JOB}/cancel", {"202", "404", "409", "503"}),
    ("POST", f"/v1/jobs/{JOB}/retry", {"202", "400", "404", "409", "422", "503"}),
    ("DELETE", f"/v1/jobs/{JOB}", {"202", "404", "503"}),
    ("POST", "/v1/files", {"201", "400", "413", "415", "503"}),
    ("GET", "/v1/files", {"200", "400", "503"}),
    ("GET", "/v1/files/70000", {"200", "404", "503"}),
    ("DELETE", "/v1/files/70000", {"204", "404", "503"}),
    ("GET", "/v1/users/me/data", {"200", "503"}),
    ("DELETE", "/v1/users/me/data", {"202", "503"}),
    ("GET", f"/v1/users/me/data/erasures/{JOB}", {"200", "404", "503"}),
    ("GET", f"/v1/jobs/{JOB}/deliveries", {"200", "404", "503"}),
    ("POST", f"/v1/deliveries/{JOB}/redeliver", {"202", "404", "503"}),
    ("GET", "/v1/webhooks/secrets", {"200", "503"}),
    ("POST", "/v1/webhooks/secrets/rotate", {"200", "503"}),
    ("GET", "/v1/admin/dead-letters", {"200", "400", "503"}),
    ("DELETE", "/v1/admin/dead-letters", {"200", "400", "503"}),
    ("POST", "/v1/admin/dead-letters/replay", {"200", "400", "503"}),
    ("GET", "/v1/admin/dead-letters/7", {"200", "404", "503"}),
    ("DELETE", "/v1/admin/dead-letters/7", {"204", "404", "503"}),
    ("POST", "/v1/admin/dead-letters/7/replay", {"200", "404", "409", "503"}),
    ("GET", f"/v1/admin/jobs/{JOB}", {"200", "404", "503"}),
]
"""Every endpoint, and what it may answer beyond what each may: 401, 403, 429, 500."""


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in API])
async def test_every_endpoint_wants_a_token(client: Client, settings: GatewaySettings, method: str, path: str) -> None:
    assert settings.jwt_secret is not None
    secret = settings.jwt_secret.get_secret_value()
    ticket = Tickets(settings.ticket_secret.get_secret_value()).issue(JOB, "alice", ttl_seconds=60)
    for value in (
        "",
        "Basic YWxpY2U6cGFzcw==",
        "Bearer",
        "Bearer x.y.z",
        f"Bearer {mint_token('another-secret-of-at-least-32-bytes', 'alice')}",
        f"Bearer {mint_token(secret, 'alice', ttl_seconds=-1)}",
        f"Bearer {jwt.encode({'sub': 'alice'}, secret, algorithm='HS256')}",
        f"Bearer {jwt.encode({'sub': 'alice', 'exp': 9999999999}, '', algorithm='none')}",
        f"Bearer {ticket}",
    ):
        answer = await client.request(method, path, headers={"Authorization": value})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == 'Bearer realm="haulyard"'
        if method != "HEAD":
            assert answer.json()["type"] == "/problems/unauthorized"


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [
        ("GET", "/nowhere", 404, "not-found"),
        ("GET", "/v1/nowhere", 404, "not-found"),
        ("GET", INITIATE, 405, "method-not-allowed"),
        ("PUT", INITIATE, 405, "method-not-allowed"),
        ("GET", "/problems/nothing", 404, "not-found"),
        ("GET", "/docs/assets/nothing.js", 404, "not-found"),
    ],
)
async def test_every_error_is_a_problem(client: Client, method: str, path: str, status: int, slug: str) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["type"], problem["instance"]) == (status, f"/problems/{slug}", path)
    assert re.fullmatch("[0-9a-f]{32}", problem["trace_id"])
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert (await client.get(problem["type"])).status_code == 200


@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [
        (b"{}", "text/plain", 415),
        (b"{}", "application/x-www-form-urlencoded", 415),
        (b"{}", "multipart/form-data; boundary=x", 415),
        (b"{}", None, 415),
        (b"{", "application/json", 400),
        (b"", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"[" * 900_000, "application/json", 400),
        (b'{"file_ids":[' + b"1," * 600_000 + b"1]}", "application/json", 413),
        (b'{"file_ids":[1]}', "application/json; charset=utf-8", 202),
        (b'{"file_ids":[1]}', "Application/JSON", 202),
    ],
)
async def test_how_a_body_is_sent(client: Client, content: bytes, media_type: str | None, status: int) -> None:
    headers = {"Content-Type": media_type} if media_type else {}
    answer = await client.post(INITIATE, content=content, headers=headers)
    assert answer.status_code == status, answer.text
    if status >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert (await client.get(answer.json()["type"])).status_code == 200


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    path=st.sampled_from([INITIATE, "/v1/files"]),
    content=st.binary(max_size=200)
    | st.dictionaries(
        st.sampled_from(["file_ids", "priority", "filename", "webhook_url", "source", "name"]) | st.text(max_size=5),
        st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers() | st.text(), max_size=5),
    ).map(lambda body: json.dumps(body).encode()),
)
async def test_no_body_whatever_breaks_the_gateway(client: Client, path: str, content: bytes) -> None:
    answer = await client.post(path, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (201, 202, 400)
    if answer.status_code == 400:
        assert all("pointer" in error for error in answer.json()["errors"])
        assert answer.json()["errors"]


async def test_a_fault_of_ours_is_a_problem_that_gives_nothing_away(client: Client, world: World) -> None:
    world.broker.broken = RuntimeError("secret detail")
    answer = await client.post(INITIATE, json={"file_ids": [1]})
    assert answer.status_code == 500
    assert answer.json()["type"] == "/problems/internal"
    assert "secret" not in answer.text


async def test_the_trace_of_a_request_is_the_callers_or_a_new_one(
    client: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    answer = await client.get("/nowhere", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    assert answer.json()["trace_id"] == trace
    answer = await client.get("/nowhere", headers={"traceparent": "00-nonsense"})
    assert answer.json()["trace_id"] != trace

    bound: list[dict[str, Any]] = []

    async def look_up(_: str, **__: Any) -> Any:
        bound.append(structlog.contextvars.get_contextvars())
        raise RuntimeError

    monkeypatch.setattr(world.jobs, "look_up", look_up)
    answer = await client.get(f"/v1/jobs/{JOB}/status")
    assert answer.json()["trace_id"] == bound[0]["trace_id"]


async def test_only_listed_origins_may_call_from_a_page(client: Client) -> None:
    for origin, allowed in (("https://app.example.com", "https://app.example.com"), ("https://evil.example", None)):
        answer = await client.options(INITIATE, headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
        assert answer.headers.get("access-control-allow-origin") == allowed


def test_each_domain_error_has_its_answer() -> None:
    for kind in DOMAIN_ERRORS:
        assert isinstance(kind, type)
        assert to_problem(kind("x")).status in (401, 503)
    with pytest.raises(RuntimeError):
        to_problem(RuntimeError())


async def test_each_problem_has_a_page_that_says_what_it_means(client: Client) -> None:
    kinds = problem_kinds()
    assert UnavailableError in kinds
    assert len({kind.slug for kind in kinds}) == len(kinds)
    index = (await client.get("/problems")).text
    for kind in kinds:
        page = await client.get(f"/problems/{kind.slug}")
        assert page.headers["content-type"].startswith("text/html")
        assert kind.title in page.text
        assert f"/problems/{kind.slug}" in index


async def test_the_documentation_needs_no_other_host(client: Client) -> None:
    page = await client.get("/docs")
    loaded = re.findall(r'<(?:script|link)[^>]* (?:src|href)="([^"]+)"', page.text)
    assert len([url for url in loaded if url.startswith("/docs/assets/")]) == 3
    for url in loaded:
        assert url.startswith(("/docs/assets/", "data:"))
        if url.startswith("/"):
            asset = await client.get(url)
            assert asset.status_code == 200
            assert len(asset.content) > 10_000
            assert asset.headers["content-type"].startswith(("text/css", "text/javascript"))


async def test_openapi_names_every_answer(client: Client) -> None:
    document = (await client.get("/docs/openapi.json")).json()
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    operations = {
        (method.upper(), path): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if path.startswith("/v1")
    }
    assert len(operations) == len(API)
    for method, path, statuses in API:
        template = path.replace("erasures/" + JOB, "erasures/{erasure_id}")
        template = template.replace("/deliveries/" + JOB, "/deliveries/{delivery_id}")
        template = template.replace(JOB, "{job_id}").replace("70000", "{file_id}").replace("/7", "/{sequence}")
        operation = operations[method, template]
        assert SCOPES.issuperset(operation["security"][0]["bearer"])
        assert operation["security"][1:] == ([{"ticket": []}] if path.endswith("/archive") else [])
        assert set(operation["responses"]) == statuses | {"401", "403", "429", "500"}, path
        assert operation["summary"]
        assert operation["description"]
        for status, response in operation["responses"].items():
            if status in ("204", "304", "307") or (method == "HEAD" and status < "400"):
                assert "content" not in response
                continue
            if path.endswith("/archive") and status < "400":
                assert list(response["content"]) == ["application/zip"]
                continue
            kind = "application/json" if status < "400" else "application/problem+json"
            assert list(response["content"]) == [kind]
            for example in response["content"][kind]["examples"].values():
                assert example["value"]
            assert response["description"]
    ids = [operation["operationId"] for operation in operations.values()]
    assert len(set(ids)) == len(ids)


async def test_health(client: Client, world: World) -> None:
    del client.headers["Authorization"]
    assert (await client.get("/health/live")).json()["status"] == "ok"
    assert (await client.get("/health/ready")).status_code == 200
    world.broker.broken = OSError("gone")
    answer = await client.get("/health/ready")
    assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
