"""What becomes of a message: worked on in order, settled by one rule, and never lost."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext, api

from haulyard_chassis import consume
from haulyard_chassis.broker import Publisher, ensure_consumer
from haulyard_chassis.consume import Delivery, Intake, RetryLater, current_delivery, make_broker, subscribe
from haulyard_chassis.settings import ServiceSettings
from haulyard_contracts import ConsumerSpec, JobAction, JobControl, TaskKind, Topology, encode
from haulyard_devstack import Infra

WAIT = 30.0
"""Seconds after which a test that waits for a signal has failed."""


@dataclass
class Service:
    """A service that takes messages, and what it has seen."""

    settings: ServiceSettings
    topology: Topology
    consumers: tuple[ConsumerSpec, ...]
    slots: int = 1
    patience: int = 100
    grace: float = 10.0
    act: Callable[[str], Awaitable[None]] | None = None
    seen: asyncio.Queue[tuple[str, Delivery]] = field(default_factory=asyncio.Queue)
    dead: asyncio.Queue[tuple[bytes, str]] = field(default_factory=asyncio.Queue)
    running: int = 0
    most: int = 0

    async def _given_up(self, payload: bytes, reason: str) -> None:
        await self.dead.put((payload, reason))

    async def _handle(self, message: JobControl) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        await self.seen.put((message.job_id, current_delivery()))
        try:
            if self.act is not None:
                await self.act(message.job_id)
        finally:
            self.running -= 1

    @asynccontextmanager
    async def started(self) -> AsyncIterator["Service"]:
        """The service, between its start and its stop."""
        broker = make_broker(self.settings, name="test")
        intake = Intake(consumers=self.consumers, slots=self.slots, patience=self.patience, on_dead=self._given_up)
        subscribe(broker, intake, JobControl, topology=self.topology, grace=self.grace)(self._handle)
        await broker.start()
        try:
            yield self
        finally:
            await broker.stop()

    async def next(self) -> tuple[str, Delivery]:
        """Wait for a message to be taken."""
        return await asyncio.wait_for(self.seen.get(), WAIT)


@pytest.fixture
def one(settings: ServiceSettings, topology: Topology) -> Service:
    """A service that takes results, one at a time."""
    return Service(settings, topology, (topology.results_consumer,))


@pytest.fixture
def lanes(settings: ServiceSettings, topology: Topology) -> Service:
    """A service that takes tasks, one at a time."""
    return Service(settings, topology, topology.task_lanes)


def message(name: str) -> JobControl:
    return JobControl(job_id=name, action=JobAction.CANCEL, requested_at=datetime(2026, 11, 24, tzinfo=UTC))


async def send(publisher: Publisher, topology: Topology, name: str, **headers: str) -> None:
    await publisher.publish(topology.result("job_1"), message(name), message_id=name, headers=headers)


async def send_task(publisher: Publisher, topology: Topology, priority: int, number: int) -> None:
    subject = topology.task(priority, TaskKind.PART, "job_1", 1, number)
    await publisher.publish(subject, message(f"{priority}/{number}"), message_id=f"{priority}/{number}")


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Ask the broker until it says so; each question is a round trip."""
    async with asyncio.timeout(WAIT):
        while not await condition():  # noqa: ASYNC110 - the broker has no event for it
            await asyncio.sleep(0.01)


async def is_empty(stream: JetStreamContext, name: str) -> bool:
    return (await stream.stream_info(name)).state.messages == 0


async def test_a_message_that_was_handled_is_gone(
    one: Service, publisher: Publisher, stream: JetStreamContext, topology: Topology
) -> None:
    await send(publisher, topology, "m1", traceparent="t")
    async with one.started():
        name, delivery = await one.next()
        await until(lambda: is_empty(stream, topology.results.name))
    assert (name, delivery.number, delivery.trace) == ("m1", 1, {"traceparent": "t"})
    assert one.seen.empty()


async def test_lanes_are_served_in_order(lanes: Service, publisher: Publisher, topology: Topology) -> None:
    """Whatever came first, and also for what comes while a slot is busy."""
    for number, priority in enumerate([1, 10, 5, 1, 9, 10, 2]):
        await send_task(publisher, topology, priority, number)

    async def more(name: str) -> None:
        if name == "5/2":
            await send_task(publisher, topology, 3, 100)
            await send_task(publisher, topology, 10, 101)

    lanes.act = more
    async with lanes.started():
        order = [(await lanes.next())[0] for _ in range(9)]
    assert order == ["10/1", "10/5", "9/4", "5/2", "10/101", "3/100", "2/6", "1/0", "1/3"]
    assert lanes.most == 1


async def test_urgent_work_delays_the_rest_and_does_not_starve_it(
    lanes: Service, publisher: Publisher, topology: Topology
) -> None:
    """However much more urgent work there is, a lane that waits gets one message in about as many as is said."""
    lanes.patience = 4
    for number in range(4):
        await send_task(publisher, topology, 1, number)
    for number in range(30):
        await send_task(publisher, topology, 10, number)
    for number in range(3):
        await send_task(publisher, topology, 5, number)
    async with lanes.started():
        order = [(await lanes.next())[0].partition("/")[0] for _ in range(37)]
    first = [order.index(priority) for priority in ("10", "5", "1")]
    assert first[0] == 0
    assert max(first) <= 4 + 2, "both lanes that waited got one in between"
    in_between = [place for place, priority in enumerate(order[:30]) if priority != "10"]
    assert all(later - earlier <= 4 + 2 for earlier, later in pairwise(in_between))
    assert order[:30].count("10") >= 20, "and still the urgent one gets most"


async def test_no_more_is_taken_than_there_are_slots(
    lanes: Service, publisher: Publisher, stream: JetStreamContext, topology: Topology
) -> None:
    """Neither worked on nor held back: what has no slot waits at the broker, for others to take."""
    for number in range(12):
        await send_task(publisher, topology, 10 - number % 3, number)
    gate = asyncio.Event()

    async def wait(_: str) -> None:
        await gate.wait()

    lanes.slots, lanes.act = 3, wait
    async with lanes.started():
        taken = [await lanes.next() for _ in range(3)]
        pending = [
            (await stream.consumer_info(lane.stream, lane.durable)).num_ack_pending for lane in topology.task_lanes
        ]
        assert sum(pending) == 3
        gate.set()
        taken += [await lanes.next() for _ in range(9)]
        await until(lambda: is_empty(stream, topology.tasks.name))
    assert lanes.most == 3
    assert Counter(name for name, _ in taken) == Counter(f"{10 - n % 3}/{n}" for n in range(12))
    assert {delivery.number for _, delivery in taken} == {1}


async def test_a_busy_service_draws_no_message_away_from_a_free_one(
    lanes: Service, publisher: Publisher, stream: JetStreamContext, topology: Topology
) -> None:
    """What it waited for while it was idle is withdrawn; else each detour would count as a failed delivery."""
    gate = asyncio.Event()

    async def wait(_: str) -> None:
        await gate.wait()

    async def waiting(count: int) -> bool:
        infos = [await stream.consumer_info(lane.stream, lane.durable) for lane in topology.task_lanes]
        return all(info.num_waiting == count for info in infos)

    lanes.act = wait
    free = replace(lanes, act=None, seen=asyncio.Queue())
    async with lanes.started():
        await until(lambda: waiting(1))
        await send_task(publisher, topology, 5, 0)
        await lanes.next()
        await until(lambda: waiting(0))
        for priority in (1, 5, 10):
            await send_task(publisher, topology, priority, 1)
        async with free.started():
            taken = [await free.next() for _ in range(3)]
        gate.set()
    assert [(name, delivery.number) for name, delivery in taken] == [("10/1", 1), ("5/1", 1), ("1/1", 1)]


async def test_what_is_put_off_comes_again(
    one: Service, publisher: Publisher, stream: JetStreamContext, topology: Topology
) -> None:
    async def later(_: str) -> None:
        if current_delivery().number < 3:
            raise RetryLater("not yet", delay=0.05)

    one.act = later
    await send(publisher, topology, "m1")
    async with one.started():
        assert [(await one.next())[1].number for _ in range(3)] == [1, 2, 3]
        await until(lambda: is_empty(stream, topology.results.name))
    assert one.dead.empty()


async def dead_letter(stream: JetStreamContext, topology: Topology, origin: str) -> api.RawStreamMsg:
    async def is_there() -> bool:
        return not await is_empty(stream, topology.dead_letters.name)

    await until(is_there)
    return await stream.get_last_msg(topology.dead_letters.name, topology.dead(origin))


async def test_what_fails_too_often_is_given_up(
    one: Service,
    publisher: Publisher,
    stream: JetStreamContext,
    topology: Topology,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With pauses between, and with the loss made visible first."""
    paused: list[int] = []

    def backoff(deliveries: int) -> float:
        paused.append(deliveries)
        return 0.02

    async def fail(_: str) -> None:
        raise ValueError("größer\r\nals: erlaubt")

    monkeypatch.setattr(consume, "backoff", backoff)
    one.consumers, one.act = (replace(topology.results_consumer, max_deliver=3),), fail
    await send(publisher, topology, "m1", traceparent="t")
    async with one.started():
        assert [(await one.next())[1].number for _ in range(3)] == [1, 2, 3]
        letter = await dead_letter(stream, topology, topology.results.name)
        await until(lambda: is_empty(stream, topology.results.name))
    assert paused == [1, 2]
    assert one.dead.get_nowait() == (encode(message("m1")), "ValueError('größer\\r\\nals: erlaubt')")
    assert letter.data == encode(message("m1"))
    headers = letter.headers or {}
    assert headers["haulyard-reason"] == "ValueError('gr\\xf6\\xdfer\\r\\nals: erlaubt')"
    assert headers["haulyard-subject"] == topology.result("job_1")
    assert headers["traceparent"] == "t"


async def test_what_is_no_message_is_given_up_at_once(
    one: Service, client: Client, stream: JetStreamContext, topology: Topology
) -> None:
    await client.jetstream().publish(topology.result("job_1"), b'{"no":"message"}')
    async with one.started():
        letter = await dead_letter(stream, topology, topology.results.name)
        await until(lambda: is_empty(stream, topology.results.name))
    assert letter.data == b'{"no":"message"}'
    assert "JobControl" in (letter.headers or {})["haulyard-reason"]
    assert one.dead.get_nowait()[0] == b'{"no":"message"}'
    assert one.seen.empty()


async def test_a_message_is_kept_when_it_cannot_even_be_given_up(
    one: Service,
    client: Client,
    stream: JetStreamContext,
    topology: Topology,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is tried again until the loss could be told."""
    tries: list[bytes] = []

    async def fail_once(payload: bytes, _: str) -> None:
        tries.append(payload)
        if len(tries) == 1:
            raise OSError("the record is away")

    monkeypatch.setattr(consume, "_BACKOFF_MOST", 0.05)
    monkeypatch.setattr(one, "_given_up", fail_once)
    await client.jetstream().publish(topology.result("job_1"), b"nonsense")
    async with one.started():
        await dead_letter(stream, topology, topology.results.name)
        await until(lambda: is_empty(stream, topology.results.name))
    assert tries == [b"nonsense"] * 2


async def test_long_work_is_not_delivered_again(
    one: Service, client: Client, publisher: Publisher, stream: JetStreamContext, topology: Topology
) -> None:
    """Work goes on for several times the acknowledgement time, measured in heartbeats."""
    spec = replace(topology.results_consumer, ack_wait=0.6)
    beats: asyncio.Queue[bytes] = asyncio.Queue()

    async def count(answer: Msg) -> None:
        if answer.data == b"+WPI":
            await beats.put(answer.data)

    async def work(_: str) -> None:
        for _beat in range(8):
            await asyncio.wait_for(beats.get(), WAIT)

    one.consumers, one.act, one.slots = (spec,), work, 2
    watch = await client.subscribe(f"$JS.ACK.{spec.stream}.{spec.durable}.>", cb=count)
    await client.flush()
    await send(publisher, topology, "m1")
    async with one.started():
        assert (await one.next())[1].number == 1
        await until(lambda: is_empty(stream, topology.results.name))
    await watch.unsubscribe()
    assert one.seen.empty()
    assert one.most == 1


async def test_unfinished_work_is_handed_back_at_the_stop(
    one: Service, publisher: Publisher, topology: Topology
) -> None:
    """Another replica has it long before its acknowledgement time is over."""
    cancelled = asyncio.Event()

    async def forever(_: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    one.consumers, one.grace, one.act = (replace(topology.results_consumer, ack_wait=600.0),), 0.05, forever
    other = replace(one, act=None, seen=asyncio.Queue())
    await send(publisher, topology, "m1")
    async with one.started():
        await one.next()
    assert cancelled.is_set()
    async with other.started():
        name, delivery = await other.next()
    assert (name, delivery.number) == ("m1", 2)


async def test_work_that_ends_within_the_grace_is_finished(
    one: Service, publisher: Publisher, stream: JetStreamContext, topology: Topology
) -> None:
    """And nothing new is taken meanwhile."""
    stopping, finished = asyncio.Event(), asyncio.Event()

    async def until_stopping(_: str) -> None:
        await stopping.wait()
        await send(publisher, topology, "m2")
        finished.set()

    one.act, one.slots = until_stopping, 5
    await send(publisher, topology, "m1")
    async with one.started():
        await one.next()
        stopping.set()
    assert finished.is_set()
    assert (await stream.stream_info(topology.results.name)).state.messages == 1
    other = replace(one, act=None, seen=asyncio.Queue())
    async with other.started():
        assert (await other.next())[0] == "m2"


async def test_a_service_can_be_stopped_at_any_moment(one: Service, client: Client) -> None:
    """Also just when the broker answers."""
    for _ in range(20):
        async with one.started():
            pass


async def test_a_consumer_that_was_deleted_is_made_again(
    one: Service, publisher: Publisher, stream: JetStreamContext, topology: Topology
) -> None:
    async with one.started():
        await send(publisher, topology, "m1")
        await one.next()
        await stream.delete_consumer(topology.results.name, topology.results_consumer.durable)
        await send(publisher, topology, "m2")
        names = [(await one.next())[0]]
        while names[-1] != "m2":  # the acknowledgement of the first may have come too late
            names.append((await one.next())[0])


async def test_an_existing_consumer_is_brought_up_to_date(
    one: Service, stream: JetStreamContext, topology: Topology
) -> None:
    spec = topology.results_consumer
    await ensure_consumer(stream, replace(spec, ack_wait=99.0))
    async with one.started():
        assert (await stream.consumer_info(spec.stream, spec.durable)).config.ack_wait == spec.ack_wait


@pytest.mark.fault
async def test_work_goes_on_when_a_killed_broker_is_back(
    one: Service, publisher: Publisher, client: Client, topology: Topology, embedded: Infra
) -> None:
    """What was stored is delivered, and what was in work is settled or delivered again."""
    gate = asyncio.Event()

    async def wait(_: str) -> None:
        await gate.wait()

    one.act, one.consumers = wait, (replace(topology.results_consumer, ack_wait=2.0),)
    async with one.started():
        await send(publisher, topology, "m1")
        await send(publisher, topology, "m2")
        await one.next()
        await embedded.kill("nats")
        gate.set()
        await embedded.start("nats")

        async def connected() -> bool:
            return bool(client.is_connected)

        await until(connected)
        await send(publisher, topology, "m3")
        missing: set[Any] = {"m2", "m3"}
        while missing:
            missing.discard((await one.next())[0])
