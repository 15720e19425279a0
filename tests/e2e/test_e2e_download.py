import asyncio
import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from haulyard_devstack import Stack
from support.client import ApiClient, members, sha256

MIB = 1024 * 1024


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(f"{seed}:{size}").randbytes(size)


async def test_a_user_gets_the_files_as_one_zip(api: ApiClient, tmp_path: Path) -> None:
    contents = {
        "empty.txt": b"",
        "report (final) v2.pdf": noise(70_000),
        "写真/夏 1.jpg": noise(3 * MIB),
        "Übersicht/größe.bin": noise(40 * MIB),
        "tail.bin": noise(17),
    }
    ids = [await api.upload(name, data) for name, data in contents.items()]
    job = await api.initiate(*ids)
    assert job["status"] == "queued"
    assert job["total_files"] == 5
    messages = await api.watch(job["websocket_url"])
    assert messages[-1]["type"] == "completed"
    status = await api.status(job["job_id"])
    assert status["status"] == "completed"
    assert status["progress"]["percentage"] == 100
    assert [file["status"] for file in status["files"]] == ["completed"] * 5
    archive = await api.download(job["job_id"])
    assert members(archive) == {name: sha256(data) for name, data in contents.items()}
    if unzip := shutil.which("unzip"):
        path = tmp_path / "archive.zip"
        path.write_bytes(archive)
        await asyncio.to_thread(subprocess.run, [unzip, "-tq", str(path)], check=True)


async def test_the_answer_to_initiate_is_the_original_contracts(api: ApiClient) -> None:
    file_id = await api.upload("a.txt", b"a")
    answer = await api.http.post("/v1/download/initiate", json={"file_ids": [file_id]})
    body = answer.json()
    contract = {
        "job_id",
        "status",
        "created_at",
        "estimated_completion",
        "total_files",
        "websocket_url",
    }
    assert contract <= body.keys()
    assert answer.headers["location"].endswith(f"/v1/jobs/{body['job_id']}/status")
    assert body["websocket_url"].startswith("ws://")
    await api.wait(body["job_id"])


async def test_progress_comes_live_in_order_and_ends_with_a_link(api: ApiClient) -> None:
    ids = [await api.upload(f"{n}.bin", noise(20 * MIB, n)) for n in range(3)]
    job = await api.initiate(*ids)
    messages = await api.watch(job["websocket_url"])
    assert {message["job_id"] for message in messages} == {job["job_id"]}
    sequences = [message["sequence"] for message in messages]
    assert sequences == sorted(set(sequences))
    done = [message["progress"]["bytes_current"] for message in messages if message["type"] == "status_update"]
    assert done == sorted(done)
    assert [message["type"] for message in messages].count("completed") == 1
    archive = await api.plain.get(messages[-1]["download_url"])
    assert len(members(archive.content)) == 3


async def test_server_sent_events_resume_where_they_were_cut(api: ApiClient) -> None:
    file_id = await api.upload("a.bin", noise(25 * MIB))
    job = await api.initiate(file_id)
    first: dict[str, str] = {}
    async for event in api.server_sent_events(job["events_url"]):
        first = event
        break
    rest = [event async for event in api.server_sent_events(job["events_url"], last_event_id=first["id"])]
    ids = [int(event["id"]) for event in rest]
    assert all(number > int(first["id"]) for number in ids)
    assert rest[-1]["event"] == "completed"
    assert json.loads(rest[-1]["data"])["download_url"]


async def test_a_missing_file_is_named_and_the_others_are_delivered(api: ApiClient) -> None:
    file_id = await api.upload("here.txt", b"here")
    job = await api.initiate(file_id, 999_999_999)
    status = await api.wait(job["job_id"])
    assert status["status"] == "completed"
    assert [file["status"] for file in status["files"]] == ["completed", "failed"]
    assert status["files"][1]["error"]["code"] == "FILE_NOT_FOUND"
    found = members(await api.download(job["job_id"]))
    assert found["here.txt"] == sha256(b"here")
    assert "MISSING-FILES.txt" in found


async def test_a_job_of_missing_files_fails_and_says_so(api: ApiClient) -> None:
    job = await api.initiate(70001_000)
    messages = await api.watch(job["websocket_url"])
    assert messages[-1]["type"] == "error"
    assert messages[-1]["error"] == {"code": "PROCESSING_FAILED", "message": "File 70001000 not found"}
    refused = await api.http.get(f"/v1/jobs/{job['job_id']}/download")
    assert refused.status_code == 409
    assert refused.headers["content-type"] == "application/problem+json"


async def test_nobody_sees_another_users_job_or_files(api: ApiClient, stack: Stack) -> None:
    file_id = await api.upload("mine.txt", b"mine")
    job = await api.initiate(file_id)
    await api.wait(job["job_id"])
    async with ApiClient(stack.api_url, stack.token("somebody-else")) as other:
        for path in (f"/v1/jobs/{job['job_id']}/status", f"/v1/jobs/{job['job_id']}/download", f"/v1/files/{file_id}"):
            assert (await other.http.get(path)).status_code == 404
        theirs = await other.initiate(file_id)
        assert (await other.wait(theirs["job_id"]))["status"] == "failed"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"file_ids": [1, "two", 3]}, "#/file_ids/1"),
        ({"file_ids": []}, "#/file_ids"),
        ({"file_ids": list(range(1, 102))}, "#/file_ids"),
        ({"file_ids": [5, 5]}, "#/file_ids/1"),
        ({"file_ids": [1], "priority": 11}, "#/priority"),
        ({}, "#/file_ids"),
    ],
)
async def test_bad_input_is_told_where_it_is_bad(api: ApiClient, body: dict[str, Any], pointer: str) -> None:
    answer = await api.http.post("/v1/download/initiate", json=body)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == 400
    assert pointer in [error["pointer"] for error in problem["errors"]]


async def test_without_a_token_there_is_no_answer_but_401(api: ApiClient, stack: Stack) -> None:
    for method, path in (
        ("POST", "/v1/download/initiate"),
        ("GET", "/v1/jobs/job_x/status"),
        ("POST", "/v1/files"),
    ):
        answer = await api.plain.request(method, stack.api_url + path, json={})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_many_jobs_at_once_all_arrive(api: ApiClient) -> None:
    ids = [await api.upload(f"f{n}.bin", noise(100_000, n)) for n in range(10)]
    order = random.Random(1)

    async def one() -> None:
        chosen = order.sample(ids, 3)
        job = await api.initiate(*chosen, priority=order.randint(1, 10))
        assert (await api.wait(job["job_id"]))["status"] == "completed"
        assert len(members(await api.download(job["job_id"]))) == 3

    await asyncio.gather(*(one() for _ in range(30)))


@pytest.mark.parametrize("ends_well", [True, False])
async def test_a_webhook_is_told_of_the_end(api: ApiClient, ends_well: bool) -> None:  # noqa: FBT001
    told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def receive(request: web.Request) -> web.Response:
        await told.put(await request.json())
        return web.Response()

    application = web.Application()
    application.router.add_post("/hook", receive)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        file_id = await api.upload("a.txt", b"a") if ends_well else 888_888_888
        job = await api.initiate(file_id, webhook_url=f"http://{host}:{port}/hook")
        async with asyncio.timeout(30):
            body = await told.get()
    finally:
        await runner.cleanup()
    assert body["job_id"] == job["job_id"]
    if ends_well:
        assert body["status"] == "completed"
        assert members((await api.plain.get(body["download_url"])).content) == {"a.txt": sha256(b"a")}
    else:
        assert body["status"] == "failed"
        assert body["error"]["code"] == "PROCESSING_FAILED"
