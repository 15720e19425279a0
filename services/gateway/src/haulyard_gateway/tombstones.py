"""Deleted jobs, remembered in the cache until the record has forgotten them, and an hour longer.

A tombstone is a state of the job like any other, only that it is final, nobody's, and newer than all that can come:
whoever reads the job, here or in another service, finds no job of theirs; and no late state replaces it.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from redis.asyncio import Redis

from haulyard_chassis.job_state import CACHE_UNAVAILABLE, JobCache, job_key
from haulyard_chassis.limits import CacheAwayError, CacheGate
from haulyard_chassis.logs import get_logger
from haulyard_contracts import JobDocument, JobStatus, Progress
from haulyard_gateway.conditions import MAX_SEQUENCE

log = get_logger(__name__)

_LAST = str(MAX_SEQUENCE).encode()
_PATIENCE = 2.0
"""Seconds that the cache has to answer: a list in which a deleted job is back is worse than a slow one."""


def tombstone(job_id: str, *, now: datetime) -> JobDocument:
    """Return the state of a job that was deleted; it says nothing of whose it was, or of what."""
    return JobDocument(
        job_id=job_id,
        user_id="",
        status=JobStatus.EXPIRED,
        sequence=MAX_SEQUENCE,
        progress=Progress(current=0, total=0, percentage=0),
        files=(),
        created_at=now,
        updated_at=now,
    )


class Tombstones:
    """Keeps them.

    Args:
        client: the cache.
        cache: takes states of jobs.
    """

    def __init__(self, client: Redis, cache: JobCache) -> None:
        self._client = client
        self._cache = cache
        self._gate = CacheGate(patience=_PATIENCE)

    async def put(self, job_id: str) -> bool:
        """Make a job disappear; whether that was possible."""
        try:
            await self._cache.put(tombstone(job_id, now=datetime.now(UTC)))
        except CACHE_UNAVAILABLE as error:
            log.warning("cache unavailable", job_id=job_id, error=repr(error))
            return False
        return True

    async def among(self, job_ids: Sequence[str]) -> Collection[str]:
        """Return those that were deleted; without the cache none is known to be."""
        if not job_ids:
            return ()
        pipeline = self._client.pipeline(transaction=False)
        for job_id in job_ids:
            pipeline.hget(job_key(job_id), "sequence")
        try:
            sequences = await self._gate.call(pipeline.execute)
        except CacheAwayError as error:
            log.warning("cache unavailable", error=str(error))
            return ()
        return {job_id for job_id, sequence in zip(job_ids, sequences, strict=True) if sequence == _LAST}
