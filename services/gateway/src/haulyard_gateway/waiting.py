"""Requests that wait for a change of their job: on the job's events, as they pass by in the broker.

A core subscription, not a consumer: it costs the broker nothing that lasts, and what it may miss (an event while the
connection is cut) only lets the client wait until its time is up. Nothing here asks again and again.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from haulyard_chassis.logs import get_logger
from haulyard_chassis.tasks import cancel_and_wait
from haulyard_contracts import JobEvent, Topology, UndecodableMessageError, decode
from haulyard_gateway.ports import Watch

log = get_logger(__name__)

_FLUSH_TIMEOUT = 2
"""Seconds within which the broker has to say that it knows of a subscription."""

Receive = Callable[[], Awaitable[Any]]


class _Heard:
    """What was heard of one job."""

    def __init__(self) -> None:
        self._newest = 0
        self._is_over = False
        self._changed = asyncio.Event()

    async def take(self, message: Msg) -> None:
        """Take an event in."""
        try:
            event = decode(message.data, JobEvent)
        except UndecodableMessageError as error:
            log.warning("event is unreadable", subject=message.subject, error=str(error))
            return
        self._newest = max(self._newest, event.sequence)
        self._changed.set()

    def end(self) -> None:
        """Let go whoever waits."""
        self._is_over = True
        self._changed.set()

    async def next_after(self, sequence: int) -> int | None:
        """Return the sequence of a state that is newer, as soon as there is one; None if nobody is to wait longer."""
        while self._newest <= sequence:
            if self._is_over:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._newest


class JobChanges:
    """Lets a bounded number of requests wait.

    Args:
        client: connected to the broker.
        topology: says where events are.
        most: requests that may wait at the same time; the next is not to wait.
    """

    def __init__(self, client: Client, topology: Topology, *, most: int) -> None:
        self._client = client
        self._topology = topology
        self._most = most
        self._heard: set[_Heard] = set()
        self._is_over = False

    @property
    def waiting(self) -> int:
        """Requests that wait now."""
        return len(self._heard)

    async def end_all(self) -> None:
        """Have everybody answered who waits, and nobody wait any more: the service is to stop."""
        self._is_over = True
        for heard in self._heard:
            heard.end()

    @asynccontextmanager
    async def watch(self, job_id: str) -> AsyncIterator[Watch | None]:
        """Hear of the changes of a job from now on; None if too many wait, the broker is away, or we are to stop."""
        if self._is_over or self.waiting >= self._most or not self._client.is_connected:
            yield None
            return
        heard = _Heard()
        self._heard.add(heard)
        subscription = None
        try:
            try:
                subscription = await self._client.subscribe(self._topology.events_of(job_id), cb=heard.take)
                # Until the broker has answered, an event could pass by between reading the state and waiting.
                await self._client.flush(_FLUSH_TIMEOUT)
            except (nats.errors.Error, TimeoutError, OSError) as error:
                log.warning("broker unavailable", error=repr(error))
                yield None
                return
            yield heard
        finally:
            self._heard.discard(heard)
            if subscription is not None:
                await _end(subscription.unsubscribe())


async def _end(unsubscribing: Awaitable[None]) -> None:
    try:
        await unsubscribing
    except (nats.errors.Error, OSError) as error:  # with its connection, a subscription is gone anyway
        log.debug("subscription was gone", error=repr(error))


async def wait_for_change(watch: Watch, receive: Receive, *, after: int, seconds: float) -> int | None:
    """Return the sequence of a newer state; None if the time is up, the client has gone, or nobody is to wait longer.

    Args:
        watch: hears of the changes.
        receive: the ASGI function, which says when the client has gone.
        after: the sequence that the client knows.
        seconds: how long to wait at most.
    """
    changed = asyncio.create_task(watch.next_after(after))
    gone = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait((changed, gone), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return changed.result() if changed.done() else None
    finally:
        await cancel_and_wait(changed, gone)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
