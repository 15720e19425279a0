"""Who is connected: ``ws:job:{id}`` in the cache, a set of connection ids, for operators and dashboards to look at.

Best effort by design: nothing waits for it, nothing depends on it, and a cache that is away is logged once.
"""

import asyncio
from contextlib import suppress

from redis.asyncio import Redis

from haulyard_chassis.job_state import CACHE_UNAVAILABLE
from haulyard_chassis.logs import get_logger

log = get_logger(__name__)

PRESENCE_TTL = 3600
"""Seconds that the cache keeps a set after its last renewal, should this process not be there to clear it."""
_RENEW = PRESENCE_TTL / 3
_FAREWELL = 1.0


class Presence:
    """Keeps the sets as they should be, by one pipelined write for all changes since the last one.

    Args:
        cache: where the sets are.
        renew: seconds after which what stays is written again.
    """

    def __init__(self, cache: Redis, *, renew: float = _RENEW) -> None:
        self._cache = cache
        self._renew = renew
        self._present: set[tuple[str, str]] = set()
        self._changed: dict[tuple[str, str], bool] = {}
        self._wake = asyncio.Event()
        self._away = False

    def enter(self, job_id: str, connection_id: str) -> None:
        """Note that a connection watches a job."""
        self._present.add((job_id, connection_id))
        self._change(job_id, connection_id, present=True)

    def leave(self, job_id: str, connection_id: str) -> None:
        """Note that a connection no longer watches a job."""
        self._present.discard((job_id, connection_id))
        self._change(job_id, connection_id, present=False)

    async def run(self) -> None:
        """Write changes as they come, and renew what stays; until cancelled."""
        loop = asyncio.get_running_loop()
        renewal = loop.time() + self._renew
        while True:
            try:
                async with asyncio.timeout_at(renewal):
                    await self._wake.wait()
            except TimeoutError:
                # What changed meanwhile is newer.
                self._changed = dict.fromkeys(self._present, True) | self._changed
                renewal = loop.time() + self._renew
            await self._write()

    async def farewell(self) -> None:
        """Write the last changes, if that is quick."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL):
                await self._write()

    def _change(self, job_id: str, connection_id: str, *, present: bool) -> None:
        self._changed[job_id, connection_id] = present
        self._wake.set()

    async def _write(self) -> None:
        self._wake.clear()
        changes, self._changed = self._changed, {}
        if not changes:
            return
        try:
            async with self._cache.pipeline(transaction=False) as pipeline:
                for (job_id, connection_id), present in changes.items():
                    if present:
                        pipeline.sadd(f"ws:job:{job_id}", connection_id)
                        pipeline.expire(f"ws:job:{job_id}", PRESENCE_TTL)
                    else:
                        pipeline.srem(f"ws:job:{job_id}", connection_id)
                await pipeline.execute()
        except CACHE_UNAVAILABLE as error:
            if not self._away:
                log.warning("presence not kept while the cache is away", error=repr(error))
            self._away = True
        else:
            if self._away:
                self._changed.update(dict.fromkeys(self._present, True))
                self._wake.set()
            self._away = False
