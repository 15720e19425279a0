"""Who may watch which job, and from where on."""

import re
from dataclasses import dataclass

from haulyard_chassis.identity import JOBS_READ, Tickets, Verifier

_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,50}")
_MAX_SEQUENCE = 2**63 - 1


class InsufficientScopeError(Exception):
    """The token is valid, and does not grant ``jobs:read``."""

    def __init__(self) -> None:
        super().__init__(f"The token does not grant {JOBS_READ}.")


@dataclass(frozen=True, slots=True)
class Admission:
    """Who is let in."""

    user_id: str
    must_own: bool
    """Whether the job must be the user's; False when a ticket itself is the permission."""


def is_job_id(text: str) -> bool:
    """Whether ``text`` could be a job's id.

    It becomes part of a subject, in which other characters have a meaning: ``*`` would be the jobs of everybody.
    """
    return _JOB_ID.fullmatch(text) is not None


def seen_sequence(*candidates: str | None) -> int:
    """Return the sequence that a client says it has seen, the first valid one of ``candidates``; 0 for none."""
    for candidate in candidates:
        if (
            candidate is not None
            and candidate.isascii()
            and candidate.isdigit()
            and len(candidate) <= len(str(_MAX_SEQUENCE))
        ):
            return min(int(candidate), _MAX_SEQUENCE)
    return 0


class Access:
    """Checks tickets and bearer tokens.

    Args:
        tokens: verifies bearer tokens.
        tickets: verifies tickets.
    """

    def __init__(self, tokens: Verifier, tickets: Tickets) -> None:
        self._tokens = tokens
        self._tickets = tickets

    async def admit(self, job_id: str, *, ticket: str | None, authorization: str | None) -> Admission:
        """Return who may watch the job.

        Raises:
            haulyard_chassis.identity.InvalidTokenError: neither a valid ticket for this job nor a valid token.
            haulyard_chassis.identity.KeysUnavailableError: it cannot be told whether the token is valid.
            InsufficientScopeError: the token is not for this.
        """
        if ticket is not None:
            return Admission(self._tickets.verify(ticket, job_id), must_own=False)
        principal = await self._tokens.verify_header(authorization)
        if JOBS_READ not in principal.scopes:
            raise InsufficientScopeError
        return Admission(principal.user_id, must_own=True)
