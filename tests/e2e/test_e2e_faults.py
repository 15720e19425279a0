"""Our own processes die in the middle of real jobs; the jobs are only late.

What happens when a server goes away, or a service is told to stop, is in ``test_e2e_outages*.py``.
"""

import asyncio
import hashlib
import random
import tempfile
import zipfile

import pytest

from haulyard_devstack import Stack
from support.client import ApiClient, members, sha256
from support.services import restart

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]

MIB = 1024 * 1024
PIECE = 64 * MIB


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(f"{seed}:{size}").randbytes(size)


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
