"""The gateway's SQL of archives: what is in one, and where every byte of it is. Nothing else."""

from typing import Any

import asyncpg

from haulyard_chassis.database import Pool
from haulyard_chassis.logs import get_logger
from haulyard_contracts import (
    ArchiveLocation,
    InlineSource,
    JobStatus,
    Source,
    UndecodableMessageError,
    decode,
)
from haulyard_gateway.archive_contents import ArchiveState, Awaited, Built, RecordedEntry, laid_out, recorded_etag
from haulyard_gateway.job_records import record
from haulyard_zipline import Entry, EntryError, crc32

log = get_logger(__name__)

_STATEMENT_TIMEOUT = 5.0

# One statement, so that all of it is of the same moment. A job that follows another has the archive which that one
# builds, as long as both want the same. Parts are there from when an archive is laid out until its plan is void.
_FIND = """
SELECT job.status, job.digest, job.size_bytes, job.archive_bucket, job.archive_key,
       job.missing_name, job.missing_text, job.missing_mtime,
       EXISTS (SELECT FROM download_job_parts part WHERE part.job_id = job.id AND part.phase = 'build') AS has_parts,
       file.*
FROM download_jobs asked
JOIN download_jobs job ON job.id = coalesce(asked.follows, asked.id) AND job.digest IS NOT DISTINCT FROM asked.digest
CROSS JOIN LATERAL (
  SELECT array_agg(name ORDER BY entry) AS names, array_agg(size_bytes ORDER BY entry) AS sizes,
         array_agg(crc32 ORDER BY entry) AS checksums, array_agg(mtime ORDER BY entry) AS mtimes,
         array_agg(packed_bytes ORDER BY entry) AS packed, array_agg(source ORDER BY entry) AS sources
  FROM download_job_files WHERE job_id = job.id AND entry IS NOT NULL) file
WHERE asked.id = $1 AND asked.status IN ('processing', 'completed')
"""


class ArchiveRecords:
    """The record of archives."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(self, job_id: str) -> ArchiveState:
        """Return how far the archive of a job is.

        Raises:
            RecordUnavailableError: the database is away.
        """
        async with record(self._pool) as connection:
            row = await connection.fetchrow(_FIND, job_id, timeout=_STATEMENT_TIMEOUT)
        return Awaited() if row is None else _state(row, job_id)


def _state(row: asyncpg.Record, job_id: str) -> ArchiveState:
    status, size = JobStatus(row["status"]), row["size_bytes"]
    is_built = status is JobStatus.COMPLETED
    if size is None or not (is_built or (status is JobStatus.PROCESSING and row["has_parts"])):
        return Awaited()
    if is_built and row["digest"] is not None:
        return _built(row, recorded_etag(row["digest"], size, ()))
    try:
        entries = _entries(row)
    except (UndecodableMessageError, EntryError) as error:  # of another version of the services
        log.warning("archive's record is unreadable", job_id=job_id, error=str(error))
        return Awaited()
    return _built(row, recorded_etag(None, size, entries)) if is_built else laid_out(row["digest"], size, entries)


def _built(row: asyncpg.Record, etag: str) -> Built:
    location = ArchiveLocation(bucket=row["archive_bucket"], key=row["archive_key"])
    return Built(etag=etag, size=row["size_bytes"], location=location)


def _entries(row: asyncpg.Record) -> list[RecordedEntry]:
    columns = (row[name] or () for name in ("names", "sizes", "checksums", "mtimes", "packed", "sources"))
    entries = [_entry(*values) for values in zip(*columns, strict=True)]
    if row["missing_name"] is not None:
        text = row["missing_text"]
        note = Entry(row["missing_name"], len(text), crc32(text), row["missing_mtime"])
        entries.append(RecordedEntry(entry=note, source=InlineSource(data=text), identity=text))
    return entries


def _entry(name: str, size: int, checksum: int | None, mtime: int, packed: int | None, source: bytes) -> RecordedEntry:
    data: Any = decode(source, Source)
    entry = Entry(name, size, checksum if size else 0, mtime, packed)
    return RecordedEntry(entry=entry, source=data, identity=source)
