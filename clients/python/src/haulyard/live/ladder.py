"""Which way to listen next: down when one does not work, up again after a while. Pure: no clock, no dice."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from haulyard.models import Way
from haulyard.retrying import RetryPolicy

_TRIES = 2
"""Failures in a row after which a way counts as not working."""
_CLIMB_AFTER = 30.0
"""Seconds of polling before the better ways are tried again; doubled each time, up to `_CLIMB_AT_MOST`."""
_CLIMB_AT_MOST = 480.0


class Loss(enum.Enum):
    """Why a connection tells nothing more."""

    BLOCKED = "blocked"
    """It cannot be had here: something refuses it."""
    BROKEN = "broken"
    """It could not be opened now, or broke, or fell silent."""
    ENDED = "ended"
    """The server has told all it has to tell."""
    CLIMB = "climb"
    """We left it, to try a better way."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What to do next."""

    way: Way
    pause: float
    """Seconds to wait first."""


class Ladder:
    """The ways, best first, and where on them a listener is.

    Args:
        ways: those that may be used, best first; the last one is never given up.
        policy: how long pauses are.
    """

    def __init__(self, ways: Sequence[Way], *, policy: RetryPolicy) -> None:
        if not ways:
            raise ValueError("at least one way is needed")
        self._ways = tuple(ways)
        self._policy = policy
        self._rung = 0
        self._failures = 0
        self._climb_after = _CLIMB_AFTER

    @property
    def way(self) -> Way:
        """The way to listen on now."""
        return self._ways[self._rung]

    @property
    def is_last(self) -> bool:
        """Whether there is no other way below."""
        return self._rung == len(self._ways) - 1

    @property
    def climb_after(self) -> float | None:
        """Seconds after which a listener leaves this way to try a better one; None for never."""
        return self._climb_after if self.is_last and self._rung > 0 else None

    def lost(self, loss: Loss, *, worked: bool, chance: float) -> Step:
        """Take the news that the connection is gone; return what to do.

        Args:
            loss: why.
            worked: whether it told something before, or held for long.
            chance: a random number from 0 to 1.
        """
        if loss is Loss.CLIMB:
            self._rung, self._failures = 0, 0
            self._climb_after = min(self._climb_after * 2, _CLIMB_AT_MOST)
            return Step(way=self.way, pause=0.0)
        self._failures = 1 if worked else self._failures + 1
        gives_up = loss in (Loss.BLOCKED, Loss.ENDED) or self._failures >= _TRIES
        if gives_up and not self.is_last:
            # After an end that was not told, the status has it: there is no use in the ways between.
            self._rung = len(self._ways) - 1 if loss is Loss.ENDED else self._rung + 1
            self._failures = 0
            return Step(way=self.way, pause=0.0)
        return Step(way=self.way, pause=self._policy.backoff(self._failures, chance=chance))
