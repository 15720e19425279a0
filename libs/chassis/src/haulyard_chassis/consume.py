"""FastStream handlers over our own pull loop, and what becomes of a message when its handler is done.

FastStream's own pull subscriber fetches more than it works on, its default acknowledgement loses the message of any
exception, and it does not update an existing consumer. So its subscribers are kept for what they are good at
(handlers, middlewares, AsyncAPI), and the messages come from `SlotPuller`. One rule settles every message:

========================================  ==================================================================
handler returned                          acknowledged
handler raised `RetryLater`               handed back, to be delivered again after the delay it names
any other exception                       handed back with exponential backoff
the bytes are no message                  moved to the dead stream
delivered ``max_deliver`` times in vain   moved to the dead stream, after ``on_dead`` made the loss visible
cancelled (shutdown)                      handed back at once
========================================  ==================================================================
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from types import UnionType
from typing import Any, cast

import nats.errors
import structlog
from faststream import AckPolicy
from faststream.message import StreamMessage
from faststream.nats import JStream, NatsBroker, PullSub
from faststream.nats.subscriber.usecases import PullStreamSubscriber
from nats.aio.client import Client
from nats.aio.msg import Msg

from haulyard_chassis.broker import MESSAGE_ID, TRACEPARENT, Publisher, connect_broker
from haulyard_chassis.dead_letters import REASON, SUBJECT
from haulyard_chassis.logs import get_logger
from haulyard_chassis.pull import PATIENCE, SlotPuller
from haulyard_chassis.settings import ServiceSettings
from haulyard_chassis.trace import is_valid, trace_id
from haulyard_chassis.tracing import SpanKind, Spanning, current_span, span
from haulyard_contracts import ConsumerSpec, Topology, UndecodableMessageError, decode

log = get_logger(__name__)

_FAREWELL = 2.0
"""Seconds that the end of a connection may take."""
_BACKOFF_FIRST = 0.5
_BACKOFF_MOST = 30.0


class RetryLater(Exception):  # noqa: N818 - not an error: the message is right, its time is not
    """The message cannot be handled now; deliver it again after ``delay`` seconds."""

    def __init__(self, reason: str, *, delay: float) -> None:
        super().__init__(reason)
        self.delay = delay


@dataclass(frozen=True, slots=True)
class Delivery:
    """How the message at hand came to its handler."""

    number: int
    """Counts the deliveries of this message, from 1."""
    headers: dict[str, str]

    @property
    def trace(self) -> dict[str, str]:
        """Headers that carry the trace on to messages that follow from this one."""
        return {TRACEPARENT: self.headers[TRACEPARENT]} if TRACEPARENT in self.headers else {}


_delivery: ContextVar[Delivery] = ContextVar("delivery")


def current_delivery() -> Delivery:
    """Return the delivery that the running handler works on."""
    return _delivery.get()


def backoff(deliveries: int) -> float:
    """Return the seconds to wait after the n-th delivery failed: 0.5, 1, 2, … at most 30."""
    doublings = min(deliveries - 1, 16)  # more make no difference, and far more are no float
    return min(_BACKOFF_FIRST * 2.0**doublings, _BACKOFF_MOST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """What a service takes messages from, and how many at a time."""

    consumers: tuple[ConsumerSpec, ...]
    """The most urgent first; all of one stream."""
    slots: int
    patience: int = PATIENCE
    """Messages from more urgent consumers after which one that waits gets a message in between."""
    on_dead: Callable[[bytes, str], Awaitable[None]] | None = None
    """Called with payload and reason before a message is given up, so that whatever waits for it can be told."""


class SlotSubscriber(PullStreamSubscriber):
    """A FastStream subscriber fed by a `SlotPuller`; made by `subscribe`."""

    intake: Intake
    topology: Topology
    grace: float
    _puller: SlotPuller | None
    _publisher: Publisher

    async def _create_subscription(self) -> None:
        self._publisher = Publisher(self.connection)
        self._puller = SlotPuller(
            self.connection,
            self.intake.consumers,
            slots=self.intake.slots,
            handle=self._handle_and_settle,
            patience=self.intake.patience,
        )
        await self._puller.start()

    async def stop(self) -> None:
        """Stop pulling, and wait for running handlers as long as the service may."""
        if self._puller is not None:
            await self._puller.stop(self.grace)
            self._puller = None
        await super().stop()

    def _spec_of(self, message: Msg) -> ConsumerSpec:
        durable = message.metadata.consumer
        return next(spec for spec in self.intake.consumers if spec.durable == durable)

    async def _handle_and_settle(self, message: Msg) -> None:
        number = message.metadata.num_delivered
        headers = dict(message.headers or {})
        _delivery.set(Delivery(number, headers))
        with (
            span(
                f"process {message.metadata.consumer}",
                kind=SpanKind.CONSUMER,
                parent=headers.get(TRACEPARENT),
                attributes={
                    "messaging.system": "nats",
                    "messaging.destination.name": message.subject,
                    "messaging.consumer.group.name": message.metadata.consumer,
                    "haulyard.delivery": number,
                },
            ) as traced,
            structlog.contextvars.bound_contextvars(
                subject=message.subject, **_trace_id(traced.traceparent or headers.get(TRACEPARENT))
            ),
        ):
            try:
                await self._handle(message, number, traced)
            except asyncio.CancelledError:
                with suppress(nats.errors.Error):  # settled already, or the broker is away
                    await message.nak()
                raise
            except nats.errors.Error as error:
                # The broker is away: the message comes again when it is back and its acknowledgement time is over.
                log.warning("message not settled", error=repr(error))

    async def _handle(self, message: Msg, number: int, traced: Spanning) -> None:
        spec = self._spec_of(message)
        if number > spec.max_deliver:
            traced.fail("given up")
            await self._give_up(message, f"delivered {number - 1} times in vain")
            return
        heartbeat = asyncio.create_task(self._keep_alive(message, every=spec.ack_wait / 3))
        try:
            await self.process_message(message)
        except UndecodableMessageError as error:
            traced.fail(error)
            await self._give_up(message, str(error))
        except RetryLater as retry:
            traced.set("haulyard.put_off", str(retry))
            log.info("message put off", reason=str(retry), delay=retry.delay)
            await message.nak(delay=retry.delay)
        except Exception as error:
            traced.fail(error)
            if number >= spec.max_deliver:
                await self._give_up(message, repr(error))
            else:
                log.warning("handler failed", error=repr(error), delivery=number, exc_info=error)
                await message.nak(delay=backoff(number))
        else:
            await message.ack()
        finally:
            heartbeat.cancel()

    async def _keep_alive(self, message: Msg, *, every: float) -> None:
        while True:
            await asyncio.sleep(every)
            with suppress(nats.errors.Error):
                await message.in_progress()

    async def _give_up(self, message: Msg, reason: str) -> None:
        log.error("message given up", reason=reason)
        stream = self._spec_of(message).stream
        try:
            if self.intake.on_dead is not None:
                with suppress(UndecodableMessageError):  # who would be told is in what nobody can read
                    await self.intake.on_dead(message.data, reason)
            headers = {
                **{k: _plain(v) for k, v in (message.headers or {}).items() if k != MESSAGE_ID},
                REASON: _plain(reason)[:1000],
                SUBJECT: message.subject,
                MESSAGE_ID: f"{stream}:{message.metadata.sequence.stream}",
            }
            await self._publisher.publish_raw(self.topology.dead(stream), message.data, headers)
        except Exception as error:  # noqa: BLE001 - not even giving up worked: keep the message and try again
            log.warning("giving up failed", error=repr(error))
            await message.nak(delay=_BACKOFF_MOST)
        else:
            await message.term()


def _trace_id(traceparent: str | None) -> dict[str, str]:
    """Return what log lines are to say of the trace."""
    return {"trace_id": trace_id(traceparent)} if traceparent is not None and is_valid(traceparent) else {}


def _plain(value: object) -> str:
    """Return a header's value on one line of ASCII: the client reads others back as objects of the email package."""
    return " ".join(str(value).splitlines()).encode("ascii", "backslashreplace").decode()


class _Broker(NatsBroker):
    """FastStream's broker over a connection like every other of ours.

    FastStream puts its own callback for errors around ours. That raises "Authorization Violation", "Authorization
    Timeout" and others again, inside the client's loop that connects again: the loop ends, and the service waits for
    a connection that nobody makes any more.
    """

    def __init__(self, connect: Callable[[], Awaitable[Client]], **options: Any) -> None:
        super().__init__(**options)
        self._connect_to = connect

    async def _connect(self) -> Client:
        client = await self._connect_to()
        self.config.connect(client)
        return client


def make_broker(settings: ServiceSettings, *, name: str) -> NatsBroker:
    """Return FastStream's broker with connection settings that lose nothing."""
    return _Broker(
        partial(connect_broker, settings, name=name),
        apply_types=False,  # messages are decoded by their contract; nothing is left to inject or to validate
        graceful_timeout=settings.shutdown_grace,
        logger=None,
    )


async def stop_broker(broker: NatsBroker, client: Client) -> None:
    """Take nothing new, let handlers finish as long as they may, and leave, whether the broker answers or not.

    Args:
        broker: FastStream's broker.
        client: its connection.
    """
    await asyncio.gather(*(subscriber.stop() for subscriber in broker.subscribers))
    try:
        async with asyncio.timeout(_FAREWELL):
            await client.flush()  # a broker that does not answer would be waited for much longer
        await broker.stop()
    except (nats.errors.Error, TimeoutError) as error:
        # What was not acknowledged is delivered again.
        log.warning("left without a farewell", error=repr(error))
        with suppress(nats.errors.Error, OSError, TimeoutError):
            async with asyncio.timeout(_FAREWELL):
                await client.close()


def subscribe(
    broker: NatsBroker,
    intake: Intake,
    message_type: type[Any] | UnionType,
    *,
    topology: Topology,
    grace: float,
) -> Callable[[Callable[[Any], Awaitable[None]]], Any]:
    """Return a decorator that makes a function the handler of what ``intake`` brings.

    Args:
        broker: FastStream's broker; starting it starts the pulling.
        intake: consumers and slots.
        message_type: what the payload is decoded to, a message or a union of tagged messages.
        topology: names of this installation.
        grace: seconds that running handlers may take when the service stops.
    """

    async def decode_body(message: StreamMessage[Msg]) -> Any:
        decoded = decode(message.body, cast("type[Any]", message_type))  # a union is no type to the checker
        current_span().rename(f"process {type(decoded).__name__}")
        return decoded

    filters: Sequence[str] = [subject for consumer in intake.consumers for subject in consumer.filters]
    subscriber = broker.subscriber(
        filters[0],
        stream=JStream(intake.consumers[0].stream, declare=False),
        durable=intake.consumers[0].durable,
        pull_sub=PullSub(batch_size=1),
        decoder=decode_body,
        ack_policy=AckPolicy.MANUAL,
        no_reply=True,
    )
    # FastStream chooses the class of a subscriber by its arguments and has no hook for another one. Ours adds
    # behaviour only, so the object can be given it afterwards; the version is pinned, and a test would tell.
    subscriber.__class__ = SlotSubscriber
    slot_subscriber: Any = subscriber
    slot_subscriber.intake = intake
    slot_subscriber.topology = topology
    slot_subscriber.grace = grace
    slot_subscriber._puller = None
    return slot_subscriber  # type: ignore[no-any-return]
