"""Lists, exports and deletions on a real PostgreSQL, with more rows than anybody has."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec
import pytest
from redis.asyncio import Redis

from haulyard_chassis.identity import mint_token
from haulyard_chassis.job_state import JobCache, load_document
from haulyard_chassis.store import ObjectNotFoundError, ObjectStore
from haulyard_gateway.catalogue import LIST
from haulyard_gateway.job_records import PAGE

if TYPE_CHECKING:
    import httpx

    from haulyard_gateway.settings import GatewaySettings

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="session")
async def database(gateway: httpx.AsyncClient, infra_env: dict[str, str]) -> AsyncIterator[Any]:
    """A connection to the record, once the gateway has migrated it."""
    connection = await asyncpg.connect(infra_env["HAULYARD_POSTGRES_DSN"])
    yield connection
    await connection.close()


@pytest.fixture
def user() -> str:
    return f"user-{secrets.token_hex(6)}"


@pytest.fixture
def as_user(settings: GatewaySettings, user: str) -> dict[str, str]:
    assert settings.jwt_secret is not None
    return {"Authorization": f"Bearer {mint_token(settings.jwt_secret.get_secret_value(), user)}"}


def job_id(number: int) -> str:
    return f"job_01KC8ZB0J0{secrets.token_hex(4).upper()}{number:08d}"


async def add_jobs(
    database: Any, user: str, count: int, *, start: datetime = NOW, status: str = "processing"
) -> list[str]:
    """Record jobs a second apart, the newest last."""
    ids = [job_id(number) for number in range(count)]
    await database.executemany(
        "INSERT INTO download_jobs (id, user_id, status, file_ids, total_files, filename, created_at, webhook_url)"
        " VALUES ($1, $2, $3, '[1, 2]', 2, 'a.zip', $4, 'https://example.com/secret-hook')",
        [(ids[number], user, status, start + timedelta(seconds=number)) for number in range(count)],
    )
    await database.executemany(
        "INSERT INTO download_job_files (job_id, file_id, position) VALUES ($1, $2, $3)",
        [(one, file_id, file_id - 1) for one in ids for file_id in (1, 2)],
    )
    return ids


async def pages(client: httpx.AsyncClient, path: str, headers: dict[str, str], items: str) -> AsyncIterator[list[Any]]:
    """Follow ``next_cursor`` to the end."""
    cursor: str | None = ""
    while cursor is not None:
        separator = "&" if "?" in path else "?"
        answer = await client.get(f"{path}{separator}cursor={cursor}" if cursor else path, headers=headers)
        assert answer.status_code == 200, answer.text
        yield answer.json()[items]
        cursor = answer.json()["next_cursor"]


async def test_pages_of_jobs_stay_right_when_jobs_are_added(
    gateway: httpx.AsyncClient, database: Any, user: str, as_user: dict[str, str]
) -> None:
    ids = await add_jobs(database, user, 25)
    await add_jobs(database, f"{user}-other", 5)
    seen: list[str] = []
    async for page in pages(gateway, "/v1/jobs?limit=10", as_user, "jobs"):
        seen += [job["job_id"] for job in page]
        await add_jobs(database, user, 3, start=NOW + timedelta(hours=len(seen)))
    assert seen == ids[::-1]


async def test_jobs_of_one_moment_are_all_listed(
    gateway: httpx.AsyncClient, database: Any, user: str, as_user: dict[str, str]
) -> None:
    ids = await add_jobs(database, user, 7)
    await database.execute("UPDATE download_jobs SET created_at = $2 WHERE user_id = $1", user, NOW)
    seen = [job["job_id"] async for page in pages(gateway, "/v1/jobs?limit=2", as_user, "jobs") for job in page]
    assert seen == sorted(ids, reverse=True)


async def test_jobs_are_filtered(gateway: httpx.AsyncClient, database: Any, user: str, as_user: dict[str, str]) -> None:
    ids = await add_jobs(database, user, 6)
    await database.execute(
        "UPDATE download_jobs SET status = 'failed', error_code = 'JOB_TIMEOUT', completed_at = now() WHERE id = $1",
        ids[3],
    )
    at = (NOW + timedelta(seconds=3)).isoformat().replace("+00:00", "Z")
    for query, expected in (
        ("status=failed", [3]),
        (f"created_after={at}", [5, 4, 3]),
        (f"created_before={at}", [2, 1, 0]),
        (f"created_before={at}&created_after={at}", []),
        (f"created_after={at}&status=processing&limit=1", [5]),
    ):
        body = (await gateway.get(f"/v1/jobs?{query}", headers=as_user)).json()
        assert [ids.index(job["job_id"]) for job in body["jobs"]] == expected, query
    [failed] = (await gateway.get("/v1/jobs?status=failed", headers=as_user)).json()["jobs"]
    assert failed["error"]["code"] == "JOB_TIMEOUT"


async def explained(database: Any, query: str, *values: Any) -> str:
    """Return how PostgreSQL goes about a query."""
    plan = await database.fetchval(f"EXPLAIN (FORMAT JSON) {query}", *values)
    return json.dumps(json.loads(plan))


async def test_lists_walk_along_an_index(database: Any, user: str) -> None:
    for number in range(20):
        await add_jobs(database, f"{user}-{number}", 100)
    await database.execute(
        "INSERT INTO files (owner_id, bucket, key, name) SELECT $1 || (n % 500)::text, 'b', 'k', 'n'"
        " FROM generate_series(1, 10000) n",
        user,
    )
    await database.execute("ANALYZE download_jobs, files")
    plan = await explained(database, PAGE, f"{user}-1", NOW, "", NOW - timedelta(days=1), 21)
    assert "download_jobs_of_user" in plan
    assert '"Sort"' not in plan
    assert "Seq Scan" not in plan
    plan = await explained(database, LIST, f"{user}1", 2**62, None, None, 21)
    assert plan.count("files_owner") == 2
    assert "Seq Scan" not in plan


async def test_a_deleted_job_is_in_no_list_and_no_late_state_brings_it_back(
    gateway: httpx.AsyncClient, database: Any, user: str, as_user: dict[str, str], settings: GatewaySettings
) -> None:
    ids = await add_jobs(database, user, 3)
    path = f"/v1/jobs/{ids[1]}"
    assert (await gateway.get(f"{path}/status", headers=as_user)).status_code == 200
    assert (await gateway.delete(path, headers=as_user)).status_code == 202
    assert (await gateway.get(f"{path}/status", headers=as_user)).status_code == 404
    assert (await gateway.delete(path, headers=as_user)).status_code == 404
    async with Redis.from_url(settings.redis_url.get_secret_value()) as redis:
        cache, late = JobCache(redis), await load_document(database, ids[1])
        assert late is not None
        await cache.put(msgspec.structs.replace(late, sequence=late.sequence + 5))
        assert user not in repr(await redis.hgetall(f"job:{ids[1]}"))
    assert (await gateway.get(f"{path}/status", headers=as_user)).status_code == 404
    left = (await gateway.get("/v1/jobs", headers=as_user)).json()["jobs"]
    assert [job["job_id"] for job in left] == [ids[2], ids[0]]


async def test_a_retry_keeps_the_webhook(
    gateway: httpx.AsyncClient, database: Any, user: str, as_user: dict[str, str]
) -> None:
    [one] = await add_jobs(database, user, 1)
    assert (await gateway.post(f"/v1/jobs/{one}/retry", headers=as_user)).status_code == 409
    await database.execute(
        "UPDATE download_jobs SET status = 'cancelled', completed_at = now(), sequence = 9 WHERE id = $1", one
    )
    answer = await gateway.post(f"/v1/jobs/{one}/retry", headers=as_user)
    assert answer.status_code == 202, answer.text
    status = (await gateway.get(f"/v1/jobs/{answer.json()['job_id']}/status", headers=as_user)).json()
    assert (status["retry_of"], [file["file_id"] for file in status["files"]]) == (one, [1, 2])


# Files


async def test_many_files_are_added_in_their_order_or_not_at_all(
    gateway: httpx.AsyncClient, database: Any, user: str, as_user: dict[str, str]
) -> None:
    wanted = [{"name": f"{number:03d}.bin"} for number in range(300)]
    answer = await gateway.post("/v1/files", json={"files": wanted}, headers=as_user)
    assert answer.status_code == 201, answer.text
    files = answer.json()["files"]
    assert [file["name"] for file in files] == [one["name"] for one in wanted]
    ids = [file["file_id"] for file in files]
    assert ids == sorted(set(ids))
    assert all(file["upload"]["url"] for file in files)
    refused = await gateway.post("/v1/files", json={"files": [*wanted, {"source": "s3://none/x"}]}, headers=as_user)
    assert refused.status_code == 400
    assert await database.fetchval("SELECT count(*) FROM files WHERE owner_id = $1", user) == 300


async def test_files_are_listed_and_filtered(
    gateway: httpx.AsyncClient, database: Any, user: str, as_user: dict[str, str]
) -> None:
    prefix = secrets.token_hex(4)
    names = [f"{prefix}/Report {number}.pdf" for number in range(5)] + [f"{prefix}/100%_sure.txt"]
    await gateway.post("/v1/files", json={"files": [{"name": name} for name in names]}, headers=as_user)
    await database.execute("INSERT INTO files (bucket, key, name) VALUES ('b', 'k', $1)", f"{prefix}/shared report")
    await database.execute(
        "INSERT INTO files (owner_id, bucket, key, name) VALUES ('bob', 'b', 'k', $1)", f"{prefix}/bobs report"
    )
    path = f"/v1/files?limit=2&prefix={prefix}"
    seen = [file["name"] async for page in pages(gateway, path, as_user, "files") for file in page]
    assert seen == [f"{prefix}/shared report", *names[::-1]]
    for query, expected in (("name=REPORT", 6), ("name=%25_", 1), ("name=nothing", 0), ("name=report 3", 1)):
        found = (await gateway.get(f"/v1/files?prefix={prefix}&{query}", headers=as_user)).json()["files"]
        assert len(found) == expected, query


async def test_a_source_at_an_origin_is_in_the_catalogue(
    settings: GatewaySettings, serving: Any, as_user: dict[str, str]
) -> None:
    async with serving(settings.model_copy(update={"source_hosts": ("origin.example.com",)})) as client:
        url = "https://origin.example.com/a/b%20c.bin?version=3"
        answer = await client.post("/v1/files", json={"source": url}, headers=as_user)
        assert answer.status_code == 201, answer.text
        file = (await client.get(f"/v1/files/{answer.json()['file_id']}", headers=as_user)).json()
        assert (file["source"], file["name"], file["status"]) == (url, "b c.bin", "available")
        check = await client.post("/v1/download/check", json={"file_id": file["file_id"]}, headers=as_user)
        assert check.json()["available"] is True


async def test_a_deleted_upload_is_gone_from_the_store(
    gateway: httpx.AsyncClient, settings: GatewaySettings, as_user: dict[str, str]
) -> None:
    created = (await gateway.post("/v1/files", json={"name": "a"}, headers=as_user)).json()
    bucket, _, key = created["source"].removeprefix("s3://").partition("/")
    store = ObjectStore(settings)
    await store.open()
    try:
        await store.ensure_bucket(bucket)
        await store.put(bucket, key, b"x", size=1, content_type="text/plain")
        path = f"/v1/files/{created['file_id']}"
        assert (await gateway.get(path, headers=as_user)).json()["status"] == "available"
        assert (await gateway.delete(path, headers=as_user)).status_code == 204
        assert (await gateway.get(path, headers=as_user)).status_code == 404
        with pytest.raises(ObjectNotFoundError):
            await store.head(bucket, key)
    finally:
        await store.close()


# Personal data


async def test_an_export_has_all_of_a_user_and_nothing_of_others(
    gateway: httpx.AsyncClient, database: Any, user: str, as_user: dict[str, str]
) -> None:
    ids = await add_jobs(database, user, 3)
    others = await add_jobs(database, f"{user}-other", 2)
    await gateway.post("/v1/files", json={"files": [{"name": f"f{n}"} for n in range(700)]}, headers=as_user)
    await database.executemany(
        "INSERT INTO webhook_deliveries (id, job_id, url, event_type, payload)"
        " VALUES ($1, $2, 'https://h', 'failed', '{}')",
        [(f"{one}:1", one) for one in (*ids, *others)],
    )
    answer = await gateway.get("/v1/users/me/data", headers=as_user)
    assert answer.status_code == 200
    data = answer.json()
    assert [job["id"] for job in data["jobs"]] == sorted(ids)
    assert data["jobs"][0]["webhook_url"] == "https://example.com/secret-hook"
    assert [file["file_id"] for file in data["jobs"][0]["files"]] == [1, 2]
    assert "upload_id" not in data["jobs"][0]
    assert len({file["id"] for file in data["files"]}) == 700
    assert {file["owner_id"] for file in data["files"]} == {user}
    assert sorted(delivery["job_id"] for delivery in data["deliveries"]) == sorted(ids)


async def test_nothing_is_nothing(gateway: httpx.AsyncClient, as_user: dict[str, str]) -> None:
    data = (await gateway.get("/v1/users/me/data", headers=as_user)).json()
    assert all(items == [] for items in data.values())


async def test_a_receipt_says_nothing_of_whom_it_is(
    gateway: httpx.AsyncClient, database: Any, user: str, as_user: dict[str, str]
) -> None:
    receipt = (await gateway.delete("/v1/users/me/data", headers=as_user)).json()
    row = await database.fetchrow("SELECT * FROM erasures WHERE id = $1", receipt["erasure_id"])
    assert row is not None
    assert user not in repr(dict(row))
    path = f"/v1/users/me/data/erasures/{receipt['erasure_id']}"
    assert (await gateway.get(path, headers=as_user)).json()["status"] == "pending"
    assert (await gateway.get(path)).status_code == 404
    await database.execute(
        """UPDATE erasures SET completed_at = now(), counts = '{"jobs": 3}' WHERE id = $1""", receipt["erasure_id"]
    )
    done = (await gateway.get(path, headers=as_user)).json()
    assert (done["status"], done["counts"]) == ("completed", {"jobs": 3})


async def test_many_exports_at_once_are_bounded(gateway: httpx.AsyncClient, as_user: dict[str, str]) -> None:
    answers = await asyncio.gather(*(gateway.get("/v1/users/me/data", headers=as_user) for _ in range(30)))
    assert {answer.status_code for answer in answers} == {200}
