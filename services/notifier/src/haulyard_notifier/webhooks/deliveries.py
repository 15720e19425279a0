"""The table ``webhook_deliveries``: all SQL of it.

A claimed delivery is not marked as such: its next attempt is moved into the future (its lease), by which a claim that
nobody finishes ends by itself. The number of attempts, counted when it is claimed, tells one claim from the next.
"""

from dataclasses import dataclass

from haulyard_chassis.database import Pool
from haulyard_contracts import ArchiveLocation, EventType
from haulyard_notifier.webhooks.policy import Dead, Decision, Delivered, Retry

# One event, if its job has a webhook; seen before, it changes nothing.
_ADD = """
INSERT INTO webhook_deliveries (id, job_id, url, event_type, payload)
SELECT $1, id, webhook_url, $3, $4 FROM download_jobs WHERE id = $2 AND webhook_url IS NOT NULL
ON CONFLICT (id) DO NOTHING
RETURNING id
"""

# The longest due first; those that another process is claiming at this moment are passed over.
_CLAIM = """
WITH due AS (
  SELECT id, job_id FROM webhook_deliveries
  WHERE status = 'pending' AND next_attempt_at <= now()
  ORDER BY next_attempt_at
  LIMIT $1
  FOR UPDATE SKIP LOCKED
)
UPDATE webhook_deliveries AS delivery
SET attempts = delivery.attempts + 1, next_attempt_at = now() + make_interval(secs => $2)
FROM due LEFT JOIN download_jobs AS job ON job.id = due.job_id AND job.status = 'completed'
WHERE delivery.id = due.id
RETURNING delivery.id, delivery.job_id, delivery.url, delivery.event_type, delivery.payload, delivery.attempts,
          job.archive_bucket, job.archive_key
"""

# Only the claim that made this attempt may say what became of it.
_SETTLE = """
UPDATE webhook_deliveries
SET status = $3, next_attempt_at = now() + make_interval(secs => $4), last_status = $5, last_error = $6
WHERE id = $1 AND attempts = $2 AND status = 'pending'
"""

_MAX_ERROR = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A delivery that is ours to attempt until its lease is over."""

    id: str
    job_id: str
    url: str
    event_type: EventType
    payload: str
    attempts: int
    """With the one that is to be made now."""
    archive: ArchiveLocation | None
    """Where the archive is, while there is one."""


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

    async def claim(self, limit: int, *, lease: float) -> list[Claim]:
        """Claim up to ``limit`` due deliveries for ``lease`` seconds."""
        return [
            Claim(
                id=row["id"],
                job_id=row["job_id"],
                url=row["url"],
                event_type=EventType(row["event_type"]),
                payload=row["payload"],
                attempts=row["attempts"],
                archive=ArchiveLocation(bucket=row["archive_bucket"], key=row["archive_key"])
                if row["archive_key"] is not None
                else None,
            )
            for row in await self._pool.fetch(_CLAIM, limit, lease)
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
