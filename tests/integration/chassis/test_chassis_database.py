"""Migrations run once whoever starts them, and the database guards the state machine itself."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import product
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from haulyard_chassis import database
from haulyard_chassis.database import (
    Migration,
    MigrationError,
    Pool,
    connect_database,
    migrate,
    migrations,
    schema_version,
)
from haulyard_chassis.settings import ServiceSettings
from haulyard_contracts import JobStatus

NAMES = [migration.name for migration in migrations()]
LEGAL = {
    ("queued", "processing"),
    ("queued", "failed"),
    ("queued", "cancelled"),
    ("processing", "completed"),
    ("processing", "failed"),
    ("processing", "cancelled"),
    ("completed", "expired"),
    ("failed", "expired"),
    ("cancelled", "expired"),
}


@pytest.fixture
async def dsn(infra_env: dict[str, str]) -> str:
    """An empty database."""
    given, name = infra_env["HAULYARD_POSTGRES_DSN"], f"c{secrets.token_hex(6)}"
    connection = await asyncpg.connect(given)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    return urlunsplit(urlsplit(given)._replace(path=f"/{name}"))


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    """A pool on the empty database."""
    async with asyncpg.create_pool(dsn, min_size=1, max_size=3) as opened:
        yield opened


async def test_an_empty_database_is_migrated_once(pool: Pool) -> None:
    assert await schema_version(pool) == 0
    assert await migrate(pool) == NAMES
    assert await migrate(pool) == []
    assert await schema_version(pool) == len(NAMES)


async def test_replicas_that_start_together_migrate_once(dsn: str) -> None:
    async with AsyncExitStack() as stack:
        pools = [await stack.enter_async_context(asyncpg.create_pool(dsn, min_size=1, max_size=2)) for _ in range(3)]
        ran = await asyncio.gather(*(migrate(pool) for pool in pools))
    assert sorted(ran, key=len) == [[], [], NAMES]


async def test_an_edited_migration_is_an_error(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    await migrate(pool)
    edited = [Migration(one.version, one.name, one.sql + "\n-- edited") for one in migrations()]
    monkeypatch.setattr(database, "migrations", lambda: edited)
    with pytest.raises(MigrationError, match=NAMES[0]):
        await migrate(pool)
    monkeypatch.undo()
    assert await migrate(pool) == []


async def test_a_migration_that_fails_leaves_nothing_and_can_be_tried_again(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [*migrations(), Migration(len(NAMES) + 1, "9999_broken.sql", "CREATE TABLE half (id int); SELECT 1/0;")]
    monkeypatch.setattr(database, "migrations", lambda: broken)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(pool)
    assert await schema_version(pool) == len(NAMES)
    assert await pool.fetchval("SELECT to_regclass('half')") is None
    monkeypatch.undo()
    assert await migrate(pool) == []


async def test_a_newer_release_may_have_migrated_further(pool: Pool) -> None:
    await migrate(pool)
    await pool.execute("INSERT INTO schema_migrations (version, name, digest) VALUES (9999, 'later', 'x')")
    assert await migrate(pool) == []


async def insert_job(pool: Pool, status: str) -> str:
    job_id = f"job_{secrets.token_hex(8)}"
    await pool.execute(
        "INSERT INTO download_jobs (id, user_id, status, file_ids, total_files, filename, completed_at, error_code)"
        " VALUES ($1, 'alice', $2::varchar, '[1]', 1, 'a.zip',"
        " CASE WHEN $2::varchar IN ('queued', 'processing') THEN NULL ELSE now() END,"
        " CASE WHEN $2::varchar = 'failed' THEN 'INTERNAL' END)",
        job_id,
        status,
    )
    return job_id


async def test_only_legal_changes_of_status_are_possible(pool: Pool) -> None:
    await migrate(pool)
    for before, after in product([status.value for status in JobStatus], repeat=2):
        job_id = await insert_job(pool, before)
        change = pool.execute(
            "UPDATE download_jobs SET status = $2::varchar, error_code = coalesce(error_code, 'INTERNAL'),"
            " completed_at = CASE WHEN $2::varchar IN ('queued', 'processing') THEN NULL ELSE now() END WHERE id = $1",
            job_id,
            after,
        )
        if before == after or (before, after) in LEGAL:
            await change
        else:
            with pytest.raises(asyncpg.CheckViolationError, match=f"cannot go from {before} to {after}"):
                await change


@pytest.mark.parametrize(
    "change",
    [
        "completed_files = 2",
        "priority = 11",
        "status = 'lost'",
        "completed_at = now()",
        "status = 'failed', completed_at = now()",
    ],
)
async def test_an_impossible_job_is_refused(pool: Pool, change: str) -> None:
    await migrate(pool)
    job_id = await insert_job(pool, "queued")
    with pytest.raises(asyncpg.CheckViolationError):
        await pool.execute(f"UPDATE download_jobs SET {change} WHERE id = $1", job_id)


async def test_a_service_waits_for_the_database(settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked again until it is there."""
    monkeypatch.setattr(database, "_RETRY", 0.0)
    real: Any = asyncpg.create_pool
    tries: list[Any] = []

    async def create_pool(*args: Any, **more: Any) -> Any:
        tries.append(args)
        if len(tries) < 3:
            raise ConnectionRefusedError
        return await real(*args, **more)

    monkeypatch.setattr(asyncpg, "create_pool", create_pool)
    pool = await connect_database(settings, name="patient")
    assert len(tries) == 3
    assert await pool.fetchval("SELECT current_setting('application_name')") == "patient"
    await pool.close()
