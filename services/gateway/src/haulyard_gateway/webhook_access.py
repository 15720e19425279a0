"""The gateway's way to what users can see and change of their webhooks."""

from haulyard_chassis import webhook_records
from haulyard_chassis.database import Pool
from haulyard_chassis.webhook_records import WebhookDelivery, WebhookSecret
from haulyard_gateway.job_records import record


class WebhookAccess:
    """The record of webhooks. Every method raises `RecordUnavailableError` when the database is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def deliveries(self, job_id: str, user_id: str) -> list[WebhookDelivery]:
        """Return the deliveries of a user's job, the newest first."""
        async with record(self._pool) as connection:
            return await webhook_records.deliveries_of(connection, job_id, user_id)

    async def redeliver(self, delivery_id: str, user_id: str) -> WebhookDelivery | None:
        """Have a user's delivery made again; None if there is none."""
        async with record(self._pool) as connection:
            return await webhook_records.redeliver(connection, delivery_id, user_id)

    async def secrets(self, user_id: str) -> list[WebhookSecret]:
        """Return a user's valid secrets, the current one first."""
        async with record(self._pool) as connection:
            return await webhook_records.valid_secrets(connection, user_id)

    async def rotate(self, user_id: str) -> list[WebhookSecret]:
        """Make a new secret current, and return the valid ones."""
        async with record(self._pool) as connection:
            return await webhook_records.rotate_secrets(connection, user_id)
