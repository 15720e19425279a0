"""Messages that were given up: see them, send them again, drop them.

`haulyard_chassis.consume` moves a message to the dead stream when its bytes are no message, or when it was delivered
too often in vain. There it stays for 30 days with the reason, the subject that it had and its trace, until an operator
replays or drops it, or the user is forgotten whom it names.
"""

from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import nats.errors
import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg

from haulyard_chassis.broker import MESSAGE_ID, TRACEPARENT, AlreadyPendingError, BrokerUnavailableError, Publisher
from haulyard_chassis.logs import get_logger
from haulyard_contracts import Topology

log = get_logger(__name__)

REASON = "haulyard-reason"
"""Header that says why a message was given up."""
SUBJECT = "haulyard-subject"
"""Header with the subject that it had."""

STREAMS = ("jobs", "tasks", "results", "events")
"""The streams from which messages can be given up, by their short names."""

_INTERNAL = "nats-"
"""Headers that mean something to the broker begin so: they were for the first way, and are not sent again."""


class NotReplayableError(Exception):
    """It is not known where the message came from, or that is no place where messages of ours go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message that was given up."""

    sequence: int
    """Its place in the dead stream, by which it is named."""
    stream: str
    """Of `STREAMS`, the one that it was in."""
    subject: str | None
    """That it had; None if that is not known."""
    reason: str
    given_up_at: datetime
    headers: dict[str, str]
    """That it had, without those for the broker."""
    payload: bytes

    @property
    def traceparent(self) -> str | None:
        """The trace that it belongs to (W3C Trace Context)."""
        return self.headers.get(TRACEPARENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What became of many messages that were to be sent again."""

    replayed: int
    kept: int
    """That could not be, and stay where they are."""
    last: int | None
    """Where to go on; None if these were all."""


class DeadLetters:
    """The dead stream of one installation. Every method raises `BrokerUnavailableError` when the broker is away."""

    def __init__(self, stream: JetStreamContext, publisher: Publisher, topology: Topology) -> None:
        self._stream = stream
        self._publisher = publisher
        self._topology = topology
        self._name = topology.dead_letters.name
        specs = (topology.jobs, topology.tasks, topology.results, topology.events)
        self._names = dict(zip(STREAMS, (spec.name for spec in specs), strict=True))
        self._subjects = {short: topology.dead(name) for short, name in self._names.items()}

    async def page(self, *, limit: int, after: int = 0, stream: str | None = None) -> list[DeadLetter]:
        """Return messages that were given up, the oldest first.

        Args:
            limit: how many at most.
            after: the sequence of the last one that is known.
            stream: only those from this one of `STREAMS`.
        """
        found: list[DeadLetter] = []
        if limit > 0:
            async for letter in self._walk(after=after, stream=stream):
                found.append(letter)
                if len(found) == limit:
                    break
        return found

    async def get(self, sequence: int) -> DeadLetter | None:
        """Return one message, or None if it is not there, or not any more."""
        with _translated():
            try:
                return self._letter(await self._stream.get_msg(self._name, seq=sequence))
            except nats.js.errors.NotFoundError:
                return None

    async def last(self) -> int:
        """Return the sequence of the message that was given up last, be it there or not; 0 if there never was one."""
        with _translated():
            return (await self._stream.stream_info(self._name)).state.last_seq

    # Sending again

    async def replay(self, sequence: int) -> bool:
        """Send a message again, as it was, to where it was; return False if it is not there.

        Done twice, or again after it broke off, it is sent once.

        Raises:
            NotReplayableError: it stays where it is.
        """
        letter = await self.get(sequence)
        if letter is None:
            return False
        await self._send(letter)
        await self.drop(sequence)
        log.info("dead letter replayed", sequence=sequence, subject=letter.subject)
        return True

    async def replay_all(self, *, limit: int, until: int, after: int = 0, stream: str | None = None) -> Replayed:
        """Send many messages again, the oldest first.

        Args:
            limit: how many at most.
            until: the last one of them: those that are given up once more come behind it, and are not sent for ever.
            after: the last one that was dealt with before.
            stream: only those from this one of `STREAMS`.
        """
        replayed = kept = 0
        async for letter in self._walk(after=after, stream=stream):
            if letter.sequence > until:
                break
            if replayed + kept == limit:
                return Replayed(replayed=replayed, kept=kept, last=after)
            after = letter.sequence
            try:
                replayed += await self.replay(letter.sequence)
            except NotReplayableError as error:
                log.warning("dead letter not replayed", sequence=letter.sequence, reason=str(error))
                kept += 1
        return Replayed(replayed=replayed, kept=kept, last=None)

    async def _send(self, letter: DeadLetter) -> None:
        subject = letter.subject
        if subject is None:
            raise NotReplayableError("the subject that the message had is not known")
        if not subject.startswith(f"{self._topology.namespace}.{letter.stream}.") or letter.stream not in STREAMS:
            raise NotReplayableError(f"messages are not sent to {subject}")
        # Not its own id, which the stream may remember as done; but one that is the same when this is done twice.
        headers = {**letter.headers, MESSAGE_ID: f"{self._name}:{letter.sequence}"}
        try:
            await self._publisher.publish_raw(subject, letter.payload, headers)
        except AlreadyPendingError:
            log.info("the same message is waiting already", sequence=letter.sequence, subject=subject)

    # Dropping

    async def drop(self, sequence: int) -> bool:
        """Delete a message; return False if it is not there."""
        try:
            with _translated():
                return await self._stream.delete_msg(self._name, sequence)
        except BrokerUnavailableError:
            # What is not there is a bad request or a fault of the server's to it, depending on the sequence.
            if await self.get(sequence) is not None:
                raise
            return False

    async def drop_all(self, *, stream: str | None = None) -> int:
        """Delete all messages, or those from one of `STREAMS`; return how many there were."""
        subject = self._filter(stream)
        with _translated():
            info = await self._stream.stream_info(self._name, subjects_filter=subject)
            await self._stream.purge_stream(self._name, subject=subject)
        return sum((info.state.subjects or {}).values())

    async def forget(self, *, user_id: str | None = None, job_ids: Collection[str] = ()) -> int:
        """Delete what names a user, or one of these jobs; return how many there were."""
        dropped = 0
        async for letter in self._walk():
            if mentions(letter, user_id=user_id, job_ids=job_ids):
                dropped += await self.drop(letter.sequence)
        return dropped

    # Reading

    async def _walk(self, *, after: int = 0, stream: str | None = None) -> AsyncIterator[DeadLetter]:
        """Yield messages in the order of the stream."""
        subject = self._filter(stream)
        while True:
            with _translated():
                try:
                    message = await self._stream.get_msg(self._name, seq=after + 1, subject=subject, next=True)
                except nats.js.errors.NotFoundError:
                    return
            letter = self._letter(message)
            yield letter
            after = letter.sequence

    def _filter(self, stream: str | None) -> str:
        return self._topology.dead("*") if stream is None else self._subjects[stream]

    def _letter(self, message: RawStreamMsg) -> DeadLetter:
        headers = {name: str(value) for name, value in (message.headers or {}).items()}
        name = (message.subject or "").rpartition(".")[2]
        return DeadLetter(
            sequence=message.seq or 0,
            stream=next((short for short, known in self._names.items() if known == name), name),
            subject=headers.pop(SUBJECT, None),
            reason=headers.pop(REASON, ""),
            given_up_at=message.time or datetime.fromtimestamp(0, UTC),
            headers={key: value for key, value in headers.items() if not key.lower().startswith(_INTERNAL)},
            payload=message.data or b"",
        )


def mentions(letter: DeadLetter, *, user_id: str | None = None, job_ids: Collection[str] = ()) -> bool:
    """Return whether a message names a user, or one of these jobs."""
    if not set((letter.subject or "").split(".")).isdisjoint(job_ids):
        return True
    try:
        fields = msgspec.json.decode(letter.payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # It is not even JSON: what looks like it is taken for it.
        names = [*job_ids, *([msgspec.json.encode(user_id).decode()] if user_id is not None else [])]
        return any(name.encode() in letter.payload for name in names)
    if not isinstance(fields, dict):
        return False
    named = fields.get("user_id")
    return (named is not None and named == user_id) or fields.get("job_id") in set(job_ids)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except nats.js.errors.NotFoundError:
        raise
    except (TimeoutError, nats.errors.Error, OSError) as error:
        raise BrokerUnavailableError(f"dead letters: {error!r}") from error
