"""A job's state is found wherever it still is, never goes backwards, and is not denied while a place is away."""

import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec
import pytest
from nats.js import JetStreamContext
from redis.asyncio import Redis

from haulyard_chassis.broker import Publisher
from haulyard_chassis.database import Pool, migrate
from haulyard_chassis.job_state import (
    JOB_TTL,
    JobCache,
    JobState,
    JobStateUnavailableError,
    StateReading,
    connect_cache,
    queued_document,
)
from haulyard_chassis.settings import ServiceSettings
from haulyard_contracts import (
    TERMINAL,
    ArchiveLocation,
    ErrorCode,
    Failure,
    FileState,
    FileStatus,
    JobDocument,
    JobRequested,
    JobStatus,
    Progress,
    Topology,
)

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.fixture
async def redis_client(settings: ServiceSettings) -> AsyncIterator[Redis]:
    """The cache's client."""
    client = connect_cache(settings.redis_url.get_secret_value())
    yield client
    await client.aclose()


@pytest.fixture
async def pool(settings: ServiceSettings) -> AsyncIterator[Pool]:
    """The migrated record."""
    async with asyncpg.create_pool(settings.postgres_dsn.get_secret_value(), min_size=1, max_size=3) as opened:
        await migrate(opened)
        yield opened


@pytest.fixture
def request_() -> JobRequested:
    """A job that nobody knows yet."""
    return JobRequested(job_id=f"job_{secrets.token_hex(8)}", user_id="alice", file_ids=(1, 2), created_at=NOON)


@pytest.fixture
def state(redis_client: Redis, pool: Pool, stream: JetStreamContext, topology: Topology) -> JobState:
    """The state with all three places."""
    return JobState(JobCache(redis_client), pool, stream, topology)


class Away:
    """A server that refuses every use."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        raise self._error


CACHE_AWAY = connect_cache("redis://127.0.0.1:1/0")
RECORD_AWAY: Any = Away(ConnectionRefusedError("away"))
BROKER_AWAY: Any = Away(TimeoutError("away"))


def at(document: JobDocument, sequence: int) -> JobDocument:
    return msgspec.structs.replace(document, sequence=sequence)


async def test_the_cache_never_goes_backwards(redis_client: Redis, request_: JobRequested) -> None:
    cache, document = JobCache(redis_client), queued_document(request_)
    for written, held in [(3, 3), (2, 3), (3, 3), (10, 10), (9, 10)]:
        await cache.put(at(document, written))
        assert await cache.get(request_.job_id) == at(document, held)


async def test_an_older_state_changes_no_field(redis_client: Redis, request_: JobRequested) -> None:
    cache, document = JobCache(redis_client), queued_document(request_)
    await cache.put(msgspec.structs.replace(document, sequence=2, status=JobStatus.PROCESSING))
    await cache.put(document)
    assert await redis_client.hget(f"job:{request_.job_id}", "status") == b"processing"


async def test_a_forgotten_job_leaves_nothing(redis_client: Redis, request_: JobRequested) -> None:
    cache = JobCache(redis_client)
    await cache.put(queued_document(request_))
    await cache.forget(request_.job_id)
    assert await redis_client.exists(f"job:{request_.job_id}") == 0


async def test_that_a_job_was_deleted_is_known_for_a_while(redis_client: Redis, request_: JobRequested) -> None:
    cache, deleted = JobCache(redis_client), msgspec.structs.replace(queued_document(request_), user_id="", sequence=9)
    await cache.put(deleted)
    await cache.forget(request_.job_id)
    assert await cache.get(request_.job_id) == deleted
    assert 3_500 < await redis_client.ttl(f"job:{request_.job_id}") <= 3_600


async def test_a_cached_job_is_a_hash_that_lives_for_seven_days(redis_client: Redis, request_: JobRequested) -> None:
    await JobCache(redis_client).put(queued_document(request_))
    key = f"job:{request_.job_id}"
    held: Any = await redis_client.hgetall(key)
    assert {name.decode() for name in held} == {
        "status",
        "progress_current",
        "progress_total",
        "created_at",
        "updated_at",
        "completed_at",
        "error",
        "file_ids",
        "download_url",
        "user_id",
        "sequence",
        "document",
    }
    assert held[b"status"] == b"queued"
    assert held[b"progress_total"] == b"2"
    assert held[b"file_ids"] == b"[1,2]"
    assert JOB_TTL - 60 < await redis_client.ttl(key) <= JOB_TTL == 604_800


async def test_a_job_that_is_not_cached_or_not_readable_is_none(redis_client: Redis, request_: JobRequested) -> None:
    cache = JobCache(redis_client)
    assert await cache.get(request_.job_id) is None
    await redis_client.hset(f"job:{request_.job_id}", "document", b'{"from":"another age"}')
    assert await cache.get(request_.job_id) is None


@pytest.mark.parametrize("status", [JobStatus.QUEUED, JobStatus.COMPLETED])
async def test_a_cached_state_that_is_new_or_final_is_believed(
    redis_client: Redis, request_: JobRequested, status: JobStatus
) -> None:
    """Nothing else is asked."""
    updated = NOON if status in TERMINAL else datetime.now(UTC)
    document = msgspec.structs.replace(queued_document(request_), updated_at=updated, status=status)
    await JobCache(redis_client).put(document)
    state = JobState(JobCache(redis_client), RECORD_AWAY, BROKER_AWAY, Topology())
    assert await state.look_up(request_.job_id) == StateReading(document)


async def test_a_cached_state_that_is_old_gives_way_to_the_record(
    state: JobState, redis_client: Redis, pool: Pool, request_: JobRequested
) -> None:
    """The write of a newer state may have been lost; the cache is told."""
    await JobCache(redis_client).put(queued_document(request_))
    document = await insert(pool, request_.job_id)
    assert await state.look_up(request_.job_id) == StateReading(document)
    assert await JobCache(redis_client).get(request_.job_id) == document


async def test_a_cached_state_from_the_future_gives_way_to_the_record(
    state: JobState, redis_client: Redis, pool: Pool, request_: JobRequested
) -> None:
    """A clock is a minute behind: a state that is old by then must not be believed for all that time."""
    ahead = datetime.now(UTC) + timedelta(minutes=1)
    await JobCache(redis_client).put(msgspec.structs.replace(queued_document(request_), updated_at=ahead))
    document = await insert(pool, request_.job_id)
    assert await state.look_up(request_.job_id) == StateReading(document)


async def test_a_cached_state_that_is_old_is_better_than_none(redis_client: Redis, request_: JobRequested) -> None:
    document = queued_document(request_)
    await JobCache(redis_client).put(document)
    state = JobState(JobCache(redis_client), RECORD_AWAY, BROKER_AWAY, Topology())
    assert await state.look_up(request_.job_id) == StateReading(document, ("record",))


async def insert(pool: Pool, job_id: str) -> JobDocument:
    await pool.execute(
        "INSERT INTO download_jobs (id, user_id, status, file_ids, total_files, completed_files, failed_files,"
        " sequence, filename, completed_at, expires_at, created_at, size_bytes, bytes_total, bytes_done,"
        " archive_bucket, archive_key, priority, updated_at)"
        " VALUES ($1, 'alice', 'completed', '[2, 1]', 2, 1, 1, 7, 'a.zip', $2, $2, $2, 99, 5, 5, 'b', 'k', 9, $2)",
        job_id,
        NOON,
    )
    await pool.executemany(
        "INSERT INTO download_job_files (job_id, file_id, status, position, size_bytes, name, error_code,"
        " error_message) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        [
            (job_id, 1, "failed", 1, None, None, "FILE_NOT_FOUND", "gone"),
            (job_id, 2, "completed", 0, 5, "ä.txt", None, None),
        ],
    )
    return JobDocument(
        job_id=job_id,
        user_id="alice",
        status=JobStatus.COMPLETED,
        sequence=7,
        progress=Progress(current=2, total=2, percentage=100, bytes_current=5, bytes_total=5),
        files=(
            FileState(file_id=2, status=FileStatus.COMPLETED, size_bytes=5, name="ä.txt"),
            FileState(
                file_id=1, status=FileStatus.FAILED, error=Failure(code=ErrorCode.FILE_NOT_FOUND, message="gone")
            ),
        ),
        created_at=NOON,
        updated_at=NOON,
        priority=9,
        filename="a.zip",
        completed_at=NOON,
        expires_at=NOON,
        size_bytes=99,
        archive=ArchiveLocation(bucket="b", key="k"),
    )


async def test_then_the_record_does(state: JobState, pool: Pool, request_: JobRequested) -> None:
    document = await insert(pool, request_.job_id)
    assert await state.look_up(request_.job_id) == StateReading(document)


async def test_the_record_answers_for_a_cache_that_is_away(
    pool: Pool, stream: JetStreamContext, topology: Topology, request_: JobRequested
) -> None:
    document = await insert(pool, request_.job_id)
    state = JobState(JobCache(CACHE_AWAY), pool, stream, topology)
    assert await state.look_up(request_.job_id) == StateReading(document, ("cache",))


async def test_then_the_request_that_waits_in_the_broker(
    state: JobState, publisher: Publisher, topology: Topology, request_: JobRequested
) -> None:
    await publisher.publish(topology.job_requested(5, request_.job_id), request_, message_id=request_.job_id)
    assert await state.read(request_.job_id) == queued_document(request_)


async def test_the_broker_answers_for_a_record_that_is_away(
    redis_client: Redis, stream: JetStreamContext, publisher: Publisher, topology: Topology, request_: JobRequested
) -> None:
    await publisher.publish(topology.job_requested(5, request_.job_id), request_, message_id=request_.job_id)
    state = JobState(JobCache(redis_client), RECORD_AWAY, stream, topology)
    assert await state.look_up(request_.job_id) == StateReading(queued_document(request_), ("record",))


async def test_a_job_that_is_recorded_just_now_is_not_overlooked(
    pool: Pool, stream: JetStreamContext, topology: Topology, request_: JobRequested
) -> None:
    """It is not in the record yet when that is looked at, and no longer in the broker a moment later."""
    expected: list[JobDocument] = []

    class Overtaking:
        async def get_last_msg(self, stream_name: str, subject: str) -> Any:
            expected.append(await insert(pool, request_.job_id))
            return await stream.get_last_msg(stream_name, subject)

    overtaking: Any = Overtaking()
    state = JobState(JobCache(CACHE_AWAY), pool, overtaking, topology)
    reading = await state.look_up(request_.job_id)
    assert (reading.document, reading.away) == (expected[0], ("cache",))


async def test_a_job_that_is_nowhere_is_none(state: JobState) -> None:
    assert await state.look_up("job_nowhere") == StateReading(None)


async def test_a_cache_that_is_away_does_not_hide_that_there_is_no_job(
    pool: Pool, stream: JetStreamContext, topology: Topology
) -> None:
    """It holds nothing that the other two do not know."""
    state = JobState(JobCache(CACHE_AWAY), pool, stream, topology)
    assert await state.look_up("job_nowhere") == StateReading(None, ("cache",))


@pytest.mark.parametrize("away", ["record", "broker"])
async def test_a_job_is_not_denied_while_the_record_or_the_broker_is_away(
    redis_client: Redis, pool: Pool, stream: JetStreamContext, topology: Topology, away: str
) -> None:
    state = JobState(
        JobCache(redis_client),
        RECORD_AWAY if away == "record" else pool,
        BROKER_AWAY if away == "broker" else stream,
        topology,
    )
    with pytest.raises(JobStateUnavailableError, match=away):
        await state.look_up("job_nowhere")


async def test_with_everything_away_all_three_are_named() -> None:
    state = JobState(JobCache(CACHE_AWAY), RECORD_AWAY, BROKER_AWAY, Topology())
    with pytest.raises(JobStateUnavailableError, match="cache, record, broker"):
        await state.look_up("job_nowhere")
