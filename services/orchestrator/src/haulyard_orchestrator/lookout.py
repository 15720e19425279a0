"""What waits at the broker, and how large the cache is: looked up now and then, for autoscaling and alerts.

Every orchestrator tells the same; whoever reads takes the largest. While nobody answers nothing is told: an old number
is worse than none.
"""

import asyncio
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import nats.errors
import nats.js.errors
from nats.js import JetStreamContext, api
from redis.asyncio import Redis

from haulyard_chassis.broker import ensure_consumer
from haulyard_chassis.job_state import CACHE_UNAVAILABLE
from haulyard_chassis.logs import get_logger
from haulyard_chassis.tasks import cancel_and_wait
from haulyard_contracts import ConsumerSpec, Topology
from haulyard_orchestrator import measures

log = get_logger(__name__)

EVERY = 5.0
"""Seconds between two looks."""
_BROKER_AWAY = (nats.errors.Error, TimeoutError, OSError)


class Lookout:
    """Looks until it is stopped.

    Args:
        stream: the JetStream API.
        cache: the cache's connection.
        topology: names of this installation.
    """

    def __init__(self, stream: JetStreamContext, cache: Redis, topology: Topology) -> None:
        self._stream = stream
        self._cache = cache
        self._topology = topology
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="lookout")

    async def stop(self) -> None:
        """Stop."""
        if self._task is not None:
            await cancel_and_wait(self._task)

    async def _run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(EVERY)

    async def look(self) -> None:
        """Look once."""
        try:
            for consumer in self.consumers:
                await self._look_at(consumer)
            letters = await self._stream.stream_info(self._topology.dead_letters.name)
            measures.DEAD_LETTERS.set(letters.state.messages)
        except _BROKER_AWAY as error:
            log.debug("queues not looked at", error=repr(error))
            measures.forget_queues()
        try:
            memory: Mapping[str, int] = await self._cache.info("memory")
            measures.CACHE_BYTES.set(memory["used_memory"])
        except CACHE_UNAVAILABLE as error:
            log.debug("cache not looked at", error=repr(error))
            measures.CACHE_BYTES.set(math.nan)

    @property
    def consumers(self) -> Sequence[ConsumerSpec]:
        """All queues: each consumer is one."""
        names = self._topology
        return (
            names.requests_consumer,
            names.control_consumer,
            names.results_consumer,
            names.webhooks_consumer,
            *names.task_lanes,
        )

    async def _look_at(self, consumer: ConsumerSpec) -> None:
        info = await self._info(consumer)
        waiting, taken = info.num_pending or 0, info.num_ack_pending or 0
        oldest = await self._oldest(consumer, info) if waiting else None
        age = (datetime.now(UTC) - oldest).total_seconds() if oldest is not None else 0.0
        measures.queue(consumer.durable, waiting=waiting, taken=taken, oldest=max(age, 0.0))

    async def _info(self, consumer: ConsumerSpec) -> api.ConsumerInfo:
        info: api.ConsumerInfo
        try:
            info = await self._stream.consumer_info(consumer.stream, consumer.durable)
        except nats.js.errors.NotFoundError:
            # The service whose it is has never run; what waits for it must be seen for it to be started.
            await ensure_consumer(self._stream, consumer)
            info = await self._stream.consumer_info(consumer.stream, consumer.durable)
        return info

    async def _oldest(self, consumer: ConsumerSpec, info: api.ConsumerInfo) -> datetime | None:
        """Return when the first message came that nobody has taken yet."""
        after = (info.delivered.stream_seq or 0) + 1 if info.delivered is not None else 1
        found: list[datetime] = []
        for subject in consumer.filters:
            try:
                message = await self._stream.get_msg(consumer.stream, seq=after, subject=subject, next=True)
            except nats.js.errors.NotFoundError:
                continue  # it was taken just now
            if message.time is not None:
                found.append(message.time)
        return min(found, default=None)
