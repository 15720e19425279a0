"""Archives that are downloaded while they are being built, from real processes, as browsers and curl do it."""

import asyncio
import random
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from haulyard_devstack import Stack
from support.client import ApiClient, members, sha256

MIB = 1024 * 1024
LARGE = 12 * MIB


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(f"{seed}:{size}").randbytes(size)


@pytest.fixture
async def three(api: ApiClient) -> dict[int, bytes]:
    """Three files of 12 MiB, of which the catalogue has learnt the checksums, by their ids."""
    contents = {await api.upload(f"{seed}.bin", data): data for seed in range(3) if (data := noise(LARGE, seed))}
    job = await api.initiate(*contents)
    assert (await api.wait(job["job_id"]))["status"] == "completed"
    return contents


def names_of(contents: dict[int, bytes], order: list[int]) -> dict[str, str]:
    seeds = {file_id: seed for seed, file_id in enumerate(contents)}
    return {f"{seeds[file_id]}.bin": sha256(contents[file_id]) for file_id in order}


async def begun(api: ApiClient, url: str, headers: dict[str, str] | None = None) -> httpx.Response:
    """Return the answer to a request for an archive when its first byte is there."""
    request = api.plain.build_request("GET", url, headers=headers)
    return await api.plain.send(request, stream=True)


async def test_a_download_begins_right_after_initiate_and_is_whole(
    api: ApiClient, stack: Stack, three: dict[int, bytes], tmp_path: Path
) -> None:
    order = sorted(three, reverse=True)  # another archive than the one that is there already
    with stack.paused("archiver"):
        job = await api.initiate(*order)
        initiated = time.monotonic()
        answer = await begun(api, job["archive_url"])
        data = bytearray()
        first = 0.0
        async for chunk in answer.aiter_raw():
            first = first or time.monotonic()
            data += chunk
        print(f"first byte {first - initiated:.3f} s after the answer to initiate")  # noqa: T201 - for whoever measures
        assert (await api.status(job["job_id"]))["status"] == "processing"
    assert answer.status_code == 200
    assert members(bytes(data)) == names_of(three, order)
    if unzip := shutil.which("unzip"):
        path = tmp_path / "archive.zip"
        path.write_bytes(data)
        await asyncio.to_thread(subprocess.run, [unzip, "-tq", str(path)], check=True)
    assert (await api.wait(job["job_id"]))["status"] == "completed"
    assert await api.download(job["job_id"]) == data
    again = await api.plain.get(job["archive_url"])
    assert again.status_code == 307
    assert (await api.plain.get(again.headers["location"])).content == data


async def test_a_browser_resumes_although_the_archive_is_built_meanwhile(
    api: ApiClient, stack: Stack, three: dict[int, bytes]
) -> None:
    ids = list(three)
    order = [ids[1], ids[0], ids[2]]
    got = bytearray()
    with stack.paused("archiver"):
        job = await api.initiate(*order)
        answer = await begun(api, job["archive_url"])
        size, etag = int(answer.headers["content-length"]), answer.headers["etag"]
        async for chunk in answer.aiter_raw():
            got += chunk
            if len(got) > LARGE + MIB:
                break
        await answer.aclose()
    assert (await api.wait(job["job_id"]))["status"] == "completed"
    # Chromium names what it has in If-Range, Firefox in If-Match.
    for condition in ("If-Range", "If-Match"):
        headers = {"Range": f"bytes={len(got)}-", condition: etag}
        rest = await api.plain.get(job["archive_url"], headers=headers)
        assert rest.status_code == 206
        assert rest.headers["content-range"] == f"bytes {len(got)}-{size - 1}/{size}"
        assert members(bytes(got) + rest.content) == names_of(three, order)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_resumes_while_it_is_built_and_after(
    api: ApiClient, stack: Stack, three: dict[int, bytes], tmp_path: Path
) -> None:
    ids = list(three)
    order = [ids[2], ids[0], ids[1]]
    path = tmp_path / "archive.zip"

    async def curl() -> int:
        command = ["curl", "-sSfL", "--noproxy", "*", "-C", "-", "-o", str(path), job["archive_url"]]
        return await asyncio.to_thread(lambda: subprocess.run(command, check=False, timeout=60).returncode)

    with stack.paused("archiver"):
        job = await api.initiate(*order)
        whole = (await api.plain.get(job["archive_url"])).content
        path.write_bytes(whole[: 5 * MIB])
        assert await curl() == 0
        assert path.read_bytes() == whole
    assert (await api.wait(job["job_id"]))["status"] == "completed"
    path.write_bytes(whole[: 20 * MIB])
    assert await curl() == 0
    assert path.read_bytes() == whole


async def test_small_files_that_nobody_has_read_yet(api: ApiClient, stack: Stack) -> None:
    contents = {f"{seed}.bin": noise(300_000, seed) for seed in range(10)}
    ids = [await api.upload(name, data) for name, data in contents.items()]
    with stack.paused("archiver"):
        job: dict[str, Any] = await api.initiate(*ids)
        answer = await api.plain.get(job["archive_url"])
    assert answer.status_code == 200
    assert members(answer.content) == {name: sha256(data) for name, data in contents.items()}
    await api.wait(job["job_id"])


async def test_without_ticket_or_token_there_is_nothing(api: ApiClient, stack: Stack) -> None:
    file_id = await api.upload("a.txt", b"a")
    job = await api.initiate(file_id)
    url = f"{stack.api_url}/v1/jobs/{job['job_id']}/archive"
    assert (await api.plain.get(url)).status_code == 401
    async with ApiClient(stack.api_url, stack.token("somebody-else")) as other:
        assert (await other.http.get(url)).status_code == 404
    await api.wait(job["job_id"])
    assert (await api.http.get(url)).status_code == 307
