"""The real services behind the Cloudflare Worker in its real runtime."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator

import pytest

from haulyard_devstack import Stack
from support.client import JOB_DEADLINE, ApiClient, members, sha256
from support.proxied import Following, free_ports, services_behind
from support.workerd import running_worker, runtime

MIB = 1024 * 1024
HURRIED = {"api: 30_000,": "api: 5_000,"}
"""The API's time-out short, so that a job takes longer."""


@pytest.fixture(scope="module")
async def port() -> int:
    """Where the Worker listens."""
    await runtime()  # skips before the services are started
    (chosen,) = free_ports(1)
    return chosen


@pytest.fixture(scope="module")
async def edge(port: int, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The URL of the Worker, by which clients of the services come."""
    folder = tmp_path_factory.mktemp("edge")
    async with services_behind(stack, f"http://127.0.0.1:{port}", folder) as behind:
        origins = {"ORIGIN": f"http://{behind.gateway}", "LIVE_ORIGIN": f"http://{behind.notifier}"}
        async with running_worker(folder, port, origins=origins, changes=HURRIED) as url:
            yield url


@pytest.fixture
async def through(stack: Stack, edge: str) -> AsyncIterator[ApiClient]:
    """A new user, who comes by the Worker."""
    async with ApiClient(edge, stack.token(f"user-{secrets.token_hex(4)}")) as client:
        yield client


async def test_a_job_longer_than_the_time_out_of_the_worker_is_followed_to_its_end(
    through: ApiClient, stack: Stack
) -> None:
    data = random.Random(1).randbytes(MIB)
    file_id = await through.upload("a.bin", data)
    async with Following(through) as following:
        with stack.paused("archiver"):
            job = await through.initiate(file_id)
            await following.begin(job)
            cut = await through.http.post("/v1/download/start", json={"file_ids": [file_id]})
            assert cut.status_code == 504
            assert not following.over, "neither of them is subject to that time-out"
    assert following.events[-1]["type"] == following.messages[-1]["type"] == "completed"
    assert members(await through.download(job["job_id"])) == {"a.bin": sha256(data)}


async def test_an_archive_is_streamed_and_resumed_before_it_is_built(through: ApiClient, stack: Stack) -> None:
    contents = {f"{seed}.bin": random.Random(seed).randbytes(3 * MIB) for seed in range(2)}
    ids = [await through.upload(name, data) for name, data in contents.items()]
    with stack.paused("archiver"):
        job = await through.initiate(*ids)
        whole = await through.plain.get(job["archive_url"])
        assert whole.status_code == 200
        assert "content-encoding" not in whole.headers
        assert whole.headers["cache-control"] == "private, no-cache, no-transform"
        condition = {"Range": f"bytes={MIB}-", "If-Range": whole.headers["etag"]}
        rest = await through.plain.get(job["archive_url"], headers=condition)
        assert (rest.status_code, rest.content) == (206, whole.content[MIB:])
    assert members(whole.content) == {name: sha256(data) for name, data in contents.items()}
    async with asyncio.timeout(JOB_DEADLINE):
        assert (await through.wait(job["job_id"]))["status"] == "completed"
    assert (await through.plain.get(job["archive_url"])).status_code == 307


async def test_the_id_of_a_request_is_kept(through: ApiClient) -> None:
    answer = await through.http.get("/v1/jobs", headers={"X-Request-ID": "mine-1"})
    assert answer.status_code == 200
    assert answer.headers.get_list("x-request-id") == ["mine-1"]
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    (new,) = (await through.http.get("/v1/jobs")).headers.get_list("x-request-id")
    assert len(new) == 36, "the Worker's own"
