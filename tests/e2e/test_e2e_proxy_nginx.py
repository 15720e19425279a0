"""The real services behind real nginx with the configuration that we ship."""

import random
import secrets
from collections.abc import AsyncIterator

import httpx
import pytest

from haulyard_devstack import Stack
from support.client import ApiClient, members, sha256
from support.nginx import Nginx, program, running_nginx
from support.proxied import Behind, Following, free_ports, services_behind

MIB = 1024 * 1024
PROBLEM = "application/problem+json"
SECURE_ONCE = {
    "x-content-type-options": ["nosniff"],
    "referrer-policy": ["no-referrer"],
    "x-frame-options": ["DENY"],
    "strict-transport-security": ["max-age=63072000; includeSubDomains"],
}
HURRIED = {"proxy_read_timeout 30s;": "proxy_read_timeout 5s;", "rate=100r/m;": "rate=1000r/s;"}
"""The API's time-out short, so that a job takes longer; and no limit."""


@pytest.fixture(scope="module")
async def endpoint() -> tuple[int, int]:
    """Ports of nginx, with TLS and without."""
    await program()  # skips before the services are started
    tls, plain = free_ports(2)
    return tls, plain


@pytest.fixture(scope="module")
async def behind(
    stack: Stack, endpoint: tuple[int, int], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Behind]:
    folder = tmp_path_factory.mktemp("behind")
    async with services_behind(stack, f"https://127.0.0.1:{endpoint[0]}", folder) as running:
        yield running


@pytest.fixture(scope="module")
async def nginx(
    behind: Behind, endpoint: tuple[int, int], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Nginx]:
    """nginx that is in a hurry."""
    async with running_nginx(
        tmp_path_factory.mktemp("nginx"), endpoint, gateway=behind.gateway, notifier=behind.notifier, changes=HURRIED
    ) as running:
        yield running


@pytest.fixture
async def through(stack: Stack, nginx: Nginx) -> AsyncIterator[ApiClient]:
    """A new user, who comes by nginx."""
    user = f"user-{secrets.token_hex(4)}"
    async with ApiClient(nginx.url, stack.token(user), trust=nginx.trust) as client:
        yield client


async def test_a_job_longer_than_the_time_out_of_the_proxy_is_followed_to_its_end(
    through: ApiClient, stack: Stack, nginx: Nginx
) -> None:
    data = random.Random(1).randbytes(MIB)
    file_id = await through.upload("a.bin", data)
    async with Following(through, trust=nginx.trust) as following:
        with stack.paused("archiver"):
            job = await through.initiate(file_id)
            assert job["websocket_url"].startswith(nginx.url.replace("https", "wss", 1))
            await following.begin(job)
            # What waits for the archive is cut off: so the time is over, and the job is not.
            cut = await through.http.post("/v1/download/start", json={"file_ids": [file_id]})
            assert cut.status_code == 504
            assert cut.headers["content-type"] == PROBLEM
            assert cut.json()["instance"] == "/v1/download/start"
            assert not following.over, "neither of them is subject to that time-out"
            waited = await through.http.get(f"/v1/jobs/{job['job_id']}/status", params={"wait": 1})
            assert waited.json()["status"] in ("queued", "processing")
    assert following.events[-1]["type"] == following.messages[-1]["type"] == "completed"
    assert (await through.wait(job["job_id"]))["status"] == "completed"
    assert members(await through.download(job["job_id"])) == {"a.bin": sha256(data)}
    log = nginx.access_log.read_text()
    assert f"/ws/jobs/{job['job_id']} " in log
    assert "ticket" not in log


async def test_an_archive_is_streamed_and_resumed_before_it_is_built(through: ApiClient, stack: Stack) -> None:
    contents = {f"{seed}.bin": random.Random(seed).randbytes(3 * MIB) for seed in range(2)}
    ids = [await through.upload(name, data) for name, data in contents.items()]
    got = bytearray()
    with stack.paused("archiver"):
        job = await through.initiate(*ids)
        async with through.plain.stream("GET", job["archive_url"], headers={"Accept-Encoding": "gzip"}) as answer:
            assert answer.status_code == 200
            assert "content-encoding" not in answer.headers
            etag, size = answer.headers["etag"], int(answer.headers["content-length"])
            async for chunk in answer.aiter_raw():
                got += chunk
                if len(got) > MIB:
                    break
        rest = await through.plain.get(job["archive_url"], headers={"Range": f"bytes={len(got)}-", "If-Range": etag})
        assert rest.status_code == 206
        assert rest.headers["content-range"] == f"bytes {len(got)}-{size - 1}/{size}"
        last = await through.plain.get(job["archive_url"], headers={"Range": "bytes=-22", "If-Range": etag})
        assert last.content == rest.content[-22:]
    whole = bytes(got) + rest.content
    assert members(whole) == {name: sha256(data) for name, data in contents.items()}
    assert (await through.wait(job["job_id"]))["status"] == "completed"
    elsewhere = await through.plain.get(job["archive_url"])
    assert elsewhere.status_code == 307
    assert (await through.plain.get(elsewhere.headers["location"])).content == whole


async def test_headers_are_kept_and_none_comes_twice(through: ApiClient) -> None:
    answer = await through.http.get("/v1/jobs", headers={"X-Request-ID": "mine-1", "X-Forwarded-Proto": "http"})
    assert answer.status_code == 200
    assert answer.headers.get_list("x-request-id") == ["mine-1"]
    for name, values in SECURE_ONCE.items():
        assert answer.headers.get_list(name) == values, name
    for wrong in ("not good", "x" * 65):
        (new,) = (await through.http.get("/v1/jobs", headers={"X-Request-ID": wrong})).headers.get_list("x-request-id")
        assert new != wrong
        assert len(new) == 32, "nginx's own"


async def test_text_is_compressed_and_events_are_not(through: ApiClient, stack: Stack) -> None:
    described = await through.http.get("/docs/openapi.json")
    assert described.headers["content-encoding"] == "gzip"
    file_id = await through.upload("a.txt", b"a" * 5000)
    with stack.paused("archiver"):
        job = await through.initiate(file_id)
        async with through.plain.stream("GET", job["events_url"], headers={"Accept-Encoding": "gzip"}) as stream:
            assert stream.status_code == 200
            assert "content-encoding" not in stream.headers
            assert await anext(stream.aiter_raw()), "the first comes at once"
    assert (await through.wait(job["job_id"]))["status"] == "completed"


@pytest.mark.parametrize("path", ["/metrics", "/health/ready", "/v1/../metrics", "/v1/%2e%2e/metrics", "//metrics"])
async def test_what_is_for_operators_is_not_there(through: ApiClient, path: str) -> None:
    answer = await through.http.get(f"{str(through.http.base_url).rstrip('/')}{path}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == PROBLEM
    assert answer.json()["type"] == "/problems/not-found"


async def test_a_body_that_is_too_large_is_a_problem(through: ApiClient) -> None:
    answer = await through.http.post("/v1/download/initiate", content=b" " * (MIB + 1))
    assert answer.status_code == 413
    assert answer.json()["type"] == "/problems/content-too-large"
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]


async def test_without_tls_one_is_led_to_it(nginx: Nginx) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.post(f"{nginx.plain_url}/v1/files?limit=1")
    assert answer.status_code == 308
    assert answer.headers["location"] == "https://127.0.0.1/v1/files?limit=1"


async def test_an_address_that_asks_too_often_is_told_when_to_come_back(
    behind: Behind, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tls, plain = free_ports(2)
    folder = tmp_path_factory.mktemp("limited")
    async with (
        running_nginx(folder, (tls, plain), gateway=behind.gateway, notifier=behind.notifier) as limited,
        httpx.AsyncClient(base_url=limited.url, verify=limited.trust, trust_env=False) as http,
    ):
        answers = [await http.get("/v1/jobs", headers={"X-Request-ID": f"n-{number}"}) for number in range(10)]
        assert {answer.status_code for answer in answers} == {401}
        answer = answers[0]
        for _ in range(500):  # a machine that is so slow that it stays below the limit would never end
            answer = await http.get("/v1/jobs?ticket=secret", headers={"X-Request-ID": "last"})
            if answer.status_code == 429:
                break
        assert answer.status_code == 429
        assert answer.headers["content-type"] == PROBLEM
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers.get_list("x-request-id") == ["last"]
        assert answer.json() == {
            "type": "/problems/rate-limited",
            "title": "Too many requests",
            "status": 429,
            "detail": "There were too many requests from your address; the next one is served in 1 s.",
            "instance": "/v1/jobs",
        }
        preflight = {"Origin": limited.url, "Access-Control-Request-Method": "GET"}
        assert (await http.options("/v1/jobs", headers=preflight)).status_code != 429


async def test_services_that_are_away_are_a_problem(tmp_path_factory: pytest.TempPathFactory) -> None:
    tls, plain, nobody = free_ports(3)
    folder = tmp_path_factory.mktemp("alone")
    gone = f"127.0.0.1:{nobody}"
    async with (
        running_nginx(folder, (tls, plain), gateway=gone, notifier=gone) as alone,
        httpx.AsyncClient(base_url=alone.url, verify=alone.trust, trust_env=False) as http,
    ):
        answer = await http.post("/v1/download/initiate?x=1", json={})
        assert answer.status_code == 502
        assert answer.headers["retry-after"] == "2"
        assert answer.json()["status"] == 502
        # A path that is no JSON string as it is.
        odd = await http.get('/v1/%22"\\')
        assert odd.json()["instance"].startswith("/v1/")
