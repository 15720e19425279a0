"""Conditional requests and waiting for a change: what the client knows, and what it is to be told. Pure functions.

A job's state is versioned by its sequence, which is its ETag. It is a weak one: the same state may be written in other
bytes by another version of the service.

Source: RFC 9110, sections 8.8.3 (ETag) and 13.1.2 (If-None-Match).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from haulyard_contracts import TERMINAL, JobDocument
from haulyard_gateway.faults import shown
from haulyard_gateway.queries import whole_number
from haulyard_gateway.reading import bad_parameter
from haulyard_gateway.settings import LONGEST_WAIT

STATUS_PARAMETERS = ("wait", "since")

MAX_SEQUENCE = 2**53 - 1
"""The largest integer that JavaScript, and Lua in the cache, hold exactly."""

_ETAGS = re.compile(
    r'[ \t]*(?:W/)?"[\x21\x23-\x7e\x80-\uffff]*"(?:[ \t]*,[ \t]*(?:W/)?"[\x21\x23-\x7e\x80-\uffff]*")*[ \t]*'
)
_OURS = re.compile(r'(?:W/)?"([0-9]{1,16})"')
_MAX_HEADER = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a client says that it knows of a job."""

    etags: frozenset[int] = frozenset()
    """Sequences of the states that it has, from ``If-None-Match``."""
    anything: bool = False
    """``If-None-Match: *``: any state at all."""
    since: int | None = None
    wait: int = 0
    """Seconds that it would wait for a change."""

    @property
    def least(self) -> int:
        """A sequence that the job is said to have reached; as the client says so, it only costs us a closer look."""
        return max(self.etags | {self.since or 0})


def parse_known(query: Mapping[str, str], if_none_match: str | None) -> Known:
    """Return what a client knows.

    Raises:
        InvalidRequestError: a parameter is not what it should be.
    """
    etags, anything = parse_etags(if_none_match)
    return Known(
        etags=etags,
        anything=anything,
        since=whole_number(query, "since", least=0, most=MAX_SEQUENCE),
        wait=whole_number(query, "wait", least=0, most=LONGEST_WAIT) or 0,
    )


def parse_etags(if_none_match: str | None) -> tuple[frozenset[int], bool]:
    """Return the sequences that ``If-None-Match`` names, and whether it is ``*``. Others' ETags match nothing.

    Raises:
        InvalidRequestError: it is malformed.
    """
    if if_none_match is None:
        return frozenset(), False
    if if_none_match.strip() == "*":
        return frozenset(), True
    if len(if_none_match) > _MAX_HEADER or not _ETAGS.fullmatch(if_none_match):
        raise bad_parameter("If-None-Match", f'{shown(if_none_match)} is no list of ETags, such as W/"7".')
    return frozenset(min(int(number), MAX_SEQUENCE) for number in _OURS.findall(if_none_match)), False


def etag(job: JobDocument) -> str:
    """Return the ETag of a job's state."""
    return f'W/"{job.sequence}"'


def is_known(job: JobDocument, known: Known) -> bool:
    """Whether the client has this state, so that 304 tells it all."""
    return known.anything or job.sequence in known.etags


def should_wait(job: JobDocument, known: Known) -> bool:
    """Whether there is nothing to tell the client yet: it knows this state, or says nothing and wants the next one."""
    if not known.wait or job.status in TERMINAL:
        return False
    if known.since is not None:
        return job.sequence <= known.since
    if known.etags:
        return job.sequence in known.etags or job.sequence < max(known.etags)
    return True
