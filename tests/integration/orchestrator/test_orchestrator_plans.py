"""How PostgreSQL goes about the statements that run for each job or every few seconds, with many jobs in its tables.

`make growth` does the same with more of them, and shows the figures.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from haulyard_chassis.database import Connection, migrate
from support.explained import Executed, explaining
from support.full_record import LARGE_TABLES, Filled, add_jobs
from support.hot_statements import HOT, Hot, On
from support.installation import make_database

FILLED = Filled(finished=20_000, running=2_000)


@pytest.fixture(scope="module")
async def full(addresses: dict[str, str]) -> AsyncIterator[Connection]:
    """A connection to a record of its own that is full of jobs."""
    dsn = await make_database(addresses["HAULYARD_POSTGRES_DSN"], f"plans{secrets.token_hex(4)}")
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        await migrate(pool)
    connection = await asyncpg.connect(dsn)
    try:
        await add_jobs(connection, Filled(0, 0), FILLED)
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def undone(connection: Connection) -> AsyncIterator[None]:
    """Let nothing remain of what is done inside."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


async def executed(connection: Connection, hot: Hot) -> list[Executed]:
    """Return what a hot statement does, its triggers and checks included."""
    async with explaining(connection) as explainer:
        async with undone(connection):
            await hot.run(On(connection, FILLED))
        return await explainer.take()


# asyncpg prepares statements: after five times PostgreSQL may take one plan for all parameters.
@pytest.mark.parametrize("plans", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("hot", HOT, ids=[hot.name for hot in HOT])
async def test_a_hot_statement_looks_only_at_what_it_is_about(full: Connection, hot: Hot, plans: str) -> None:
    await full.execute(f"SET plan_cache_mode = {plans}")
    ran = await executed(full, hot)
    assert ran
    scans = [scan for each in ran for scan in each.scans() if scan.table in LARGE_TABLES]
    assert not [scan for scan in scans if scan.index is None], "a table is read from end to end"
    assert not [scan for scan in scans if scan.rows > hot.rows], "rows are looked at that are nobody's business"


async def test_a_statement_that_reads_everything_is_noticed(full: Connection) -> None:
    async def count(on: On) -> object:
        return await on.connection.fetchval("SELECT count(*) FROM download_jobs WHERE priority < 9")

    (ran,) = await executed(full, Hot("count", 1, count))
    (scan,) = ran.scans()
    assert (scan.table, scan.index, scan.rows) == ("download_jobs", None, FILLED.finished + FILLED.running)
