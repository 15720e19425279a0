"""What users can see and change of their webhooks: secrets, and deliveries (tables of the same names).

The notifier makes the deliveries; these are the queries that the API needs, and the secrets, which both need.

Source: Standard Webhooks specification, "Signature scheme" and "Secret rotation".
"""

import base64
import secrets
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from haulyard_chassis.database import Connection, Pool

SECRET_PREFIX = "whsec_"  # noqa: S105 - not a secret
_SECRET_BYTES = 32
"""The specification asks for 24 to 64."""

OVERLAP = 86_400.0
"""Seconds for which a secret is good after the next one was made: time to give that one to the receiver."""

MAX_DELIVERIES = 100
"""Deliveries of a job that are listed; a job has one for each of its ends, so there are seldom two."""

_VALID = """
SELECT secret, created_at, expires_at FROM webhook_secrets
WHERE user_id = $1 AND (expires_at IS NULL OR expires_at > now())
ORDER BY expires_at DESC NULLS FIRST LIMIT 2
"""

_CREATE = """
INSERT INTO webhook_secrets (user_id, secret) VALUES ($1, $2)
ON CONFLICT (user_id) WHERE expires_at IS NULL DO NOTHING
"""

# One rotation of a user's secrets at a time: of two at once the second has to see what the first did.
_LOCK_USER = "SELECT pg_advisory_xact_lock(hashtextextended('webhook_secrets ' || $1, 0))"
_FORGET_OLD = "DELETE FROM webhook_secrets WHERE user_id = $1 AND expires_at IS NOT NULL"
_FORGET_SECRETS = "DELETE FROM webhook_secrets WHERE user_id = $1"
_FORGET_HOSTS = "DELETE FROM webhook_hosts WHERE user_id = $1"
_EXPIRE = """
UPDATE webhook_secrets SET expires_at = now() + make_interval(secs => $2) WHERE user_id = $1 AND expires_at IS NULL
"""

_COLUMNS = """id, job_id, event_type, url, status, attempts, last_status, last_error, next_attempt_at, attempted_at,
delivered_at, created_at"""

_OF_JOB = f"""
SELECT {_COLUMNS} FROM webhook_deliveries
WHERE job_id = $1 AND coalesce(user_id, $2) = $2
ORDER BY created_at DESC LIMIT $3
"""  # noqa: S608 - the columns are ours

# The schedule begins anew, and the number of attempts goes on: it tells one claim of the delivery from the next.
_REDELIVER = f"""
UPDATE webhook_deliveries
SET status = 'pending', next_attempt_at = now(), attempts_before = attempts, delivered_at = NULL
WHERE id = $1 AND user_id = $2
RETURNING {_COLUMNS}
"""  # noqa: S608 - the columns are ours


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSecret:
    """Signs a user's webhooks."""

    secret: str
    """``whsec_`` and Base64."""
    created_at: datetime
    expires_at: datetime | None
    """None: the current one."""

    def __repr__(self) -> str:
        return f"WebhookSecret(created_at={self.created_at!r}, expires_at={self.expires_at!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookDelivery:
    """One event for one webhook, and how far its delivery is."""

    id: str
    """The ``webhook-id`` of its requests."""
    job_id: str
    event_type: str
    url: str
    status: str
    """``pending``, ``delivered`` or ``dead``: given up."""
    attempts: int
    last_status: int | None
    """Of the last answer; None when there was none."""
    last_error: str | None
    next_attempt_at: datetime | None
    attempted_at: datetime | None
    delivered_at: datetime | None
    created_at: datetime


def new_secret() -> str:
    """Return a secret that nobody can guess."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


async def valid_secrets(connection: Connection | Pool, user_id: str) -> list[WebhookSecret]:
    """Return a user's valid secrets, the current one first; the first time it is made."""
    rows = await connection.fetch(_VALID, user_id)
    if not rows or rows[0]["expires_at"] is not None:
        await connection.execute(_CREATE, user_id, new_secret())
        rows = await connection.fetch(_VALID, user_id)
    return [_secret(row) for row in rows]


async def rotate_secrets(connection: Connection, user_id: str, *, overlap: float = OVERLAP) -> list[WebhookSecret]:
    """Make a new secret current; the one before is good for ``overlap`` seconds more, and any older one no longer.

    Returns:
        The valid secrets, the current one first.
    """
    async with connection.transaction():
        await connection.execute(_LOCK_USER, user_id)
        await connection.execute(_FORGET_OLD, user_id)
        await connection.execute(_EXPIRE, user_id, overlap)
        return await valid_secrets(connection, user_id)


async def forget_webhooks(connection: Connection, user_id: str) -> None:
    """Delete what is held of a user's webhooks beside their deliveries, which go with the jobs."""
    await connection.execute(_FORGET_SECRETS, user_id)
    await connection.execute(_FORGET_HOSTS, user_id)


async def deliveries_of(connection: Connection, job_id: str, user_id: str) -> list[WebhookDelivery]:
    """Return the deliveries for a user's job, the newest first."""
    return [_delivery(row) for row in await connection.fetch(_OF_JOB, job_id, user_id, MAX_DELIVERIES)]


async def redeliver(connection: Connection, delivery_id: str, user_id: str) -> WebhookDelivery | None:
    """Have a user's delivery made again, now, however it went before; None if there is none."""
    row = await connection.fetchrow(_REDELIVER, delivery_id, user_id)
    return _delivery(row) if row else None


def _secret(row: asyncpg.Record) -> WebhookSecret:
    return WebhookSecret(**dict(row))


def _delivery(row: asyncpg.Record) -> WebhookDelivery:
    return WebhookDelivery(**dict(row))
