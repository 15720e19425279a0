"""What the API answers to users about their webhooks; times are UTC, to the second."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, cast

import msgspec

from haulyard_chassis.webhook_records import WebhookDelivery, WebhookSecret
from haulyard_gateway.bodies import in_seconds


class DeliveryBody(msgspec.Struct, frozen=True, kw_only=True):
    """One event for one webhook, and how far its delivery is."""

    delivery_id: str
    """The `webhook-id` of its requests."""
    job_id: str
    event: str
    """`completed` or `failed`."""
    url: str
    status: Literal["pending", "delivered", "dead"]
    """`dead`: it was given up."""
    attempts: int
    last_status: int | None
    """The receiver's last answer; null when there was none."""
    last_error: str | None
    next_attempt_at: datetime | None
    last_attempt_at: datetime | None
    delivered_at: datetime | None
    created_at: datetime


class DeliveriesBody(msgspec.Struct, frozen=True, kw_only=True):
    """The deliveries of a job, the newest first."""

    deliveries: tuple[DeliveryBody, ...]


class SecretBody(msgspec.Struct, frozen=True, kw_only=True):
    """A secret that signs webhooks."""

    secret: str
    """`whsec_` and Base64, as libraries for Standard Webhooks take it."""
    created_at: datetime
    expires_at: datetime | None
    """null: the current one."""


class SecretsBody(msgspec.Struct, frozen=True, kw_only=True):
    """The valid secrets, the current one first; requests are signed with each of them."""

    secrets: tuple[SecretBody, ...]


def delivery_body(delivery: WebhookDelivery) -> DeliveryBody:
    """Return the body that tells of a delivery."""
    return DeliveryBody(
        delivery_id=delivery.id,
        job_id=delivery.job_id,
        event=delivery.event_type,
        url=delivery.url,
        status=cast("Literal['pending', 'delivered', 'dead']", delivery.status),
        attempts=delivery.attempts,
        last_status=delivery.last_status,
        last_error=delivery.last_error,
        next_attempt_at=_time(delivery.next_attempt_at),
        last_attempt_at=_time(delivery.attempted_at),
        delivered_at=_time(delivery.delivered_at),
        created_at=in_seconds(delivery.created_at),
    )


def secrets_body(found: Sequence[WebhookSecret]) -> SecretsBody:
    """Return the body that shows secrets."""
    return SecretsBody(
        secrets=tuple(
            SecretBody(secret=each.secret, created_at=in_seconds(each.created_at), expires_at=_time(each.expires_at))
            for each in found
        )
    )


def _time(moment: datetime | None) -> datetime | None:
    return None if moment is None else in_seconds(moment)
