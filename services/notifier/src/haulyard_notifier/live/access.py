"""Who may watch which job, and from where on."""

import re

from haulyard_chassis.identity import JOBS_READ, InvalidTokenError, Tickets, Verifier

_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,50}")
_MAX_SEQUENCE = 2**63 - 1


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

    async def owner(self, job_id: str, *, ticket: str | None, authorization: str | None) -> str | None:
        """Return the user to whom the job must belong; None when the ticket itself is the permission.

        Raises:
            haulyard_chassis.identity.InvalidTokenError: neither a valid ticket for this job nor a valid token.
            haulyard_chassis.identity.KeysUnavailableError: it cannot be told whether the token is valid.
        """
        if ticket is not None:
            self._tickets.verify(ticket, job_id)
            return None
        principal = await self._tokens.verify_header(authorization)
        if JOBS_READ not in principal.scopes:
            raise InvalidTokenError(f"the token does not grant {JOBS_READ}")
        return principal.user_id
