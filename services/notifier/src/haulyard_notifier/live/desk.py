"""What the two kinds of connections share: letting a client in, and turning a state into its message."""

import math
import random
from dataclasses import dataclass, field

from litestar import Litestar

from haulyard_chassis.identity import InvalidTokenError, KeysUnavailableError
from haulyard_chassis.job_state import JobStateUnavailableError
from haulyard_chassis.store import ObjectStore
from haulyard_contracts import encode
from haulyard_notifier.live.access import Access, InsufficientScopeError, is_job_id
from haulyard_notifier.live.hub import EventsUnavailableError, Hub, NoSuchJobError, TooManyConnectionsError
from haulyard_notifier.live.messages import ClientMessage, message_of
from haulyard_notifier.live.presence import Presence
from haulyard_notifier.live.state import LiveState
from haulyard_notifier.live.watch import Watch
from haulyard_notifier.measures import REFUSED as REFUSALS

SEND_TIMEOUT = 10.0
"""Seconds that a client may leave its connection full before it is dropped."""
RETRY_AFTER = 5
"""Seconds after which it is worth to come back when there was no place, or no answer to be had."""

UNAVAILABLE = (JobStateUnavailableError, EventsUnavailableError, KeysUnavailableError)
"""What keeps a client out that may be let in later."""
REFUSED = (InvalidTokenError, InsufficientScopeError, NoSuchJobError, TooManyConnectionsError, *UNAVAILABLE)
"""All that `LiveDesk.enter` raises."""

_KEY = "live_desk"


@dataclass(slots=True, kw_only=True)
class LiveDesk:
    """Where clients are let in."""

    hub: Hub
    access: Access
    presence: Presence
    store: ObjectStore
    download_expires: int
    heartbeat: float
    _latest: tuple[LiveState, ClientMessage, str] | None = field(default=None, init=False)

    async def enter(self, job_id: str, *, ticket: str | None, authorization: str | None, after: int) -> Watch:
        """Let a client watch a job; `Hub.leave` ends that.

        Raises:
            haulyard_chassis.identity.InvalidTokenError: it may not watch anything.
            haulyard_notifier.live.access.InsufficientScopeError: its token is not for watching.
            haulyard_chassis.identity.KeysUnavailableError: it is not known whether it may.
            NoSuchJobError: there is no such job for it.
            haulyard_notifier.live.hub.TooManyConnectionsError: there is no place for it.
            haulyard_chassis.job_state.JobStateUnavailableError: it is not known whether there is such a job.
            haulyard_notifier.live.hub.EventsUnavailableError: the job cannot be followed now.
        """
        try:
            admission = await self.access.admit(job_id, ticket=ticket, authorization=authorization)
            if not is_job_id(job_id):
                raise NoSuchJobError(job_id)
            return await self.hub.join(job_id, admission, after=after)
        except REFUSED as error:
            REFUSALS.labels(type(error).__name__.removesuffix("Error")).inc()
            raise

    def message(self, state: LiveState) -> tuple[ClientMessage, str]:
        """Return the message that tells of ``state`` and its text, with a link to the archive if there is one.

        All who watch a job are told of the same state in a row: it is written once for them.
        """
        if self._latest is None or self._latest[0] is not state:
            message = message_of(state, download_url=self._link(state))
            self._latest = (state, message, encode(message).decode())
        return self._latest[1:]

    def _link(self, state: LiveState) -> str | None:
        if state.archive is None:
            return None
        return self.store.presign_get(
            state.archive.bucket,
            state.archive.key,
            expires=self.download_expires,
            filename=state.filename or state.archive.key.rpartition("/")[2],
        )


def reconnect_delay() -> int:
    """Return milliseconds after which a client may come back; each gets another, so that they do not come together."""
    return math.ceil(random.uniform(500, 3_000))  # noqa: S311 - only to spread them


def open_desk(app: Litestar, desk: LiveDesk) -> None:
    """Make the desk known to the handlers of ``app``."""
    app.state[_KEY] = desk


def desk_of(app: Litestar) -> LiveDesk:
    """Return the desk of a running application."""
    desk: LiveDesk = app.state[_KEY]
    return desk
