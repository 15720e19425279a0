"""The table ``webhook_hosts``: which receivers fail, and until when they are left alone (a circuit breaker for each).

It is for all notifiers together: what one has learned the others need not. It is for each user by itself: many may
have URLs at one host, and the bad one of one user must not keep the others' from being called.
"""

from haulyard_chassis.database import Pool
from haulyard_notifier.webhooks.policy import host_pause

_FAILED = """
INSERT INTO webhook_hosts AS host (user_id, host, failures) VALUES ($1, $2, 1)
ON CONFLICT (user_id, host) DO UPDATE SET failures = host.failures + 1, updated_at = now()
RETURNING failures
"""
_LEAVE_ALONE = """
UPDATE webhook_hosts SET open_until = now() + make_interval(secs => $3) WHERE user_id = $1 AND host = $2
"""
_ANSWERED = "DELETE FROM webhook_hosts WHERE user_id = $1 AND host = $2"

# Whoever comes first may try; until that is decided nobody else.
_TRY = """
UPDATE webhook_hosts SET open_until = now() + make_interval(secs => $3)
WHERE user_id = $1 AND host = $2 AND (open_until IS NULL OR open_until <= now())
RETURNING host
"""


class Hosts:
    """The receivers in the record.

    Args:
        pool: of the record.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def failed(self, user_id: str, host: str, *, random: float) -> float:
        """Note that a host did not do its part; return for how many seconds it is left alone now, 0 for none."""
        pause = host_pause(await self._pool.fetchval(_FAILED, user_id, host), random)
        if pause:
            await self._pool.execute(_LEAVE_ALONE, user_id, host, pause)
        return pause

    async def answered(self, user_id: str, host: str) -> None:
        """Note that a host is well."""
        await self._pool.execute(_ANSWERED, user_id, host)

    async def may_try(self, user_id: str, host: str, *, lease: float) -> bool:
        """Return whether a host that was left alone may be tried: once, by one of us, for ``lease`` seconds."""
        return await self._pool.fetchval(_TRY, user_id, host, lease) is not None
