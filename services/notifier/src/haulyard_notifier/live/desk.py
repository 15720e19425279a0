"""What the two kinds of connections share: letting a client in, and turning a state into its message."""

from dataclasses import dataclass

from litestar import Litestar

from haulyard_chassis.store import ObjectStore
from haulyard_notifier.live.access import Access, is_job_id
from haulyard_notifier.live.hub import Hub, NoSuchJobError
from haulyard_notifier.live.messages import ClientMessage, message_of
from haulyard_notifier.live.presence import Presence
from haulyard_notifier.live.state import LiveState
from haulyard_notifier.live.watch import Watch

SEND_TIMEOUT = 30.0
"""Seconds that a client may leave a message unread before it is dropped."""

_KEY = "live_desk"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveDesk:
    """Where clients are let in."""

    hub: Hub
    access: Access
    presence: Presence
    store: ObjectStore
    download_expires: int
    heartbeat: float

    async def enter(self, job_id: str, *, ticket: str | None, authorization: str | None, after: int) -> Watch:
        """Let a client watch a job; `Hub.leave` ends that.

        Raises:
            haulyard_chassis.identity.InvalidTokenError: it may not watch anything.
            haulyard_chassis.identity.KeysUnavailableError: it is not known whether it may.
            NoSuchJobError: there is no such job for it.
            haulyard_chassis.job_state.JobStateUnavailableError: it is not known whether there is.
            haulyard_notifier.live.hub.EventsUnavailableError: the job cannot be followed now.
        """
        owner = await self.access.owner(job_id, ticket=ticket, authorization=authorization)
        if not is_job_id(job_id):
            raise NoSuchJobError(job_id)
        return await self.hub.join(job_id, owner=owner, after=after)

    def message(self, state: LiveState) -> ClientMessage:
        """Return the message that tells of ``state``, with a fresh link to the archive if there is one."""
        link = None
        if state.archive is not None:
            link = self.store.presign_get(
                state.archive.bucket,
                state.archive.key,
                expires=self.download_expires,
                filename=state.filename or state.archive.key.rpartition("/")[2],
            )
        return message_of(state, download_url=link)


def open_desk(app: Litestar, desk: LiveDesk) -> None:
    """Make the desk known to the handlers of ``app``."""
    app.state[_KEY] = desk


def desk_of(app: Litestar) -> LiveDesk:
    """Return the desk of a running application."""
    desk: LiveDesk = app.state[_KEY]
    return desk
