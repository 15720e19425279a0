"""The table ``webhook_deliveries``: all SQL of it.

A claimed delivery is not marked as such: its next attempt is moved into the future (its lease), by which a claim that
nobody finishes ends by itself. The number of attempts, counted when it is claimed, tells one claim from the next.
"""

from collections.abc import Collection
from dataclasses import dataclass

from haulyard_chassis.database import Pool
from haulyard_contracts import ArchiveLocation, EventType
from haulyard_notifier.webhooks.policy import HOST_PATIENCE, Dead, Decision, Delivered, Retry

# One event, if its job has a webhook; seen before, it changes nothing.
_ADD = """
INSERT INTO webhook_deliveries (id, job_id, user_id, url, event_type, payload)
SELECT $1, id, user_id, webhook_url, $3, $4 FROM download_jobs WHERE id = $2 AND webhook_url IS NOT NULL
ON CONFLICT (id) DO NOTHING
RETURNING id
"""

# The longest due first; those that another process is claiming at this moment are passed over, and so are those for
# hosts that are left alone or that we call often enough at this moment ($3).
_CLAIM = """
WITH due AS (
  SELECT delivery.id, delivery.job_id, host.failures
  FROM webhook_deliveries delivery LEFT JOIN webhook_hosts host USING (user_id, host)
  WHERE delivery.status = 'pending' AND delivery.next_attempt_at <= now()
    AND (host.open_until IS NULL OR host.open_until <= now()) AND delivery.host <> ALL ($3::text[])
  ORDER BY delivery.next_attempt_at
  LIMIT $1
  FOR UPDATE OF delivery SKIP LOCKED
)
UPDATE webhook_deliveries AS delivery
SET attempts = delivery.attempts + 1, attempted_at = now(), next_attempt_at = now() + make_interval(secs => $2)
FROM due LEFT JOIN download_jobs AS job ON job.id = due.job_id
WHERE delivery.id = due.id
RETURNING delivery.id, delivery.job_id, coalesce(delivery.user_id, job.user_id) AS user_id, delivery.url, delivery.host,
          delivery.event_type, delivery.payload, delivery.attempts, delivery.attempts_before,
          coalesce(due.failures, 0) AS failures, job.traceparent,
          CASE job.status WHEN 'completed' THEN job.archive_bucket END AS archive_bucket,
          CASE job.status WHEN 'completed' THEN job.archive_key END AS archive_key
"""

# Only the claim that made this attempt may say what became of it.
_SETTLE = """
UPDATE webhook_deliveries
SET status = $3::varchar, delivered_at = CASE $3::varchar WHEN 'delivered' THEN now() END,
    next_attempt_at = now() + make_interval(secs => $4), last_status = $5, last_error = $6
WHERE id = $1 AND attempts = $2 AND status = 'pending'
"""

# As if it had not been claimed, but later.
_PUT_OFF = """
UPDATE webhook_deliveries
SET attempts = attempts - 1, next_attempt_at = now() + make_interval(secs => $3)
WHERE id = $1 AND attempts = $2 AND status = 'pending'
"""

_MAX_ERROR = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A delivery that is ours to attempt until its lease is over."""

    id: str
    job_id: str
    user_id: str | None
    """Whose job it is; None if that is gone."""
    url: str
    host: str
    event_type: EventType
    payload: str
    attempts: int
    """With the one that is to be made now."""
    attempts_before: int
    """Of these, those before it was last asked to be delivered again."""
    failures: int
    """Of the host, one after the other."""
    archive: ArchiveLocation | None
    """Where the archive is, while there is one."""
    traceparent: str | None = None
    """Of the request for the job."""

    @property
    def is_trial(self) -> bool:
        """Whether the host has failed so often that only one request may see if it is well again."""
        return self.failures >= HOST_PATIENCE


class Deliveries:
    """The deliveries in the record.

    Args:
        pool: of the record.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(self, delivery_id: str, *, job_id: str, event_type: EventType, payload: str) -> bool:
        """Note what a webhook is to be told; return False if the job has none, or it is noted already."""
        return await self._pool.fetchval(_ADD, delivery_id, job_id, event_type.value, payload) is not None

    async def claim(self, limit: int, *, lease: float, busy: Collection[str] = ()) -> list[Claim]:
        """Claim up to ``limit`` due deliveries for ``lease`` seconds, none of them for the ``busy`` hosts."""
        return [
            Claim(
                id=row["id"],
                job_id=row["job_id"],
                user_id=row["user_id"],
                url=row["url"],
                host=row["host"],
                event_type=EventType(row["event_type"]),
                payload=row["payload"],
                attempts=row["attempts"],
                attempts_before=row["attempts_before"],
                failures=row["failures"],
                archive=ArchiveLocation(bucket=row["archive_bucket"], key=row["archive_key"])
                if row["archive_key"] is not None
                else None,
                traceparent=row["traceparent"],
            )
            for row in await self._pool.fetch(_CLAIM, limit, lease, list(busy))
        ]

    async def settle(self, claim: Claim, decision: Decision, *, status: int | None, error: str | None) -> None:
        """Note what became of an attempt."""
        match decision:
            case Delivered():
                state, delay = "delivered", None
            case Dead():
                state, delay = "dead", None
            case Retry(seconds):
                state, delay = "pending", seconds
        note = error.replace("\0", "")[:_MAX_ERROR] if error is not None else None
        await self._pool.execute(_SETTLE, claim.id, claim.attempts, state, delay, status, note)

    async def put_off(self, claim: Claim, delay: float) -> None:
        """Give a claim back unused; it is due again in ``delay`` seconds."""
        await self._pool.execute(_PUT_OFF, claim.id, claim.attempts, delay)
