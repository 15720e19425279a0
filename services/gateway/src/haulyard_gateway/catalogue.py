"""The SQL of the ``files`` table, and nothing else."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg

from haulyard_chassis.database import UNAVAILABLE, Connection, Pool
from haulyard_chassis.store import ObjectInfo
from haulyard_gateway.errors import CatalogueUnavailableError
from haulyard_gateway.file_validation import ObjectAt, OriginAt
from haulyard_gateway.ports import AddedFile, CatalogueFile
from haulyard_gateway.queries import FilesWanted

_ACQUIRE_TIMEOUT = 5.0
_STATEMENT_TIMEOUT = 5.0

_COLUMNS = "id, owner_id, bucket, key, url, name, created_at, size_bytes, etag, crc32, crc32_etag"

# In the order in which they were asked for: ids are given out in it, and the answer has it.
_ADD = f"""
INSERT INTO files (owner_id, bucket, key, url, name, size_bytes, etag, crc32, crc32_etag, modified_at)
SELECT $1, bucket, key, url, name, size_bytes, etag, crc32, crc32_etag, modified_at
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::bigint[], $9::text[],
            $10::timestamptz[])
     WITH ORDINALITY AS new (bucket, key, url, name, size_bytes, etag, crc32, crc32_etag, modified_at, position)
ORDER BY position
RETURNING {_COLUMNS}
"""  # noqa: S608 - only our own column names are put in

# A file without an owner is everybody's.
_GET = f"""
SELECT {_COLUMNS} FROM files WHERE id = $1 AND (owner_id = $2 OR owner_id IS NULL)
"""  # noqa: S608

# Two walks along the index (owner_id, id), each no longer than the page, instead of one over all files.
_PART = f"""
(SELECT {_COLUMNS} FROM files
 WHERE %s AND id < $2 AND ($3::text IS NULL OR strpos(lower(name), lower($3)) > 0)
   AND ($4::text IS NULL OR starts_with(name, $4))
 ORDER BY id DESC LIMIT $5)
"""  # noqa: S608
LIST = f"{_PART % 'owner_id = $1'} UNION ALL {_PART % 'owner_id IS NULL'} ORDER BY id DESC LIMIT $5"

# Whoever saw the object first has written the same; a row that is complete is left as it is.
_COMPLETE = f"""
WITH completed AS (
    UPDATE files SET size_bytes = $2, etag = $3, crc32 = $4, crc32_etag = $5, modified_at = $6
    WHERE id = $1 AND size_bytes IS NULL
    RETURNING {_COLUMNS}
)
SELECT {_COLUMNS} FROM completed
UNION ALL
SELECT {_COLUMNS} FROM files WHERE id = $1 AND size_bytes IS NOT NULL
"""  # noqa: S608

_IS_USED_ELSEWHERE = """
SELECT EXISTS (SELECT FROM files WHERE owner_id = $1 AND bucket = $2 AND key = $3 AND id <> $4)
"""

_DELETE = "DELETE FROM files WHERE id = $1 AND owner_id = $2"

_BEYOND = 2**63 - 1
"""An id that no file has."""


class Catalogue:
    """The catalogue of files. Every method raises `CatalogueUnavailableError` when the database is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(self, owner_id: str, files: Sequence[AddedFile]) -> list[CatalogueFile]:
        """Add files, all or none, and return them in the same order."""
        columns = zip(*(_values(file) for file in files), strict=True)
        async with self._connection() as connection:
            rows = await connection.fetch(_ADD, owner_id, *map(list, columns), timeout=_STATEMENT_TIMEOUT)
        return sorted(map(_file, rows), key=lambda file: file.file_id)

    async def get(self, file_id: int, *, user_id: str) -> CatalogueFile | None:
        """Return a file that is the user's own or everybody's."""
        async with self._connection() as connection:
            row = await connection.fetchrow(_GET, file_id, user_id, timeout=_STATEMENT_TIMEOUT)
        return _file(row) if row else None

    async def page(self, user_id: str, wanted: FilesWanted) -> list[CatalogueFile]:
        """Return one file more than the page has, if there are more."""
        before = _BEYOND if wanted.before is None else wanted.before
        async with self._connection() as connection:
            rows = await connection.fetch(
                LIST, user_id, before, wanted.name, wanted.prefix, wanted.limit + 1, timeout=_STATEMENT_TIMEOUT
            )
        return [_file(row) for row in rows]

    async def complete(self, file_id: int, found: ObjectInfo) -> CatalogueFile | None:
        """Note that an uploaded object has arrived; None if the file is gone."""
        async with self._connection() as connection:
            row = await connection.fetchrow(
                _COMPLETE, file_id, *_facts(found), found.modified, timeout=_STATEMENT_TIMEOUT
            )
        return _file(row) if row else None

    async def is_used_elsewhere(self, file_id: int, source: ObjectAt, *, owner_id: str) -> bool:
        """Whether another file of the owner is the same object."""
        async with self._connection() as connection:
            used = await connection.fetchval(
                _IS_USED_ELSEWHERE, owner_id, source.bucket, source.key, file_id, timeout=_STATEMENT_TIMEOUT
            )
        return bool(used)

    async def delete(self, file_id: int, *, owner_id: str) -> None:
        """Delete a file of the owner's; one that is gone is no error."""
        async with self._connection() as connection:
            await connection.execute(_DELETE, file_id, owner_id, timeout=_STATEMENT_TIMEOUT)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            async with self._pool.acquire(timeout=_ACQUIRE_TIMEOUT) as connection:
                yield connection
        except UNAVAILABLE as error:
            raise CatalogueUnavailableError(repr(error)) from error


def _values(file: AddedFile) -> tuple[object, ...]:
    """Return the values of a row, in the order of the arrays of `_ADD`."""
    source, found = file.source, file.found
    place = (source.bucket, source.key, None) if isinstance(source, ObjectAt) else (None, None, source.url)
    return (*place, file.name, *_facts(found), found.modified if found else None)


def _facts(found: ObjectInfo | None) -> tuple[int | None, str | None, int | None, str | None]:
    if found is None:
        return (None, None, None, None)
    return (found.size, found.etag, found.crc32, None if found.crc32 is None else found.etag)


def _file(row: asyncpg.Record) -> CatalogueFile:
    return CatalogueFile(
        file_id=row["id"],
        owner_id=row["owner_id"],
        source=OriginAt(row["url"]) if row["url"] is not None else ObjectAt(row["bucket"], row["key"]),
        name=row["name"],
        created_at=row["created_at"],
        size_bytes=row["size_bytes"],
        etag=row["etag"],
        crc32=row["crc32"] if row["crc32_etag"] == row["etag"] else None,
    )
