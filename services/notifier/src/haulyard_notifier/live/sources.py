"""Where the hub's events come from: NATS."""

from collections.abc import Awaitable, Callable

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from haulyard_chassis.broker import PUBLISH_TIMEOUT
from haulyard_chassis.logs import get_logger
from haulyard_contracts import JobEvent, Topology, UndecodableMessageError, decode
from haulyard_notifier.live.hub import EventsUnavailableError

log = get_logger(__name__)

_FLUSH_TIMEOUT = 2

Deliver = Callable[[JobEvent], None]


class _Straight:
    """Takes the place of a subscription's queue, and hands each message straight on.

    The client's own way is a queue and a task for each subscription: 11 KiB, ten thousand times. Here nothing waits
    between the connection and the hub, whose part is short and never blocks.
    """

    __slots__ = ("_deliver", "_subscription")

    def __init__(self, subscription: Subscription, deliver: Deliver) -> None:
        self._subscription = subscription
        self._deliver = deliver

    def put_nowait(self, message: Msg) -> None:
        """Hand on a message, which then no longer counts as waiting."""
        self._subscription._pending_size = 0
        try:
            self._deliver(decode(message.data, JobEvent))
        except UndecodableMessageError as error:
            log.warning("event is unreadable", subject=message.subject, error=str(error))
        except Exception:
            log.exception("event not handed on", subject=message.subject)  # it would end the whole connection

    def qsize(self) -> int:
        """Return how many messages wait: none ever does."""
        return 0

    def empty(self) -> bool:
        """Return that no message waits."""
        return True


def _hand_straight_on(subscription: Subscription, deliver: Deliver) -> None:
    """Replace what a subscription without a callback has for waiting readers, of which there will be none."""
    subscription._pending_queue = _Straight(subscription, deliver)  # type: ignore[assignment]
    subscription._message_iterator = None


class NatsEvents:
    """Events by plain NATS subscriptions, which cost the broker nothing when they end; the stream for what was missed.

    Args:
        client: connected.
        topology: names of this installation.
    """

    def __init__(self, client: Client, topology: Topology) -> None:
        self._client = client
        self._stream = client.jetstream(timeout=PUBLISH_TIMEOUT)
        self._topology = topology

    async def subscribe(self, job_id: str, deliver: Deliver) -> Callable[[], Awaitable[None]]:
        """See `haulyard_notifier.live.hub.EventSource`."""
        try:
            subscription = await self._client.subscribe(self._topology.events_of(job_id))
        except nats.errors.Error as error:
            raise EventsUnavailableError(repr(error)) from error
        _hand_straight_on(subscription, deliver)

        async def unsubscribe() -> None:
            try:
                await subscription.unsubscribe()
            except (nats.errors.Error, OSError) as error:
                log.debug("not unsubscribed", job_id=job_id, error=repr(error))

        # Subscribing only sends the wish: the answer to a ping says that the broker has read it. While it is away
        # there is no answer; when it is back the client subscribes again, and the hub looks everything up again.
        if self._client.is_connected:
            try:
                await self._client.flush(_FLUSH_TIMEOUT)
            except (nats.errors.Error, OSError) as error:
                log.info("subscription not confirmed", job_id=job_id, error=repr(error))
        return unsubscribe

    async def newest(self, job_id: str) -> JobEvent | None:
        """See `haulyard_notifier.live.hub.EventSource`."""
        try:
            message = await self._stream.get_last_msg(self._topology.events.name, self._topology.events_of(job_id))
            return decode(message.data or b"", JobEvent)
        except nats.js.errors.NotFoundError:
            return None
        except UndecodableMessageError as error:
            log.warning("event is unreadable", job_id=job_id, error=str(error))
            return None
        except (nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError) as error:
            raise EventsUnavailableError(repr(error)) from error
