"""A job's public state, read from wherever it can be had: the cache, the record, or the request still in the broker.

The orchestrator writes it to the cache after each change; the gateway and the notifier read it. Losing the cache
loses nothing: the record has it all.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg
import msgspec
import nats.errors
import nats.js.errors
import redis.exceptions
from nats.js import JetStreamContext
from redis.asyncio import Redis

from haulyard_chassis.database import UNAVAILABLE, Connection, Pool
from haulyard_chassis.limits import active_jobs_key
from haulyard_chassis.logs import get_logger
from haulyard_contracts import (
    TERMINAL,
    ArchiveLocation,
    Compression,
    ErrorCode,
    Failure,
    FileState,
    FileStatus,
    JobDocument,
    JobRequested,
    JobStatus,
    OnMissing,
    Progress,
    Topology,
    UndecodableMessageError,
    decode,
    encode,
)

log = get_logger(__name__)

JOB_TTL = 7 * 86_400
"""Seconds that the cache keeps a job after its last change."""

FRESH = timedelta(seconds=2)
"""How long a state that is not final is believed without asking the record. The write of a newer state may have been
lost: the cache was away, or crashed and came back with what it had a second before."""

CACHE_UNAVAILABLE = (redis.exceptions.RedisError, OSError)
"""What the client raises when the cache is away."""

# Never go backwards: two replicas may write the states after two results in the wrong order. A job that is over takes
# no place among its user's any more, whichever of its last states comes first.
STORE = """
if KEYS[2] then redis.call('ZREM', KEYS[2], ARGV[3]) end
local held = tonumber(redis.call('HGET', KEYS[1], 'sequence') or '0')
if held >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
"""

# A state that is nobody's says that the job was deleted. It stays a while for those who read the record just before
# the job left it, and ask here just after.
_FORGET = """
if redis.call('HGET', KEYS[1], 'user_id') == '' then return redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return redis.call('DEL', KEYS[1])
"""
_TOMBSTONE_TTL = 3600
"""Seconds."""


class JobStateUnavailableError(Exception):
    """Neither the cache nor the record could be asked, so it is not known whether the job exists."""


def percentage(current: int, total: int) -> int:
    """Return ``current`` of ``total`` in percent, rounded down."""
    return current * 100 // total if total else 0


def queued_document(request: JobRequested) -> JobDocument:
    """Return the state of a job that was accepted and that nobody has looked at yet."""
    return JobDocument(
        job_id=request.job_id,
        user_id=request.user_id,
        status=JobStatus.QUEUED,
        sequence=1,
        progress=Progress(current=0, total=len(request.file_ids), percentage=0),
        files=tuple(FileState(file_id=file_id, status=FileStatus.QUEUED) for file_id in request.file_ids),
        created_at=request.created_at,
        updated_at=request.created_at,
        priority=request.priority,
        filename=request.filename or default_filename(request.job_id),
        compression=request.compression,
        on_missing=request.on_missing,
        retry_of=request.retry_of,
    )


def default_filename(job_id: str) -> str:
    """Return the archive's name when the request gave none."""
    return f"download_{job_id}.zip"


class JobCache:
    """``job:{id}`` in Valkey or Redis: a hash with the fields that anyone may read, and the whole document."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._store = client.register_script(STORE)
        self._forget = client.register_script(_FORGET)

    async def put(self, document: JobDocument) -> None:
        """Store a state, unless a newer one is there already.

        Raises:
            redis.exceptions.RedisError: the cache is away; nothing is lost but time.
        """
        keys, args = store_call(document)
        await self._store(keys=keys, args=args)

    async def forget(self, job_id: str) -> None:
        """Drop a job's state; one that says that it was deleted, and nothing else, goes an hour later.

        Raises:
            redis.exceptions.RedisError: the cache is away, and may still have it.
        """
        await self._forget(keys=[job_key(job_id)], args=[_TOMBSTONE_TTL])

    async def forget_user(self, user_id: str) -> None:
        """Drop what is kept under a user's id.

        Raises:
            redis.exceptions.RedisError: the cache is away, and may still have it.
        """
        await self._client.delete(active_jobs_key(user_id))

    async def get(self, job_id: str) -> JobDocument | None:
        """Return the state, or None if the cache has none."""
        data = await self._client.hget(job_key(job_id), "document")
        if data is None:
            return None
        try:
            return decode(data if isinstance(data, bytes) else data.encode(), JobDocument)
        except UndecodableMessageError as error:
            log.warning("cached job is unreadable", job_id=job_id, error=str(error))
            return None


def store_call(document: JobDocument) -> tuple[list[str], list[str | int | bytes]]:
    """Return keys and arguments of `STORE`, for a script that has it as a part."""
    flat = [part for pair in _hash_fields(document).items() for part in pair]
    keys = [job_key(document.job_id)]
    if document.status in TERMINAL:
        keys.append(active_jobs_key(document.user_id))
    return keys, [document.sequence, JOB_TTL, document.job_id, *flat]


def job_key(job_id: str) -> str:
    """Return the key under which the cache has a job."""
    return f"job:{job_id}"


def _time(moment: datetime | None) -> str:
    return moment.isoformat() if moment else ""


def _hash_fields(document: JobDocument) -> dict[str, str | int | bytes]:
    """The original requirement's fields; a hash has no null, so an empty string stands for it."""
    archive = document.archive
    return {
        "status": document.status.value,
        "progress_current": document.progress.current,
        "progress_total": document.progress.total,
        "created_at": _time(document.created_at),
        "updated_at": _time(document.updated_at),
        "completed_at": _time(document.completed_at),
        "error": document.error.message if document.error else "",
        "file_ids": msgspec.json.encode([file.file_id for file in document.files]),
        "download_url": f"s3://{archive.bucket}/{archive.key}" if archive else "",
        "user_id": document.user_id,
        "sequence": document.sequence,
        "document": encode(document),
    }


# One statement, so that job and files are of the same moment. The columns of the files are arrays of equal length.
_LOAD = """
SELECT job.id, job.user_id, job.status, job.sequence, job.total_files, job.completed_files, job.failed_files,
       job.bytes_total, job.bytes_done, job.created_at, job.updated_at, job.completed_at, job.expires_at, job.priority,
       job.filename, job.error_code, job.error_message, job.size_bytes, job.archive_bucket, job.archive_key,
       job.compression, job.on_missing, job.retry_of, job.bytes_copied, job.bytes_through, job.traceparent, file.*
FROM download_jobs job, LATERAL (
  SELECT array_agg(file_id ORDER BY position) AS file_ids, array_agg(status ORDER BY position) AS statuses,
         array_agg(size_bytes ORDER BY position) AS sizes, array_agg(name ORDER BY position) AS names,
         array_agg(error_code ORDER BY position) AS codes, array_agg(error_message ORDER BY position) AS messages
  FROM download_job_files WHERE job_id = job.id) file
WHERE job.id = $1
"""


@dataclass(frozen=True, slots=True)
class RecordedJob:
    """A job's state as the record has it."""

    document: JobDocument
    traceparent: str | None
    """Of the request that it was made by."""


async def load_document(connection: Connection | Pool, job_id: str) -> JobDocument | None:
    """Return a job's state from the record."""
    recorded = await load_job(connection, job_id)
    return recorded.document if recorded else None


async def load_job(connection: Connection | Pool, job_id: str) -> RecordedJob | None:
    """Return a job's state from the record, and what else is needed to tell of it."""
    row = await connection.fetchrow(_LOAD, job_id)
    return RecordedJob(_document(row), row["traceparent"]) if row else None


def _failure(code: str | None, message: str | None) -> Failure | None:
    return Failure(code=ErrorCode(code), message=message or "") if code else None


def _document(job: asyncpg.Record) -> JobDocument:
    settled = job["completed_files"] + job["failed_files"]
    completed = job["status"] == JobStatus.COMPLETED
    return JobDocument(
        job_id=job["id"],
        user_id=job["user_id"],
        status=JobStatus(job["status"]),
        sequence=job["sequence"],
        progress=Progress(
            current=settled,
            total=job["total_files"],
            percentage=percentage(settled, job["total_files"]),
            bytes_current=job["bytes_done"],
            bytes_total=job["bytes_total"],
        ),
        files=tuple(
            FileState(
                file_id=file_id,
                status=FileStatus(status),
                size_bytes=size,
                name=name,
                error=_failure(code, message),
            )
            for file_id, status, size, name, code, message in zip(
                *(job[column] or () for column in ("file_ids", "statuses", "sizes", "names", "codes", "messages")),
                strict=True,
            )
        ),
        created_at=job["created_at"],
        updated_at=job["updated_at"],
        priority=job["priority"],
        filename=job["filename"],
        completed_at=job["completed_at"],
        expires_at=job["expires_at"],
        error=_failure(job["error_code"], job["error_message"]),
        size_bytes=job["size_bytes"] if completed else None,
        archive=ArchiveLocation(bucket=job["archive_bucket"], key=job["archive_key"]) if completed else None,
        compression=Compression(job["compression"]),
        on_missing=OnMissing(job["on_missing"]),
        retry_of=job["retry_of"],
        bytes_copied=job["bytes_copied"],
        bytes_through=job["bytes_through"],
    )


@dataclass(frozen=True, slots=True)
class StateReading:
    """A job's state, and what it had to be read without."""

    document: JobDocument | None
    """None: there is no such job."""
    away: tuple[str, ...] = ()
    """Those of ``cache``, ``record`` and ``broker`` that were asked and did not answer."""


def _is_believed(cached: JobDocument, *, at_least: int, sure: bool) -> bool:
    """Whether what the cache says needs no asking the record."""
    if cached.sequence < at_least:
        return False
    # The state has the time of another clock: one from the future is as little to be believed as an old one.
    return cached.status in TERMINAL or (not sure and abs(datetime.now(UTC) - cached.updated_at) < FRESH)


class JobState:
    """Reads a job's state: cache first, then the record, then the request that waits in the broker.

    A job is in the broker only for the moment between being accepted and being planned; that it is also in the cache
    is lost with the cache.
    """

    def __init__(self, cache: JobCache, pool: Pool, stream: JetStreamContext, topology: Topology) -> None:
        self._cache = cache
        self._pool = pool
        self._stream = stream
        self._topology = topology

    async def read(self, job_id: str, *, at_least: int = 0) -> JobDocument | None:
        """Return the state, or None if there is no such job; see `look_up`."""
        return (await self.look_up(job_id, at_least=at_least)).document

    async def look_up(self, job_id: str, *, at_least: int = 0, sure: bool = False) -> StateReading:
        """Return the state, and which places could not be asked.

        Args:
            job_id: the job.
            at_least: a sequence that the job is known to have reached: do not believe a cache that is behind it.
            sure: do not believe the cache that a job is not over, however fresh that is.

        Raises:
            JobStateUnavailableError: not found, and the record or the broker could not be asked.
        """
        away: list[str] = []
        cached = await self._from_cache(job_id, away)
        if cached is not None and _is_believed(cached, at_least=at_least, sure=sure):
            return StateReading(cached)
        recorded = await self._from_record(job_id, away)
        if recorded is not None:
            if "cache" not in away and (cached is None or recorded.sequence > cached.sequence):
                await self._to_cache(recorded)
            return StateReading(recorded, tuple(away))
        document = cached or await self._from_broker(job_id, away)
        if document is None and "record" not in away:
            # It may have gone from the broker to the record between our two looks.
            document = await self._from_record(job_id, away)
        if document is None and ("record" in away or "broker" in away):
            raise JobStateUnavailableError(f"{job_id}: no answer from {', '.join(away)}")
        return StateReading(document, tuple(away))

    async def _from_cache(self, job_id: str, away: list[str]) -> JobDocument | None:
        try:
            return await self._cache.get(job_id)
        except CACHE_UNAVAILABLE as error:
            log.warning("cache unavailable", error=repr(error))
            away.append("cache")
            return None

    async def _to_cache(self, document: JobDocument) -> None:
        try:
            await self._cache.put(document)
        except CACHE_UNAVAILABLE as error:
            log.warning("cache unavailable", error=repr(error))

    async def _from_record(self, job_id: str, away: list[str]) -> JobDocument | None:
        try:
            return await load_document(self._pool, job_id)
        except UNAVAILABLE as error:
            log.warning("record unavailable", error=repr(error))
            away.append("record")
            return None

    async def _from_broker(self, job_id: str, away: list[str]) -> JobDocument | None:
        """Return the state of a job whose request nobody has taken yet."""
        try:
            message = await self._stream.get_last_msg(
                self._topology.jobs.name, self._topology.any_job_requested(job_id)
            )
        except nats.js.errors.NotFoundError:
            return None
        except (nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError) as error:
            log.warning("broker unavailable", error=repr(error))
            away.append("broker")
            return None
        return queued_document(decode(message.data or b"", JobRequested))


def connect_cache(url: str) -> Redis:
    """Return a client of the cache; it connects when it is first used and fails fast when the cache is away."""
    return Redis.from_url(
        url, socket_connect_timeout=1.0, socket_timeout=2.0, health_check_interval=30, decode_responses=False
    )
