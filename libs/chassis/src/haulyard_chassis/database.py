"""PostgreSQL: the connection pool and the migrations.

Migrations are numbered ``.sql`` files that run once, in order, each in a transaction. They assume that the version
before them is still live: they add, and only a later release removes.
"""

import asyncio
import hashlib
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from haulyard_chassis.logs import get_logger
from haulyard_chassis.metrics import gauge
from haulyard_chassis.settings import ServiceSettings

log = get_logger(__name__)

if TYPE_CHECKING:  # the classes are generic only in their type stubs
    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
else:
    Pool = asyncpg.Pool
    Connection = asyncpg.Connection | PoolConnectionProxy

UNAVAILABLE: tuple[type[Exception], ...] = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what it thinks of a connection that was cut in the middle of a statement
)
"""What asyncpg raises when the database is away, as opposed to a statement that is wrong."""

_CONNECT_TIMEOUT = 5.0
_STATEMENT_TIMEOUT = 30.0
_FAREWELL = 2.0
"""Seconds that the end of the connections may take."""
_MIGRATION_LOCK = 0x6861756C  # "haul"
_RETRY = 1.0


_pools: list[Pool] = []
"""Those of this process that are open, for its metrics; a pool has no weak references."""

_CONNECTIONS = gauge(
    "postgres_connections", "Connections to PostgreSQL: in use, idle, and as many as may be.", ["state"]
)


def _open_pools() -> list[Pool]:
    _pools[:] = [pool for pool in _pools if not pool.is_closing()]
    return _pools


_CONNECTIONS.labels("used").set_function(lambda: sum(pool.get_size() - pool.get_idle_size() for pool in _open_pools()))
_CONNECTIONS.labels("idle").set_function(lambda: sum(pool.get_idle_size() for pool in _open_pools()))
_CONNECTIONS.labels("most").set_function(lambda: sum(pool.get_max_size() for pool in _open_pools()))


async def _leave_as_it_is(_: Connection) -> None:
    """Nothing of ours sets anything for a session, so there is nothing to reset: one round trip less each time."""


async def open_pool(settings: ServiceSettings, *, name: str, lazily: bool = False) -> Pool:
    """Open a pool of connections.

    Args:
        settings: where PostgreSQL is.
        name: how PostgreSQL lists the connections.
        lazily: connect when the pool is first used, for a service that can start without the database.
    """
    pool = await asyncpg.create_pool(
        settings.postgres_dsn.get_secret_value(),
        min_size=0 if lazily else 1,
        max_size=settings.postgres_pool,
        timeout=_CONNECT_TIMEOUT,
        command_timeout=_STATEMENT_TIMEOUT,
        server_settings={"application_name": name},
        reset=_leave_as_it_is,
    )
    _open_pools().append(pool)
    return pool


async def connect_database(settings: ServiceSettings, *, name: str) -> Pool:
    """Open a pool, waiting until PostgreSQL is there."""
    while True:
        try:
            return await open_pool(settings, name=name)
        except UNAVAILABLE as error:
            log.warning("database not there yet", error=repr(error))
            await asyncio.sleep(_RETRY)


async def close_pool(pool: Pool) -> None:
    """Close the connections, whether the database answers or not."""
    try:
        async with asyncio.timeout(_FAREWELL):
            await pool.close()
    except UNAVAILABLE as error:
        log.warning("database left without a farewell", error=repr(error))
        pool.terminate()


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    version: int
    name: str
    sql: str

    @property
    def digest(self) -> str:
        """SHA-256 of the text, to notice a file that was edited after it ran."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


class MigrationError(Exception):
    """The database was migrated with other files than ours."""


def migrations(folder: Traversable | None = None) -> list[Migration]:
    """Return the migrations in order.

    Raises:
        MigrationError: the numbers are not 1, 2, 3, …
    """
    folder = folder or resources.files("haulyard_chassis") / "migrations"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    found = [Migration(int(file.name.partition("_")[0]), file.name, file.read_text("utf-8")) for file in files]
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationError(f"migrations must be numbered 1, 2, 3, …: {[migration.name for migration in found]}")
    return found


async def migrate(pool: Pool) -> list[str]:
    """Bring the schema up to date and return the names of what ran; any number of replicas may call it at once.

    Raises:
        MigrationError: a migration that ran before has been edited since.
    """
    ran: list[str] = []
    async with pool.acquire() as connection:
        while True:
            # The lock is the transaction's, not the session's: behind a pooler (PgBouncer) the next statement outside
            # of it may run in another session. Polling, not waiting inside the server: no time limit cuts us off.
            async with connection.transaction():
                is_ours = await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _MIGRATION_LOCK)
                name = await _migrate_one(connection) if is_ours else None
            if name is not None:
                log.info("migrated", migration=name)
                ran.append(name)
            elif is_ours:
                return ran
            else:
                await asyncio.sleep(0.2)


async def _migrate_one(connection: Connection) -> str | None:
    """Run the first migration that has not run, and return its name; None if all have."""
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL,"
        " digest TEXT NOT NULL, applied_at TIMESTAMPTZ NOT NULL DEFAULT now())"
    )
    applied = {
        row["version"]: row["digest"] for row in await connection.fetch("SELECT version, digest FROM schema_migrations")
    }
    for migration in migrations():
        if migration.version not in applied:
            await connection.execute("SET LOCAL lock_timeout = '5s'")
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO schema_migrations (version, name, digest) VALUES ($1, $2, $3)",
                migration.version,
                migration.name,
                migration.digest,
            )
            return migration.name
        if applied[migration.version] != migration.digest:
            raise MigrationError(f"{migration.name} was edited after it ran; add a new migration instead")
    return None


async def schema_version(pool: Pool) -> int:
    """Return the number of the newest migration that ran; 0 for an empty database."""
    exists = await pool.fetchval("SELECT to_regclass('schema_migrations') IS NOT NULL")
    return int(await pool.fetchval("SELECT coalesce(max(version), 0) FROM schema_migrations")) if exists else 0
