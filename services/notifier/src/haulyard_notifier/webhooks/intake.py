"""Events become deliveries: a message is acknowledged when its row is in the record."""

import asyncio
from collections.abc import Callable

from haulyard_chassis.consume import RetryLater
from haulyard_chassis.database import UNAVAILABLE
from haulyard_chassis.logs import get_logger
from haulyard_contracts import JobEvent
from haulyard_notifier.webhooks.deliveries import Deliveries
from haulyard_notifier.webhooks.payload import stored_payload

log = get_logger(__name__)

_PAUSE = 5.0


class WebhookIntake:
    """Handles the events that webhooks are told.

    Args:
        deliveries: where they go.
        added: called when there is something new to send.
    """

    def __init__(self, deliveries: Deliveries, added: Callable[[], None]) -> None:
        self._deliveries = deliveries
        self._added = added
        self._stopping = asyncio.Event()

    async def handle(self, event: JobEvent) -> None:
        """Note the delivery.

        While the record is away the message is kept in hand, not handed back: messages that come too often end in the
        dead stream, and an outage of the record may last longer than that takes.

        Raises:
            RetryLater: the service stops, and the record is still away.
        """
        while True:
            try:
                added = await self._deliveries.add(
                    event.id,
                    job_id=event.job_id,
                    event_type=event.type,
                    payload=stored_payload(event),
                )
            except UNAVAILABLE as error:
                log.warning("record unavailable", job_id=event.job_id, error=repr(error))
            else:
                break
            try:
                async with asyncio.timeout(_PAUSE):
                    await self._stopping.wait()
            except TimeoutError:
                continue
            raise RetryLater("the record is away", delay=1.0)
        if added:
            self._added()

    def stop(self) -> None:
        """Wait for the record no longer."""
        self._stopping.set()
