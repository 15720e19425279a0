"""Tokens that were verified a moment ago are not verified again: a client sends the same one with each request."""

import time
from collections import OrderedDict
from collections.abc import Callable

from haulyard_chassis.identity import Principal, Verifier

BELIEVED = 30.0
"""Seconds: so much later than it could be does a key count as withdrawn."""
_MOST = 10_000
"""Tokens that are remembered; those not seen for longest are forgotten."""


class RememberingVerifier:
    """Remembers whom a verifier found in a header, for half a minute and never longer than the token is good.

    What was refused is not remembered: whoever sends it has it looked at each time.

    Args:
        verifier: verifies.
        most: how many to remember.
        clock: returns the time in seconds since 1970.
    """

    def __init__(self, verifier: Verifier, *, most: int = _MOST, clock: Callable[[], float] = time.time) -> None:
        self._verifier = verifier
        self._most = most
        self._clock = clock
        self._found: OrderedDict[str, tuple[float, Principal]] = OrderedDict()

    async def verify_header(self, authorization: str | None) -> Principal:
        """Return whom an ``Authorization: Bearer …`` header names.

        Raises:
            haulyard_chassis.identity.InvalidTokenError
            haulyard_chassis.identity.KeysUnavailableError: the identity provider's keys cannot be had.
        """
        now = self._clock()
        if authorization is not None and (found := self._found.get(authorization)) is not None:
            until, principal = found
            if now < until <= now + BELIEVED:  # a clock that was set back does not make it good for longer
                self._found.move_to_end(authorization)
                return principal
            del self._found[authorization]
        principal = await self._verifier.verify_header(authorization)
        if authorization is not None:
            self._found[authorization] = (min(now + BELIEVED, principal.expires_at), principal)
            if len(self._found) > self._most:
                self._found.popitem(last=False)
        return principal

    async def close(self) -> None:
        """Release connections, and forget."""
        self._found.clear()
        await self._verifier.close()
