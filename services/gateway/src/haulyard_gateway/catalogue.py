"""The SQL of the ``files`` table, and nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from haulyard_chassis.database import UNAVAILABLE, Connection, Pool
from haulyard_chassis.store import ObjectInfo
from haulyard_gateway.errors import CatalogueUnavailableError
from haulyard_gateway.ports import CatalogueFile

_ACQUIRE_TIMEOUT = 5.0
_STATEMENT_TIMEOUT = 5.0

_COLUMNS = "id, bucket, key, name, created_at, size_bytes, etag, crc32, crc32_etag"

_ADD = f"""
INSERT INTO files (owner_id, bucket, key, name, size_bytes, etag, crc32, crc32_etag)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
RETURNING {_COLUMNS}
"""  # noqa: S608 - only our own column names are put in

# A file without an owner is everybody's.
_GET = f"""
SELECT {_COLUMNS} FROM files WHERE id = $1 AND (owner_id = $2 OR owner_id IS NULL)
"""  # noqa: S608

# Whoever saw the object first has written the same; a row that is complete is left as it is.
_COMPLETE = f"""
WITH completed AS (
    UPDATE files SET size_bytes = $2, etag = $3, crc32 = $4, crc32_etag = $5
    WHERE id = $1 AND size_bytes IS NULL
    RETURNING {_COLUMNS}
)
SELECT {_COLUMNS} FROM completed
UNION ALL
SELECT {_COLUMNS} FROM files WHERE id = $1 AND size_bytes IS NOT NULL
"""  # noqa: S608


class Catalogue:
    """The catalogue of files."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(self, *, owner_id: str, bucket: str, key: str, name: str, found: ObjectInfo | None) -> CatalogueFile:
        """Add a file, of an object that is there, or of one that is yet to be uploaded.

        Raises:
            CatalogueUnavailableError
        """
        async with self._connection() as connection:
            row = await connection.fetchrow(
                _ADD, owner_id, bucket, key, name, *_facts(found), timeout=_STATEMENT_TIMEOUT
            )
        assert row is not None  # noqa: S101 - an INSERT … RETURNING that does not raise returns its row
        return _file(row)

    async def get(self, file_id: int, *, user_id: str) -> CatalogueFile | None:
        """Return a file that is the user's own or everybody's.

        Raises:
            CatalogueUnavailableError
        """
        async with self._connection() as connection:
            row = await connection.fetchrow(_GET, file_id, user_id, timeout=_STATEMENT_TIMEOUT)
        return _file(row) if row else None

    async def complete(self, file_id: int, found: ObjectInfo) -> CatalogueFile | None:
        """Note that an uploaded object has arrived; None if the file is gone.

        Raises:
            CatalogueUnavailableError
        """
        async with self._connection() as connection:
            row = await connection.fetchrow(_COMPLETE, file_id, *_facts(found), timeout=_STATEMENT_TIMEOUT)
        return _file(row) if row else None

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            async with self._pool.acquire(timeout=_ACQUIRE_TIMEOUT) as connection:
                yield connection
        except UNAVAILABLE as error:
            raise CatalogueUnavailableError(repr(error)) from error


def _facts(found: ObjectInfo | None) -> tuple[int | None, str | None, int | None, str | None]:
    if found is None:
        return (None, None, None, None)
    return (found.size, found.etag, found.crc32, None if found.crc32 is None else found.etag)


def _file(row: asyncpg.Record) -> CatalogueFile:
    return CatalogueFile(
        file_id=row["id"],
        bucket=row["bucket"],
        key=row["key"],
        name=row["name"],
        created_at=row["created_at"],
        size_bytes=row["size_bytes"],
        etag=row["etag"],
        crc32=row["crc32"] if row["crc32_etag"] == row["etag"] else None,
    )
