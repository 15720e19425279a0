"""Who watches what: one subscription for each watched job, however many clients watch it, and none for the others.

Nothing is lost between the snapshot and the events after it, because the subscription is there before the state is
read, and the orchestrator writes a state before it publishes the event of it: an event from before the subscription
is in the snapshot, one from after it is delivered. What the broker may still lose (it delivers at most once, a
connection may break, a new subscription may not yet be known to all servers of a cluster) is made good from the
stream, which has every event: shortly after the first client came, when the connection is back, and when a job has
been quiet for long.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Protocol

from haulyard_chassis.job_state import JobStateUnavailableError
from haulyard_chassis.logs import get_logger
from haulyard_chassis.tasks import cancel_and_wait
from haulyard_contracts import JobDocument, JobEvent, JobStatus
from haulyard_notifier.live.access import Admission
from haulyard_notifier.live.pending import Pending
from haulyard_notifier.live.state import LiveState, state_of_document, state_of_event
from haulyard_notifier.live.watch import Ended, Watch
from haulyard_notifier.measures import DELAY

log = get_logger(__name__)

_SETTLE = 1.0
"""Seconds after which a job is looked up once more when its first client has come."""
_QUIET = 30.0
"""Seconds without an event after which a job is looked up."""
_RETRY = 1.0
"""Seconds before another try when that failed."""
_READS = 64
"""Jobs that are looked up at the same time; after a reconnect every watched job is."""
_SWEEP = 1.0
"""Seconds between two looks at which jobs have been quiet: one task for all of them."""

Unsubscribe = Callable[[], Awaitable[None]]


class NoSuchJobError(Exception):
    """There is no such job, or it is not for this user to see."""


class EventsUnavailableError(Exception):
    """The broker takes no subscription now, or does not say what its stream holds; try again later."""


class TooManyConnectionsError(Exception):
    """The user, or the job, has as many connections to this process as it may have; close one, or poll."""


class EventSource(Protocol):
    """Where events come from."""

    async def subscribe(self, job_id: str, deliver: Callable[[JobEvent], None]) -> Unsubscribe:
        """Call ``deliver`` with each event of a job that is published from when this returns on.

        Raises:
            EventsUnavailableError
        """

    async def newest(self, job_id: str) -> JobEvent | None:
        """Return the newest event of a job that the stream holds.

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


class _Topic:
    """One watched job."""

    __slots__ = ("due", "is_fetching", "job_id", "newest", "opening", "unsubscribe", "watches")

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.watches: set[Watch] = set()
        self.newest = 0
        """Highest sequence heard of."""
        self.due = float("inf")
        """When the stream is to be asked, if no event comes before."""
        self.is_fetching = False
        """Whether the stream is being asked, or the state read, already."""
        self.opening: asyncio.Task[None] | None = None
        """None when the subscription is there."""
        self.unsubscribe: Unsubscribe | None = None

    def offer(self, state: LiveState) -> None:
        for watch in self.watches:
            watch.offer(state)


class Hub:
    """All watches of this process.

    Args:
        source: where events come from.
        read: how a state is read.
        interval: seconds between two progress messages to a client.
        most_of_user: connections that one user may have.
        most_of_job: connections that one job may have.
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
        most_of_user: int = 1_000_000,
        most_of_job: int = 1_000_000,
        settle: float = _SETTLE,
        quiet: float = _QUIET,
        retry: float = _RETRY,
    ) -> None:
        self._source = source
        self._read = read
        self._interval = interval
        self._most_of_user = most_of_user
        self._most_of_job = most_of_job
        self._settle = settle
        self._quiet = quiet
        self._retry = retry
        self._topics: dict[str, _Topic] = {}
        self._of_user: Counter[str] = Counter()
        self._reads = asyncio.Semaphore(_READS)
        self._errands: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def watched(self) -> int:
        """Jobs that somebody watches."""
        return len(self._topics)

    @property
    def watching(self) -> int:
        """Clients that watch a job."""
        return self._of_user.total()

    @property
    def is_closed(self) -> bool:
        """Whether clients are sent elsewhere."""
        return self._is_closed

    async def join(self, job_id: str, admission: Admission, *, after: int = 0) -> Watch:
        """Begin to watch a job; end it with `leave`.

        Args:
            job_id: a valid job id.
            admission: who watches.
            after: the sequence that the client has seen; 0 for none.

        Raises:
            NoSuchJobError, TooManyConnectionsError, EventsUnavailableError,
            haulyard_chassis.job_state.JobStateUnavailableError
        """
        if self._of_user[admission.user_id] >= self._most_of_user:
            raise TooManyConnectionsError(f"{admission.user_id} has {self._most_of_user}")
        topic = self._topics.get(job_id)
        if topic is None:
            topic = self._topics[job_id] = _Topic(job_id)
            topic.opening = asyncio.create_task(self._open(topic), name=f"open:{job_id}")
        elif len(topic.watches) >= self._most_of_job:
            raise TooManyConnectionsError(f"{job_id} has {self._most_of_job}")
        watch = Watch(job_id, admission.user_id, Pending(interval=self._interval, after=after))
        topic.watches.add(watch)
        self._of_user[admission.user_id] += 1
        try:
            if topic.opening is not None:
                await asyncio.shield(topic.opening)
            snapshot = await self._snapshot(topic, admission)
        except BaseException:
            self.leave(watch)
            raise
        if snapshot is not None:
            watch.begin(snapshot)
            if snapshot.sequence > topic.newest:
                # Its event is still to come, and will be nothing new then: so it is told now, to everybody.
                topic.newest = snapshot.sequence
                topic.offer(snapshot)
        if self._is_closed:
            watch.end(Ended.RESTART)
        return watch

    async def _snapshot(self, topic: _Topic, admission: Admission) -> LiveState | None:
        """Return the job's state; None if it will be offered as soon as it can be read."""
        try:
            async with self._reads:
                document = await self._read(topic.job_id, at_least=0)
        except JobStateUnavailableError:
            # An event does not say whose job it is; a ticket does.
            event = None if admission.must_own else await self._source.newest(topic.job_id)
            if event is None:
                raise
            if event.status is JobStatus.COMPLETED:
                self._fetch(topic)
                return None
            return state_of_event(event)
        if document is None or (admission.must_own and document.user_id != admission.user_id):
            raise NoSuchJobError(topic.job_id)
        return state_of_document(document)

    def leave(self, watch: Watch) -> None:
        """End a watch; with the last one of a job its subscription ends too."""
        topic = self._topics.get(watch.job_id)
        if topic is None or watch not in topic.watches:
            return
        topic.watches.remove(watch)
        self._of_user[watch.user_id] -= 1
        if not self._of_user[watch.user_id]:
            del self._of_user[watch.user_id]
        if not topic.watches:
            del self._topics[watch.job_id]
            self._send_off(self._shut(topic), f"shut:{watch.job_id}")

    def refresh_all(self) -> None:
        """Ask the stream for what may have been missed of every watched job."""
        for topic in self._topics.values():
            topic.due = 0.0
        self._sweep()

    async def end_all(self, *, within: float = 0.0) -> None:
        """Tell every client, also those that still come, to go on elsewhere; return when all have been told.

        Args:
            within: seconds over which they are spread, so that they do not all come to another process at once.
        """
        self._is_closed = True
        watches = [watch for topic in self._topics.values() for watch in topic.watches]
        random.shuffle(watches)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for number, watch in enumerate(watches):
            pause = begun + within * number / len(watches) - loop.time()
            if pause > 0:
                await asyncio.sleep(pause)
            watch.end(Ended.RESTART)

    async def close(self) -> None:
        """End all watches and subscriptions."""
        await self.end_all()
        for topic in list(self._topics.values()):
            for watch in list(topic.watches):
                self.leave(watch)
        if self._sweeper is not None:
            await cancel_and_wait(self._sweeper)
        while self._errands:
            await asyncio.wait(self._errands)

    def _send_off(self, errand: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(errand, name=name)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    async def _open(self, topic: _Topic) -> None:
        topic.unsubscribe = await self._source.subscribe(topic.job_id, lambda event: self._heard(topic, event))
        topic.due = asyncio.get_running_loop().time() + self._settle
        topic.opening = None
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep_often(), name="sweep")

    async def _shut(self, topic: _Topic) -> None:
        if topic.opening is not None:
            try:
                await topic.opening
            except EventsUnavailableError:
                return
        if topic.unsubscribe is not None:
            await topic.unsubscribe()

    def _heard(self, topic: _Topic, event: JobEvent) -> None:
        if event.sequence <= topic.newest:
            return
        topic.newest = event.sequence
        DELAY.observe(max(0.0, (datetime.now(UTC) - event.timestamp).total_seconds()))
        topic.due = asyncio.get_running_loop().time() + self._quiet
        if event.status is JobStatus.COMPLETED:
            self._fetch(topic)  # the event does not say where the archive is, the state does
        else:
            topic.offer(state_of_event(event))

    async def _sweep_often(self) -> None:
        while True:
            await asyncio.sleep(min(_SWEEP, self._settle, self._quiet))
            self._sweep()

    def _sweep(self) -> None:
        """Ask the stream for the jobs of which nothing was heard for too long."""
        now = asyncio.get_running_loop().time()
        for topic in self._topics.values():
            if topic.due <= now and not topic.is_fetching:
                topic.is_fetching = True
                topic.due = now + self._quiet
                self._send_off(self._look_up(topic), f"look up:{topic.job_id}")

    async def _look_up(self, topic: _Topic) -> None:
        event = None
        try:
            async with self._reads:
                event = await self._source.newest(topic.job_id)
        except EventsUnavailableError as error:
            log.warning("events not looked up", job_id=topic.job_id, error=repr(error))
            topic.due = asyncio.get_running_loop().time() + self._retry
        finally:
            topic.is_fetching = False
        if event is not None:
            self._heard(topic, event)

    def _fetch(self, topic: _Topic) -> None:
        """Read the state until it is as new as what was heard, and offer it."""
        self._send_off(self._fetch_state(topic), f"fetch:{topic.job_id}")

    async def _fetch_state(self, topic: _Topic) -> None:
        while topic.watches:
            try:
                async with self._reads:
                    document = await self._read(topic.job_id, at_least=topic.newest)
            except Exception as error:  # noqa: BLE001 - whatever it was, the clients still wait: try again
                log.warning("state not read", job_id=topic.job_id, error=repr(error))
                document = None
            if document is not None:
                topic.offer(state_of_document(document))
                if document.sequence >= topic.newest:
                    return
            await asyncio.sleep(self._retry)
