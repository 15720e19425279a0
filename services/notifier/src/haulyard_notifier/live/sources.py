"""Where the hub's events come from: NATS."""

from collections.abc import Awaitable, Callable

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from haulyard_chassis.logs import get_logger
from haulyard_contracts import JobEvent, Topology, UndecodableMessageError, decode
from haulyard_notifier.live.hub import EventsUnavailableError

log = get_logger(__name__)

_FLUSH_TIMEOUT = 2


class NatsEvents:
    """Events by plain NATS subscriptions, which cost the broker nothing when they end: the stream is not involved.

    Args:
        client: connected.
        topology: names of this installation.
    """

    def __init__(self, client: Client, topology: Topology) -> None:
        self._client = client
        self._topology = topology

    async def subscribe(self, job_id: str, deliver: Callable[[JobEvent], None]) -> Callable[[], Awaitable[None]]:
        """See `haulyard_notifier.live.hub.EventSource`."""

        async def received(message: Msg) -> None:
            try:
                deliver(decode(message.data, JobEvent))
            except UndecodableMessageError as error:
                log.warning("event is unreadable", subject=message.subject, error=str(error))

        try:
            subscription = await self._client.subscribe(self._topology.events_of(job_id), cb=received)
        except nats.errors.Error as error:
            raise EventsUnavailableError(repr(error)) from error

        async def unsubscribe() -> None:
            try:
                await subscription.unsubscribe()
            except (nats.errors.Error, OSError) as error:
                log.debug("not unsubscribed", job_id=job_id, error=repr(error))

        # Subscribing only sends the wish: the answer to a ping says that the broker has read it. While it is away
        # there is no answer; when it is back the client subscribes again, and the hub reads every state again.
        if self._client.is_connected:
            try:
                await self._client.flush(_FLUSH_TIMEOUT)
            except (nats.errors.Error, OSError) as error:
                log.info("subscription not confirmed", job_id=job_id, error=repr(error))
        return unsubscribe
