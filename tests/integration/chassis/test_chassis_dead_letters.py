"""Messages that were given up: how they come there, and what operators can do with them."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from haulyard_chassis.broker import BrokerUnavailableError, Publisher, connect_broker
from haulyard_chassis.consume import Intake, make_broker, subscribe
from haulyard_chassis.dead_letters import REASON, SUBJECT, DeadLetters, NotReplayableError
from haulyard_chassis.settings import ServiceSettings
from haulyard_contracts import JobRequested, Topology, decode, encode

NOW = datetime(2026, 11, 25, tzinfo=UTC)
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def dead(stream: JetStreamContext, publisher: Publisher, topology: Topology) -> DeadLetters:
    return DeadLetters(stream, publisher, topology)


def request(job_id: str, user_id: str = "ann") -> bytes:
    return encode(JobRequested(job_id=job_id, user_id=user_id, file_ids=(1,), created_at=NOW))


async def bury(
    stream: JetStreamContext,
    topology: Topology,
    *,
    payload: bytes = b"{}",
    name: str | None = None,
    subject: str | None = None,
    **headers: str,
) -> int:
    """Put a message where those are that were given up; return its sequence."""
    own = {SUBJECT: subject} if subject else {}
    ack = await stream.publish(
        topology.dead(name or topology.jobs.name), payload, headers={REASON: "it would not go", **own, **headers}
    )
    return ack.seq


async def taken(stream: JetStreamContext, name: str) -> list[tuple[str, bytes, dict[str, str]]]:
    """Return what is in a stream."""
    info = await stream.stream_info(name)
    found = []
    for sequence in range(info.state.first_seq, info.state.last_seq + 1 if info.state.messages else 0):
        message = await stream.get_msg(name, seq=sequence)
        found.append((message.subject or "", message.data or b"", dict(message.headers or {})))
    return found


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110 - the broker has no event for it
            await asyncio.sleep(0.01)


async def test_bytes_that_are_no_message_are_given_up_even_where_somebody_should_be_told(
    dead: DeadLetters, settings: ServiceSettings, topology: Topology, client: Client, stream: JetStreamContext
) -> None:
    """Who should be told is in the message, which nobody can read: it must not come for ever."""
    told: list[str] = []

    async def tell(payload: bytes, _: str) -> None:
        told.append(decode(payload, JobRequested).job_id)

    async def handle(_: JobRequested) -> None:
        raise AssertionError

    subject = topology.job_requested(5, "job_1")
    await client.jetstream().publish(subject, b"nonsense", headers={"traceparent": TRACE, "Nats-Msg-Id": "job_1"})
    broker = make_broker(settings, name="test")
    intake = Intake(consumers=(topology.requests_consumer,), slots=1, on_dead=tell)
    subscribe(broker, intake, JobRequested, topology=topology, grace=1.0)(handle)
    await broker.start()
    try:

        async def is_given_up() -> bool:
            return await dead.last() > 0 and (await stream.stream_info(topology.jobs.name)).state.messages == 0

        await until(is_given_up)
    finally:
        await broker.stop()
    assert told == []
    (letter,) = await dead.page(limit=10)
    assert (letter.stream, letter.subject, letter.payload) == ("jobs", subject, b"nonsense")
    assert letter.headers == {"traceparent": TRACE}
    assert letter.traceparent == TRACE
    assert "JobRequested" in letter.reason
    assert abs(letter.given_up_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert await dead.get(letter.sequence) == letter


async def test_pages_go_from_the_oldest_to_the_newest(
    dead: DeadLetters, stream: JetStreamContext, topology: Topology
) -> None:
    assert await dead.page(limit=5) == []
    jobs = [await bury(stream, topology) for _ in range(3)]
    tasks = [await bury(stream, topology, name=topology.tasks.name) for _ in range(2)]
    assert [letter.sequence for letter in await dead.page(limit=2)] == jobs[:2]
    assert [letter.sequence for letter in await dead.page(limit=9, after=jobs[1])] == [jobs[2], *tasks]
    assert [letter.sequence for letter in await dead.page(limit=9, stream="tasks")] == tasks
    assert await dead.page(limit=9, stream="events") == []
    assert await dead.page(limit=9, after=tasks[-1]) == []
    assert await dead.page(limit=0) == []


async def test_a_message_is_sent_again_as_it_was(
    dead: DeadLetters, stream: JetStreamContext, topology: Topology
) -> None:
    """With its trace, to its subject, and with an id that its stream does not know."""
    subject = topology.job_requested(7, "job_1")
    first = await stream.publish(subject, request("job_1"), headers={"Nats-Msg-Id": "job_1"})
    await stream.delete_msg(topology.jobs.name, first.seq)
    sequence = await bury(stream, topology, payload=request("job_1"), subject=subject, traceparent=TRACE, extra="x")
    assert await dead.replay(sequence)
    ((sent_to, payload, headers),) = await taken(stream, topology.jobs.name)
    assert (sent_to, payload) == (subject, request("job_1"))
    assert headers.pop("Nats-Msg-Id") not in ("", "job_1")
    assert headers == {"traceparent": TRACE, "extra": "x"}
    assert await dead.page(limit=1) == []
    assert not await dead.replay(sequence)


async def test_a_message_that_was_sent_and_not_deleted_is_not_sent_twice(
    dead: DeadLetters, stream: JetStreamContext, topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = topology.result("job_1")
    sequence = await bury(stream, topology, name=topology.results.name, subject=subject)

    async def away(_: int) -> bool:
        raise BrokerUnavailableError("gone")

    with monkeypatch.context() as broken:
        broken.setattr(dead, "drop", away)
        with pytest.raises(BrokerUnavailableError):
            await dead.replay(sequence)
    assert await dead.replay(sequence)
    assert len(await taken(stream, topology.results.name)) == 1


async def test_of_two_who_send_it_at_once_it_is_sent_once(
    dead: DeadLetters, stream: JetStreamContext, topology: Topology
) -> None:
    sequence = await bury(stream, topology, name=topology.results.name, subject=topology.result("job_1"))
    await asyncio.gather(*(dead.replay(sequence) for _ in range(5)))
    assert len(await taken(stream, topology.results.name)) == 1
    assert await dead.page(limit=1) == []


async def test_a_message_whose_place_is_taken_is_gone_and_the_other_stays(
    dead: DeadLetters, stream: JetStreamContext, topology: Topology
) -> None:
    subject = topology.job_requested(5, "job_1")
    await stream.publish(subject, b"the other")
    assert await dead.replay(await bury(stream, topology, subject=subject))
    assert [payload for _, payload, _ in await taken(stream, topology.jobs.name)] == [b"the other"]
    assert await dead.page(limit=1) == []


@pytest.mark.parametrize(
    "subject", [None, "elsewhere.jobs.requested.5.job_1", "{}.dead.X", "{}.events.v1.job_1.failed"]
)
async def test_what_came_from_nowhere_stays(
    dead: DeadLetters, stream: JetStreamContext, topology: Topology, subject: str | None
) -> None:
    sequence = await bury(stream, topology, subject=subject and subject.format(topology.namespace))
    with pytest.raises(NotReplayableError):
        await dead.replay(sequence)
    assert await dead.get(sequence) is not None


async def test_all_are_sent_again_and_none_for_ever(
    dead: DeadLetters, stream: JetStreamContext, topology: Topology
) -> None:
    """Those that cannot be are counted, and those that are given up again meanwhile are left alone."""
    subjects = [topology.result(f"job_{number}") for number in range(4)]
    sequences = [await bury(stream, topology, name=topology.results.name, subject=subject) for subject in subjects]
    kept = await bury(stream, topology)
    until_now = await dead.last()
    again = await bury(stream, topology, name=topology.results.name, subject=topology.result("job_9"))
    first = await dead.replay_all(limit=3, until=until_now)
    assert (first.replayed, first.kept, first.last) == (3, 0, sequences[2])
    rest = await dead.replay_all(limit=3, until=until_now, after=sequences[2])
    assert (rest.replayed, rest.kept, rest.last) == (1, 1, None)
    assert [subject for subject, *_ in await taken(stream, topology.results.name)] == subjects
    assert [letter.sequence for letter in await dead.page(limit=9)] == [kept, again]
    only = await dead.replay_all(limit=9, until=again, stream="results")
    assert (only.replayed, only.kept, only.last) == (1, 0, None)


async def test_messages_are_dropped_one_by_one_or_all(
    dead: DeadLetters, stream: JetStreamContext, topology: Topology
) -> None:
    sequence = await bury(stream, topology)
    assert await dead.drop(sequence)
    assert not await dead.drop(sequence)
    assert not await dead.drop(99_999)
    assert await dead.get(sequence) is None
    for _ in range(3):
        await bury(stream, topology)
    await bury(stream, topology, name=topology.tasks.name)
    assert await dead.drop_all(stream="jobs") == 3
    assert await dead.drop_all(stream="jobs") == 0
    assert await dead.drop_all() == 1
    assert await dead.page(limit=1) == []


async def test_what_names_a_user_or_their_jobs_is_forgotten(
    dead: DeadLetters, stream: JetStreamContext, topology: Topology
) -> None:
    """And nothing that only looks like it."""
    gone = [
        await bury(stream, topology, payload=request("job_1")),
        await bury(stream, topology, payload=json.dumps({"job_id": "job_2"}).encode(), name=topology.results.name),
        await bury(stream, topology, payload=b"nonsense", subject=topology.job_requested(5, "job_2")),
        await bury(stream, topology, payload=b'broken {"user_id": "ann"'),
        await bury(stream, topology, payload=b'broken {"job_id": "job_2"'),
    ]
    stay = [
        await bury(stream, topology, payload=request("job_3", "anna"), subject=topology.job_requested(5, "job_3")),
        await bury(stream, topology, payload=b"ann"),
        await bury(stream, topology, payload=b"[1]"),
        await bury(stream, topology, payload=b""),
    ]
    assert await dead.forget(user_id="ann", job_ids=["job_2"]) == len(gone)
    assert [letter.sequence for letter in await dead.page(limit=99)] == stay
    assert await dead.forget() == 0
    assert len(await dead.page(limit=99)) == len(stay)


async def test_a_broker_that_is_away_is_told(settings: ServiceSettings, topology: Topology, client: Client) -> None:
    lost = await connect_broker(settings, name="lost")
    dead = DeadLetters(lost.jetstream(timeout=1), Publisher(lost), topology)
    await lost.close()
    for ask in (dead.page(limit=1), dead.get(1), dead.last(), dead.replay(1), dead.drop(1), dead.drop_all()):
        with pytest.raises(BrokerUnavailableError):
            await ask
