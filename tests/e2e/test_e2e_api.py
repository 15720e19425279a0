"""What can be done with jobs and files over the API, with all services running."""

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import httpx
import pytest
from redis.asyncio import Redis

from haulyard_chassis.settings import ServiceSettings, load_settings
from haulyard_chassis.store import ObjectStore
from haulyard_devstack import Stack
from support.client import ApiClient, members, sha256

MIB = 1024 * 1024
OVER = ("completed", "failed", "cancelled", "expired")


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(f"{seed}:{size}").randbytes(size)


async def until(check: Callable[[], Awaitable[Any]], *, seconds: float = 60) -> Any:
    """Return what a check returns as soon as that is true: nobody outside is told when something is gone."""
    async with asyncio.timeout(seconds):
        while not (found := await check()):  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.1)
    return found


@pytest.fixture
async def store(running_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in running_env.items():
        monkeypatch.setenv(name, value)
    found = ObjectStore(load_settings(ServiceSettings))
    await found.open()
    yield found
    await found.close()


async def keys_of(store: ObjectStore, bucket: str) -> set[str]:
    return {found.key async for found in store.list_objects(bucket, prefix="")}


async def test_waiting_for_each_change_leads_to_the_end(api: ApiClient) -> None:
    ids = [await api.upload(f"{number}.bin", noise(20 * MIB, number)) for number in range(3)]
    job_id = (await api.initiate(*ids))["job_id"]
    sequences, status = [0], ""
    async with asyncio.timeout(120):
        while status not in OVER:
            answer = await api.http.get(f"/v1/jobs/{job_id}/status?wait=25&since={sequences[-1]}")
            assert answer.status_code == 200, answer.text
            status = answer.json()["status"]
            sequences.append(answer.json()["sequence"])
    assert status == "completed"
    assert sequences == sorted(set(sequences))
    etag = answer.headers["etag"]
    again = await api.http.get(f"/v1/jobs/{job_id}/status?wait=25", headers={"If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")
    transfer = answer.json()["transfer"]
    assert transfer["bytes_copied"] + transfer["bytes_through"] >= 60 * MIB


async def test_equal_requests_at_once_are_one_archive(api: ApiClient) -> None:
    file_id = await api.upload("a.txt", b"a")
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    answers = await asyncio.gather(
        *(api.http.post("/v1/download/initiate", json={"file_ids": [file_id]}, headers=headers) for _ in range(20))
    )
    assert {answer.status_code for answer in answers} == {202}
    [job_id] = {answer.json()["job_id"] for answer in answers}
    assert (await api.wait(job_id))["status"] == "completed"
    late = await api.http.post("/v1/download/initiate", json={"file_ids": [file_id]}, headers=headers)
    assert (late.status_code, late.json()["job_id"]) == (202, job_id)
    jobs = await until(lambda: listed(api))
    assert [job["job_id"] for job in jobs] == [job_id]


async def listed(api: ApiClient) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = (await api.http.get("/v1/jobs")).json()["jobs"]
    return jobs


async def test_a_cancelled_job_leaves_nothing(api: ApiClient, store: ObjectStore, running_env: dict[str, str]) -> None:
    bucket = running_env["HAULYARD_ARCHIVE_BUCKET"]
    data = noise(64 * MIB)
    ids = [await api.upload(f"{number}.bin", data[number:]) for number in range(4)]
    job_id = (await api.initiate(*ids, compression="deflate"))["job_id"]
    await until(lambda: is_processing(api, job_id))
    for _ in range(2):
        answer = await api.http.post(f"/v1/jobs/{job_id}/cancel")
        assert answer.status_code in (202, 409), answer.text
    status = await api.wait(job_id)
    if status["status"] == "completed":
        pytest.skip("the job was faster than the wish")
    assert status["status"] == "cancelled"
    assert (await api.http.get(f"/v1/jobs/{job_id}/download")).status_code == 409

    async def nothing_left() -> bool:
        uploads = [upload.key for upload in await store.pending_uploads(bucket)]
        return not any(job_id in key for key in [*uploads, *await keys_of(store, bucket)])

    await until(nothing_left)


async def is_processing(api: ApiClient, job_id: str) -> bool:
    return bool((await api.status(job_id))["status"] != "queued")


async def test_failed_files_are_done_again_once_they_are_there(api: ApiClient) -> None:
    here = await api.upload("here.txt", b"here")
    created = (await api.http.post("/v1/files", json={"name": "late.txt"})).json()
    job = await api.initiate(here, created["file_id"], filename="both.zip")
    status = await api.wait(job["job_id"])
    assert [file["status"] for file in status["files"]] == ["completed", "failed"]
    assert (await api.plain.put(created["upload"]["url"], content=b"late")).status_code == 200
    answer = await api.http.post(f"/v1/jobs/{job['job_id']}/retry")
    assert answer.status_code == 202, answer.text
    again = await api.wait(answer.json()["job_id"])
    assert (again["status"], again["retry_of"], again["filename"]) == ("completed", job["job_id"], "both.zip")
    assert members(await api.download(again["job_id"])) == {"late.txt": sha256(b"late")}
    nothing = await api.http.post(f"/v1/jobs/{again['job_id']}/retry")
    assert nothing.json()["type"] == "/problems/nothing-to-retry"


async def test_a_missing_file_fails_a_job_that_is_to_be_complete(api: ApiClient) -> None:
    here = await api.upload("here.txt", b"here")
    job = await api.initiate(here, 999_999_999, on_missing="fail")
    assert (await api.wait(job["job_id"]))["status"] == "failed"


async def test_a_deleted_job_is_forgotten(api: ApiClient, store: ObjectStore, running_env: dict[str, str]) -> None:
    bucket = running_env["HAULYARD_ARCHIVE_BUCKET"]
    file_id = await api.upload("a.bin", noise(100_000, secrets.randbits(32)))
    job_id = (await api.initiate(file_id))["job_id"]
    await api.wait(job_id)
    link = (await api.http.get(f"/v1/jobs/{job_id}/download")).json()["download_url"]
    assert (await api.plain.get(link)).status_code == 200
    assert (await api.http.delete(f"/v1/jobs/{job_id}")).status_code == 202
    assert (await api.http.get(f"/v1/jobs/{job_id}/status")).status_code == 404
    assert await listed(api) == []

    async def is_gone() -> bool:
        return (await api.plain.get(link)).status_code == 404

    await until(is_gone)
    assert not any(job_id in key for key in await keys_of(store, bucket))
    database = await asyncpg.connect(running_env["HAULYARD_POSTGRES_DSN"])
    try:
        await until(lambda: no_row(database, job_id))
    finally:
        await database.close()
    assert (await api.http.get(f"/v1/jobs/{job_id}/status")).status_code == 404


async def no_row(database: Any, job_id: str) -> bool:
    return bool(await database.fetchval("SELECT count(*) FROM download_jobs WHERE id = $1", job_id) == 0)


async def test_start_gives_the_archive_itself(api: ApiClient) -> None:
    file_id = await api.upload("a.txt", b"hello")
    checked = (await api.http.post("/v1/download/check", json={"file_id": file_id})).json()
    assert (checked["available"], checked["size_bytes"]) == (True, 5)
    answer = await api.http.post("/v1/download/start", json={"file_id": file_id})
    assert answer.status_code == 200, answer.text
    assert answer.headers["deprecation"].startswith("@")
    archive = await api.plain.get(answer.json()["download_url"])
    assert members(archive.content) == {"a.txt": sha256(b"hello")}


async def test_a_job_takes_the_files_that_a_list_added(api: ApiClient) -> None:
    wanted = [{"name": f"folder/{number}.txt"} for number in range(20)]
    files = (await api.http.post("/v1/files", json={"files": wanted})).json()["files"]
    await asyncio.gather(*(api.plain.put(file["upload"]["url"], content=file["name"].encode()) for file in files))
    job = await api.initiate(*(file["file_id"] for file in files), compression="deflate")
    assert (await api.wait(job["job_id"]))["status"] == "completed"
    found = members(await api.download(job["job_id"]))
    assert found == {file["name"]: sha256(file["name"].encode()) for file in files}


# Being forgotten


async def traces(value: str, *, environment: dict[str, str], stack: Stack) -> list[str]:
    """Return where a text is found: in every table, every key and value of the cache, and the names of all objects."""
    found = []
    database = await asyncpg.connect(environment["HAULYARD_POSTGRES_DSN"])
    try:
        tables = await database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        for (table,) in tables:
            rows = await database.fetchval(
                f"SELECT count(*) FROM {table} AS one WHERE to_jsonb(one)::text LIKE '%' || $1 || '%'",
                value,
            )
            found += [f"table {table}"] * bool(rows)
    finally:
        await database.close()
    async with Redis.from_url(environment["HAULYARD_REDIS_URL"]) as redis:
        async for key in redis.scan_iter(count=1000):
            held = await redis.dump(key) or b""
            if value.encode() in key + held:
                found.append(f"cache {key.decode()}")
    return found


async def test_nothing_is_found_of_a_user_who_was_forgotten(
    stack: Stack, store: ObjectStore, running_env: dict[str, str]
) -> None:
    name = f"erika-{secrets.token_hex(6)}"
    async with (
        ApiClient(stack.api_url, stack.token(name)) as api,
        ApiClient(stack.api_url, stack.token("stays")) as other,
    ):
        secret_name = f"diary-{secrets.token_hex(6)}.txt"
        file_id = await api.upload(secret_name, b"dear diary")
        shared = await other.upload("shared.txt", b"not hers")
        jobs = [await api.initiate(file_id), await api.initiate(file_id, 999_999_999)]
        for job in jobs:
            await api.wait(job["job_id"])
        link = (await api.http.get(f"/v1/jobs/{jobs[0]['job_id']}/download")).json()["download_url"]
        export = (await api.http.get("/v1/users/me/data")).json()
        assert {job["id"] for job in export["jobs"]} == {job["job_id"] for job in jobs}
        assert [file["name"] for file in export["files"]] == [secret_name]
        assert await traces(name, environment=running_env, stack=stack) != []

        answer = await api.http.delete("/v1/users/me/data")
        assert answer.status_code == 202, answer.text

        async def is_done() -> bool:
            receipt = (await api.http.get(answer.json()["status_url"])).json()
            return bool(receipt["status"] == "completed")

        await until(is_done)
        receipt = (await api.http.get(answer.json()["status_url"])).json()
        assert (receipt["counts"]["jobs"], receipt["counts"]["files"]) == (2, 1)

        assert (await api.plain.get(link)).status_code in (403, 404)
        assert all(items == [] for items in (await api.http.get("/v1/users/me/data")).json().values())
        for job in jobs:
            assert (await api.http.get(f"/v1/jobs/{job['job_id']}/status")).status_code == 404
        assert (await api.http.get(f"/v1/files/{file_id}")).status_code == 404
        assert (await other.http.get(f"/v1/files/{shared}")).status_code == 200
    for text in (name, secret_name, *(job["job_id"] for job in jobs)):
        left = await traces(text, environment=running_env, stack=stack)
        # Tombstones say that a job is gone, and nothing of whose it was: its request must not bring it back.
        tombstones = ("cache job:job_", "table deleted_jobs")
        assert [place for place in left if not place.startswith(tombstones)] == [], text
    assert await traces(name, environment=running_env, stack=stack) == []
    for bucket in (running_env["HAULYARD_ARCHIVE_BUCKET"], running_env["HAULYARD_FILES_BUCKET"]):
        assert not any(job["job_id"] in key for key in await keys_of(store, bucket) for job in jobs)


async def test_without_a_token_nothing_is_told(stack: Stack) -> None:
    async with httpx.AsyncClient(base_url=stack.api_url, trust_env=False) as stranger:
        for method, path in (("GET", "/v1/jobs"), ("GET", "/v1/users/me/data"), ("DELETE", "/v1/users/me/data")):
            assert (await stranger.request(method, path)).status_code == 401
