"""Who watches what: one subscription for each watched job, however many clients watch it, and none for the others.

Nothing is lost between the snapshot and the events after it, because the subscription is there before the state is
read, and the orchestrator writes a state before it publishes the event of it: an event from before the subscription
is in the snapshot, one from after it is delivered. What the broker may still lose (it delivers at most once, a
connection may break, a new subscription may not yet be known to all servers of a cluster) is made good by reading the
state again: shortly after the first client came, when the connection is back, and when a job has been quiet for long.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from haulyard_chassis.logs import get_logger
from haulyard_contracts import JobDocument, JobEvent, JobStatus
from haulyard_notifier.live.pending import Pending
from haulyard_notifier.live.state import LiveState, state_of_document, state_of_event
from haulyard_notifier.live.watch import Ended, Watch

log = get_logger(__name__)

_SETTLE = 1.0
"""Seconds after which a job is read once more when its first client has come."""
_QUIET = 30.0
"""Seconds without an event after which a job is read again."""
_RETRY = 1.0
"""Seconds before another try when a state could not be read."""
_READS = 64
"""States that are read at the same time; after a reconnect every watched job is."""

Unsubscribe = Callable[[], Awaitable[None]]


class NoSuchJobError(Exception):
    """There is no such job, or it is not for this user to see."""


class EventsUnavailableError(Exception):
    """The broker takes no subscription now, so a job could not be followed; try again later."""


class EventSource(Protocol):
    """Where events come from."""

    async def subscribe(self, job_id: str, deliver: Callable[[JobEvent], None]) -> Unsubscribe:
        """Call ``deliver`` with each event of a job that is published from when this returns on.

        Raises:
            EventsUnavailableError
        """


class ReadState(Protocol):
    """How a job's state is read."""

    async def __call__(self, job_id: str, *, at_least: int) -> JobDocument | None:
        """Return the newest state to be had, looking further when it is older than sequence ``at_least``.

        Raises:
            haulyard_chassis.job_state.JobStateUnavailableError
        """


@dataclass(eq=False)
class _Topic:
    """One watched job."""

    job_id: str
    watches: set[Watch] = field(default_factory=set)
    wanted: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the state should be read."""
    newest: int = 0
    """Highest sequence heard of."""
    heard: bool = False
    """Whether an event came since the state was last thought of."""
    opening: asyncio.Task[Unsubscribe] = field(init=False)
    keeper: asyncio.Task[None] | None = None

    def offer(self, state: LiveState) -> None:
        for watch in self.watches:
            watch.offer(state)


class Hub:
    """All watches of this process.

    Args:
        source: where events come from.
        read: how a state is read.
        interval: seconds between two progress messages to a client.
        settle: see the module's constants, as the next two.
        quiet: as above.
        retry: as above.
    """

    def __init__(
        self,
        source: EventSource,
        read: ReadState,
        *,
        interval: float,
        settle: float = _SETTLE,
        quiet: float = _QUIET,
        retry: float = _RETRY,
    ) -> None:
        self._source = source
        self._read = read
        self._interval = interval
        self._settle = settle
        self._quiet = quiet
        self._retry = retry
        self._topics: dict[str, _Topic] = {}
        self._reads = asyncio.Semaphore(_READS)
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def watched(self) -> int:
        """Jobs that somebody watches."""
        return len(self._topics)

    async def join(self, job_id: str, *, owner: str | None, after: int = 0) -> Watch:
        """Begin to watch a job; end it with `leave`.

        Args:
            job_id: a valid job id.
            owner: the user to whom the job must belong; None when it was made sure otherwise.
            after: the sequence that the client has seen; 0 for none.

        Raises:
            NoSuchJobError, EventsUnavailableError, haulyard_chassis.job_state.JobStateUnavailableError
        """
        watch = Watch(job_id, Pending(interval=self._interval, after=after))
        topic = self._topics.get(job_id)
        if topic is None:
            topic = self._topics[job_id] = _Topic(job_id)
            topic.opening = asyncio.create_task(self._open(topic), name=f"open:{job_id}")
        topic.watches.add(watch)
        try:
            await asyncio.shield(topic.opening)
            document = await self._admit(job_id, owner)
        except BaseException:
            self.leave(watch)
            raise
        watch.begin(state_of_document(document))
        if self._closed:
            watch.end(Ended.RESTART)
        return watch

    async def _admit(self, job_id: str, owner: str | None) -> JobDocument:
        async with self._reads:
            document = await self._read(job_id, at_least=0)
        if document is None or owner not in (None, document.user_id):
            raise NoSuchJobError(job_id)
        return document

    def leave(self, watch: Watch) -> None:
        """End a watch; with the last one of a job its subscription ends too."""
        topic = self._topics.get(watch.job_id)
        if topic is None or watch not in topic.watches:
            return
        topic.watches.remove(watch)
        if not topic.watches:
            del self._topics[watch.job_id]
            task = asyncio.create_task(self._close(topic), name=f"close:{watch.job_id}")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def refresh_all(self) -> None:
        """Read the state of every watched job again, soon: events may have been missed."""
        for topic in self._topics.values():
            topic.wanted.set()

    def end_all(self) -> None:
        """Tell every client, also those that still come, to go on elsewhere."""
        self._closed = True
        for topic in self._topics.values():
            for watch in topic.watches:
                watch.end(Ended.RESTART)

    async def close(self) -> None:
        """End all watches and subscriptions."""
        self.end_all()
        for topic in list(self._topics.values()):
            for watch in list(topic.watches):
                self.leave(watch)
        await asyncio.gather(*self._closing)

    async def _open(self, topic: _Topic) -> Unsubscribe:
        unsubscribe = await self._source.subscribe(topic.job_id, lambda event: self._heard(topic, event))
        topic.keeper = asyncio.create_task(self._keep(topic), name=f"keep:{topic.job_id}")
        return unsubscribe

    async def _close(self, topic: _Topic) -> None:
        try:
            unsubscribe = await topic.opening
        except EventsUnavailableError:
            return
        if topic.keeper is not None:
            topic.keeper.cancel()
        await unsubscribe()

    def _heard(self, topic: _Topic, event: JobEvent) -> None:
        topic.heard = True
        topic.newest = max(topic.newest, event.sequence)
        if event.status is JobStatus.COMPLETED:
            topic.wanted.set()  # the event does not say where the archive is, the state does
        else:
            topic.offer(state_of_event(event))

    async def _keep(self, topic: _Topic) -> None:
        """Read the state when that is wanted, or when the job has been quiet for long."""
        pause = self._settle
        while True:
            try:
                async with asyncio.timeout(pause):
                    await topic.wanted.wait()
            except TimeoutError:
                if pause == self._quiet and topic.heard:
                    topic.heard = False
                    continue
            topic.wanted.clear()
            pause = self._quiet if await self._refresh(topic) else self._retry

    async def _refresh(self, topic: _Topic) -> bool:
        """Read and offer the state; return whether it was as new as the newest event."""
        try:
            async with self._reads:
                document = await self._read(topic.job_id, at_least=topic.newest)
        except Exception as error:  # noqa: BLE001 - whatever it was, the clients still wait: try again
            log.warning("state not read", job_id=topic.job_id, error=repr(error))
            return False
        if document is None:
            return False
        topic.offer(state_of_document(document))
        return document.sequence >= topic.newest
