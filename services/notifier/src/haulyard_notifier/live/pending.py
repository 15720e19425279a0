"""What one client is still to be told: at most one state, so a slow client costs no more than a fast one."""

from haulyard_notifier.live.state import LiveState


class Pending:
    """The newest state that a client has not been sent, and when it may be sent.

    No clock and no waiting in here: the caller says what time it is.

    Args:
        interval: seconds between two messages; the last message of a job does not wait.
        after: the sequence that the client says it has seen; 0 for none.
    """

    def __init__(self, *, interval: float, after: int = 0) -> None:
        self._interval = interval
        self._after = after
        self._newest = 0
        self._state: LiveState | None = None
        self._not_before = float("-inf")
        self._over = False

    @property
    def is_over(self) -> bool:
        """Whether the client has all that there will ever be."""
        return self._over

    def begin(self, snapshot: LiveState) -> None:
        """Offer the state that the job was in when the client came, unless the client has seen it."""
        if snapshot.sequence > self._after:
            self.offer(snapshot)
        elif snapshot.sequence > self._newest:
            self._newest = snapshot.sequence
            self._over = snapshot.is_terminal

    def offer(self, state: LiveState) -> bool:
        """Take ``state`` in place of an older one; return whether it is news.

        A terminal state is news even to a client that claims to have seen more: it must not wait for ever.
        """
        if self._over or (self._state is not None and self._state.is_terminal):
            return False
        if state.sequence <= self._newest or (state.sequence <= self._after and not state.is_terminal):
            return False
        self._newest = state.sequence
        self._state = state
        return True

    def wait(self, now: float) -> float | None:
        """Return the seconds until there is something to `take`; None when there is nothing."""
        if self._state is None:
            return None
        return 0.0 if self._state.is_terminal else max(0.0, self._not_before - now)

    def take(self, now: float) -> LiveState:
        """Return the state to send now; only when `wait` is 0."""
        state, self._state = self._state, None
        if state is None:
            raise LookupError("nothing is pending")
        self._not_before = now + self._interval
        self._over = state.is_terminal
        return state
