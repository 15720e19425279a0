"""The hub: a subscription only while somebody watches, and nothing lost between snapshot and events."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest

from haulyard_chassis.job_state import JobStateUnavailableError
from haulyard_contracts import ArchiveLocation, EventType, JobDocument, JobEvent, JobStatus, Progress
from haulyard_notifier.live.access import Admission
from haulyard_notifier.live.hub import EventsUnavailableError, Hub, NoSuchJobError, TooManyConnectionsError
from haulyard_notifier.live.state import LiveState
from haulyard_notifier.live.watch import Ended, Watch

JOB = "job_1"
ALICE = Admission("alice", must_own=True)
AT = datetime(2026, 1, 1, tzinfo=UTC)
PROGRESS = Progress(current=0, total=1, percentage=0)


def document(sequence: int, status: JobStatus = JobStatus.PROCESSING) -> JobDocument:
    return JobDocument(
        job_id=JOB,
        user_id="alice",
        status=status,
        sequence=sequence,
        progress=PROGRESS,
        files=(),
        created_at=AT,
        updated_at=AT,
        archive=ArchiveLocation(bucket="b", key="k") if status is JobStatus.COMPLETED else None,
    )


def event(sequence: int, status: JobStatus = JobStatus.PROCESSING) -> JobEvent:
    kind = EventType.PROGRESS if status is JobStatus.PROCESSING else EventType(status.value)
    return JobEvent(job_id=JOB, sequence=sequence, type=kind, status=status, progress=PROGRESS, timestamp=AT)


class FakeWorld:
    """A broker and a state to read; `while_reading` runs between the subscription and the answer to a read."""

    def __init__(self) -> None:
        self.state: JobDocument | None = document(3)
        self.deliver: dict[str, Callable[[JobEvent], None]] = {}
        self.subscribed = 0
        self.unsubscribed = asyncio.Event()
        self.refuse = False
        self.unreadable = 0
        self.reads = 0
        self.asked_for: list[int] = []
        self.read_again = asyncio.Event()
        self.while_reading: Callable[[], None] = lambda: None
        self.stream: JobEvent | None = None
        self.unanswered = 0

    async def subscribe(self, job_id: str, deliver: Callable[[JobEvent], None]) -> Callable[[], Awaitable[None]]:
        await asyncio.sleep(0)
        if self.refuse:
            raise EventsUnavailableError
        self.subscribed += 1
        self.deliver[job_id] = deliver

        async def unsubscribe() -> None:
            del self.deliver[job_id]
            self.unsubscribed.set()

        return unsubscribe

    async def read(self, job_id: str, *, at_least: int) -> JobDocument | None:
        assert job_id in self.deliver, "the subscription must be there before the state is read"
        found = self.state
        self.asked_for.append(at_least)
        self.while_reading()
        await asyncio.sleep(0)
        self.reads += 1
        if self.unreadable:
            self.unreadable -= 1
            raise JobStateUnavailableError("record")
        return found

    async def newest(self, job_id: str) -> JobEvent | None:
        await asyncio.sleep(0)
        self.read_again.set()
        if self.unanswered:
            self.unanswered -= 1
            raise EventsUnavailableError
        return self.stream

    def hub(self, *, settle: float = 60.0, quiet: float = 60.0, most_of_user: int = 9, most_of_job: int = 9) -> Hub:
        return Hub(
            self,
            self.read,
            interval=0.0,
            most_of_user=most_of_user,
            most_of_job=most_of_job,
            settle=settle,
            quiet=quiet,
            retry=0.001,
        )


async def told(watch: Watch) -> LiveState:
    async with asyncio.timeout(5):
        state = await watch.next()
    assert isinstance(state, LiveState)
    return state


async def test_the_snapshot_comes_first_then_what_is_newer() -> None:
    world = FakeWorld()
    hub = world.hub()
    watch = await hub.join(JOB, ALICE)
    assert (await told(watch)).sequence == 3
    world.deliver[JOB](event(3))
    world.deliver[JOB](event(4))
    assert (await told(watch)).sequence == 4
    assert await watch.next(patience=0.0) is None
    await hub.close()


async def test_an_event_during_the_read_is_not_lost_nor_followed_by_the_older_snapshot() -> None:
    world = FakeWorld()
    hub = world.hub()
    world.while_reading = lambda: world.deliver[JOB](event(4)) if not world.reads else None
    watch = await hub.join(JOB, ALICE)
    assert (await told(watch)).sequence == 4
    assert await watch.next(patience=0.0) is None
    await hub.close()


async def test_a_newer_snapshot_of_one_client_is_told_to_the_others_before_its_event_comes() -> None:
    world = FakeWorld()
    hub = world.hub()
    early = await hub.join(JOB, ALICE)
    await told(early)
    world.state = document(4)
    late = await hub.join(JOB, ALICE)
    world.deliver[JOB](event(4))
    assert [(await told(watch)).sequence for watch in (early, late)] == [4, 4]
    assert [await watch.next(patience=0.0) for watch in (early, late)] == [None, None]
    await hub.close()


async def test_without_a_state_to_read_a_finished_job_is_told_when_there_is_one() -> None:
    world = FakeWorld()
    world.unreadable, world.stream = 3, event(5, JobStatus.COMPLETED)
    world.state = document(5, JobStatus.COMPLETED)
    hub = world.hub()
    watch = await hub.join(JOB, Admission("bob", must_own=False))
    assert (await told(watch)).archive == ArchiveLocation(bucket="b", key="k")
    await hub.close()


async def test_many_clients_of_a_job_share_a_subscription_that_ends_with_the_last() -> None:
    world = FakeWorld()
    hub = world.hub()
    watches = await asyncio.gather(*(hub.join(JOB, ALICE) for _ in range(5)))
    assert (world.subscribed, hub.watched) == (1, 1)
    for watch in watches[1:]:
        hub.leave(watch)
    assert hub.watched == 1
    world.deliver[JOB](event(9))
    assert (await told(watches[0])).sequence == 9
    hub.leave(watches[0])
    hub.leave(watches[0])
    await asyncio.wait_for(world.unsubscribed.wait(), 5)
    assert hub.watched == 0
    await hub.close()


@pytest.mark.parametrize("owner", ["mallory", "alice"])
async def test_a_foreign_job_is_no_job_and_leaves_no_subscription(owner: str) -> None:
    world = FakeWorld()
    if owner == "alice":
        world.state = None
    hub = world.hub()
    with pytest.raises(NoSuchJobError):
        await hub.join(JOB, Admission(owner, must_own=True))
    await asyncio.wait_for(world.unsubscribed.wait(), 5)
    assert hub.watched == 0
    await hub.close()


async def test_a_ticket_needs_no_owner() -> None:
    hub = FakeWorld().hub()
    assert (await told(await hub.join(JOB, Admission("bob", must_own=False)))).sequence == 3
    await hub.close()


async def test_a_refused_subscription_leaves_nothing_behind() -> None:
    world = FakeWorld()
    world.refuse = True
    hub = world.hub()
    with pytest.raises(EventsUnavailableError):
        await hub.join(JOB, ALICE)
    assert hub.watched == 0
    world.refuse = False
    assert (await told(await hub.join(JOB, ALICE))).sequence == 3
    await hub.close()


async def test_an_unreadable_state_leaves_nothing_behind() -> None:
    world = FakeWorld()
    world.unreadable = 1
    hub = world.hub()
    with pytest.raises(JobStateUnavailableError):
        await hub.join(JOB, ALICE)
    assert hub.watched == 0
    await hub.close()


async def test_completion_is_told_with_the_place_of_the_archive_even_if_reading_fails_at_first() -> None:
    world = FakeWorld()
    hub = world.hub()
    watch = await hub.join(JOB, ALICE)
    await told(watch)
    world.state = document(5, JobStatus.COMPLETED)
    world.unreadable = 2
    world.deliver[JOB](event(5, JobStatus.COMPLETED))
    state = await told(watch)
    assert (state.sequence, state.archive) == (5, ArchiveLocation(bucket="b", key="k"))
    assert world.asked_for == [0, 5, 5, 5]
    assert await watch.next() is Ended.OVER
    await hub.close()


async def test_failure_is_told_at_once() -> None:
    world = FakeWorld()
    hub = world.hub()
    watch = await hub.join(JOB, ALICE)
    await told(watch)
    world.deliver[JOB](event(5, JobStatus.FAILED))
    assert (await told(watch)).status is JobStatus.FAILED
    assert await watch.next() is Ended.OVER
    await hub.close()


async def test_after_a_reconnect_the_stream_is_asked_what_was_missed() -> None:
    world = FakeWorld()
    hub = world.hub()
    watch = await hub.join(JOB, ALICE)
    await told(watch)
    world.stream = event(8)
    hub.refresh_all()
    assert (await told(watch)).sequence == 8
    await hub.close()


@pytest.mark.parametrize("unanswered", [0, 3])
async def test_of_a_quiet_job_the_stream_is_asked_again_and_again(unanswered: int) -> None:
    world = FakeWorld()
    world.unanswered = unanswered
    hub = world.hub(settle=0.001, quiet=0.001)
    watch = await hub.join(JOB, ALICE)
    await told(watch)
    await asyncio.wait_for(world.read_again.wait(), 5)
    world.stream = event(6)
    assert (await told(watch)).sequence == 6
    await hub.close()


async def test_a_missed_completion_is_told_with_the_place_of_the_archive() -> None:
    world = FakeWorld()
    hub = world.hub()
    watch = await hub.join(JOB, ALICE)
    await told(watch)
    world.state, world.stream = document(5, JobStatus.COMPLETED), event(5, JobStatus.COMPLETED)
    hub.refresh_all()
    assert (await told(watch)).archive == ArchiveLocation(bucket="b", key="k")
    await hub.close()


async def test_without_a_state_to_read_a_ticket_is_good_for_what_the_stream_has() -> None:
    world = FakeWorld()
    world.unreadable, world.stream = 2, event(4)
    hub = world.hub()
    assert (await told(await hub.join(JOB, Admission("bob", must_own=False)))).sequence == 4
    with pytest.raises(JobStateUnavailableError):  # an event does not say whose job it is
        await hub.join(JOB, ALICE)
    await hub.close()


async def test_nobody_has_more_connections_than_are_allowed() -> None:
    hub = FakeWorld().hub(most_of_user=2)
    first, _ = await hub.join(JOB, ALICE), await hub.join(JOB, ALICE)
    with pytest.raises(TooManyConnectionsError):
        await hub.join(JOB, ALICE)
    await hub.join(JOB, Admission("bob", must_own=False))
    hub.leave(first)
    await hub.join(JOB, ALICE)
    assert hub.watching == 3
    await hub.close()
    assert hub.watching == 0


async def test_no_job_has_more_connections_than_are_allowed() -> None:
    hub = FakeWorld().hub(most_of_job=1)
    await hub.join(JOB, ALICE)
    with pytest.raises(TooManyConnectionsError):
        await hub.join(JOB, Admission("bob", must_own=False))
    await hub.close()


async def test_clients_are_sent_away_one_after_the_other() -> None:
    hub = FakeWorld().hub()
    watches = [await hub.join(JOB, ALICE) for _ in range(5)]
    for watch in watches:
        await told(watch)
    ended = []
    for number, watch in enumerate(watches):
        watch.listen(lambda number=number: ended.append(number))  # type: ignore[misc] # mypy sees no default here
    leaving = asyncio.create_task(hub.end_all(within=0.05))
    await asyncio.sleep(0)
    assert len(ended) == 1
    assert hub.is_closed
    await leaving
    assert sorted(ended) == [0, 1, 2, 3, 4]
    await hub.close()


async def test_a_client_that_has_seen_the_end_is_over_at_once() -> None:
    world = FakeWorld()
    world.state = document(5, JobStatus.COMPLETED)
    hub = world.hub()
    watch = await hub.join(JOB, ALICE, after=5)
    assert watch.is_over
    assert await watch.next() is Ended.OVER
    await hub.close()


async def test_when_the_process_stops_clients_are_told_to_come_back_also_late_ones() -> None:
    world = FakeWorld()
    hub = world.hub()
    watch = await hub.join(JOB, ALICE)
    await told(watch)
    await hub.end_all()
    assert await watch.next() is Ended.RESTART
    late = await hub.join(JOB, ALICE)
    await told(late)
    assert await late.next() is Ended.RESTART
    await hub.close()
    assert hub.watched == 0


async def test_a_client_that_left_is_sent_nothing() -> None:
    world = FakeWorld()
    hub = world.hub()
    watch = await hub.join(JOB, ALICE)
    watch.end(Ended.GONE)
    watch.end(Ended.RESTART)
    assert await watch.next() is Ended.GONE
    await hub.close()
