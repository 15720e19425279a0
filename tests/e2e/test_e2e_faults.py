"""Real processes die in the middle of real jobs; the jobs are only late."""

import asyncio
import hashlib
import random
import tempfile
import zipfile

import httpx
import pytest

from haulyard_devstack import Infra, Stack
from haulyard_devstack.probes import http_ok
from haulyard_devstack.process import ManagedProcess
from support.client import ApiClient, members, sha256

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]

MIB = 1024 * 1024
PIECE = 64 * MIB


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(f"{seed}:{size}").randbytes(size)


async def restart(stack: Stack, process: ManagedProcess) -> None:
    """Start a killed service again, as any supervisor does."""
    url = f"{stack.urls[process.name]}/health/ready"
    await process.start(lambda: http_ok(url), 60)


@pytest.fixture
async def gigabyte(api: ApiClient) -> tuple[list[int], list[str]]:
    """Four files of 256 MiB: ids and SHA-256."""
    ids, digests = [], []
    for seed in range(4):
        data = noise(PIECE, seed) * 4
        ids.append(await api.upload(f"large-{seed}.bin", data))
        digests.append(sha256(data))
    return ids, digests


async def check_gigabyte(api: ApiClient, job_id: str, digests: list[str]) -> None:
    """Download to disk and compare each member; a gigabyte twice in memory would be rude."""
    link = (await api.http.get(f"/v1/jobs/{job_id}/download")).json()["download_url"]
    with tempfile.TemporaryFile() as file:
        async with api.plain.stream("GET", link) as answer:
            async for chunk in answer.aiter_bytes(MIB):
                file.write(chunk)
        with zipfile.ZipFile(file) as opened:
            found = []
            for name in opened.namelist():
                digest = hashlib.sha256()
                with opened.open(name) as member:
                    while chunk := member.read(MIB):
                        digest.update(chunk)
                found.append(digest.hexdigest())
    assert found == digests


async def test_a_killed_archiver_only_delays_a_job_of_a_gigabyte(
    api: ApiClient, stack: Stack, gigabyte: tuple[list[int], list[str]]
) -> None:
    ids, digests = gigabyte
    job = await api.initiate(*ids)
    before = await api.wait_for_bytes(job["job_id"], PIECE)
    assert before["status"] == "processing", "the kill has to be in the middle"
    await asyncio.gather(stack.processes["archiver-1"].kill(), stack.processes["archiver-2"].kill())
    await restart(stack, stack.processes["archiver-1"])
    await restart(stack, stack.processes["archiver-2"])
    assert (await api.wait(job["job_id"]))["status"] == "completed"
    await check_gigabyte(api, job["job_id"], digests)


async def test_killed_orchestrators_only_delay_a_job(api: ApiClient, stack: Stack) -> None:
    data = noise(PIECE)
    ids = [await api.upload(f"{n}.bin", data) for n in range(3)]
    job = await api.initiate(*ids)
    await api.wait_for_bytes(job["job_id"], 1)
    await asyncio.gather(stack.processes["orchestrator"].kill(), stack.processes["orchestrator-2"].kill())
    await restart(stack, stack.processes["orchestrator-2"])
    await restart(stack, stack.processes["orchestrator"])
    assert (await api.wait(job["job_id"]))["status"] == "completed"
    assert list(members(await api.download(job["job_id"])).values()) == [sha256(data)] * 3


async def test_a_killed_notifier_loses_nothing_that_a_client_cannot_get_again(api: ApiClient, stack: Stack) -> None:
    file_id = await api.upload("a.bin", noise(PIECE))
    job = await api.initiate(file_id)
    await stack.processes["notifier"].kill()
    await api.wait(job["job_id"])
    await restart(stack, stack.processes["notifier"])
    (last,) = await api.watch(job["websocket_url"])
    assert last["type"] == "completed"


@pytest.mark.parametrize("server", ["nats", "postgres", "valkey"])
async def test_a_server_that_crashes_and_comes_back_only_delays_a_job(
    api: ApiClient, infra: Infra | None, server: str
) -> None:
    if infra is None or server not in infra.names:
        pytest.skip(f"{server} is not ours to kill: its address was given")
    data = noise(PIECE)
    ids = [await api.upload(f"{n}.bin", data) for n in range(3)]
    job = await api.initiate(*ids)
    await api.wait_for_bytes(job["job_id"], 1)
    await infra.kill(server)
    await asyncio.sleep(1)
    await infra.start(server)
    assert (await api.wait(job["job_id"]))["status"] == "completed"
    assert list(members(await api.download(job["job_id"])).values()) == [sha256(data)] * 3


async def test_jobs_are_accepted_while_the_cache_is_away(api: ApiClient, infra: Infra | None) -> None:
    if infra is None or "valkey" not in infra.names:
        pytest.skip("valkey is not ours to stop: its address was given")
    file_id = await api.upload("a.txt", b"a")
    await infra.stop("valkey")
    try:
        answer = await api.http.post("/v1/download/initiate", json={"file_ids": [file_id]})
        assert answer.status_code == 202
        assert "warning" in answer.headers
        status = await api.wait(answer.json()["job_id"])
        assert status["status"] == "completed"
    finally:
        await infra.start("valkey")


async def test_services_end_in_time_when_they_are_told_to(stack: Stack, api: ApiClient) -> None:
    file_id = await api.upload("a.bin", noise(PIECE))
    job = await api.initiate(file_id)
    await stack.processes["archiver-1"].stop()
    await restart(stack, stack.processes["archiver-1"])
    assert (await api.wait(job["job_id"]))["status"] == "completed"
    async with httpx.AsyncClient(trust_env=False) as plain:
        assert (await plain.get(f"{stack.urls['archiver-1']}/health/live")).status_code == 200
