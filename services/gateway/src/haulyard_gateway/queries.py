"""What lists may be asked for: cursors, limits, filters. Pure functions from a query's parameters to what is wanted.

A cursor is the place of the last item that a page had, wrapped so that nobody thinks of building one. It needs no
signature: it only says where to go on, among what is the user's own anyway, and whatever else is refused.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from haulyard_chassis.dead_letters import STREAMS
from haulyard_chassis.problems import InvalidRequestError
from haulyard_contracts import JobDocument, JobStatus
from haulyard_gateway.faults import has_unsafe_characters, shown
from haulyard_gateway.reading import bad_parameter
from haulyard_gateway.validation import MAX_FILE_ID

MAX_LIMIT = 100
DEFAULT_LIMIT = 20
MAX_NAME_FILTER = 200
"""Characters of a filter by name."""

LETTER_PARAMETERS = ("cursor", "limit", "stream")
REPLAY_PARAMETERS = ("cursor", "stream")
PURGE_PARAMETERS = ("stream",)
JOB_PARAMETERS = ("cursor", "limit", "status", "created_after", "created_before")
FILE_PARAMETERS = ("cursor", "limit", "name", "prefix")

JOB_ID = re.compile(r"job_[0-7][0-9A-HJKMNP-TV-Z]{25}")
"""Crockford's base 32, as ULIDs are written."""
FILE_ID = re.compile(r"[1-9][0-9]{0,15}")
LETTER_SEQUENCE = re.compile(r"[1-9][0-9]{0,14}")
_REPLAY_PLACE = re.compile(rf"({LETTER_SEQUENCE.pattern}) ({LETTER_SEQUENCE.pattern})")
_JOB_PLACE = re.compile(rf"([0-9]{{1,17}}) ({JOB_ID.pattern})")
_CURSOR = re.compile(r"[A-Za-z0-9_-]{1,100}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NUMBER = re.compile(r"[0-9]{1,16}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsWanted:
    """A page of a user's jobs, the newest first."""

    limit: int
    before: tuple[datetime, str] | None = None
    """Time and id of the job that the page before ended with: an id that an idempotency key made says no time."""
    status: JobStatus | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesWanted:
    """A page of the files that a user may archive, the newest first."""

    limit: int
    before: int | None = None
    """Id of the file that the page before ended with."""
    name: str | None = None
    """Somewhere in the file's name, in capitals or not."""
    prefix: str | None = None
    """How the file's name begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LettersWanted:
    """A page of the messages that were given up, the oldest first."""

    limit: int
    after: int = 0
    """Sequence of the message that the page before ended with."""
    stream: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayWanted:
    """Messages that are to be sent again."""

    after: int = 0
    """Sequence of the message that was dealt with last."""
    until: int | None = None
    """Sequence of the last one that is meant; None: of the last one that there is."""
    stream: str | None = None


def parse_letters_wanted(query: Mapping[str, str]) -> LettersWanted:
    """Return which messages are wanted.

    Raises:
        InvalidRequestError: a parameter is not what it should be.
    """
    place = _cursor(query, LETTER_SEQUENCE)
    return LettersWanted(limit=_limit(query), after=int(place[0]) if place else 0, stream=parse_stream(query))


def parse_replay_wanted(query: Mapping[str, str]) -> ReplayWanted:
    """Return which messages are to be sent again.

    Raises:
        InvalidRequestError: a parameter is not what it should be.
    """
    place = _cursor(query, _REPLAY_PLACE)
    stream = parse_stream(query)
    return (
        ReplayWanted(after=int(place[1]), until=int(place[2]), stream=stream) if place else ReplayWanted(stream=stream)
    )


def parse_stream(query: Mapping[str, str]) -> str | None:
    """Return the stream that is meant, or None for all.

    Raises:
        InvalidRequestError: there is no such stream.
    """
    stream = query.get("stream")
    if stream is not None and stream not in STREAMS:
        raise bad_parameter("stream", f"{shown(stream)} is no stream; there are {', '.join(STREAMS)}.")
    return stream


def letter_cursor(last: int) -> str:
    """Return the cursor of the page that follows on a message."""
    return _wrapped(str(last))


def replay_cursor(last: int, until: int) -> str:
    """Return the cursor with which sending again goes on behind a message."""
    return _wrapped(f"{last} {until}")


def parse_jobs_wanted(query: Mapping[str, str]) -> JobsWanted:
    """Return which jobs are wanted.

    Raises:
        InvalidRequestError: a parameter is not what it should be.
    """
    status = query.get("status")
    if status is not None and status not in list(JobStatus):
        raise bad_parameter("status", f"{shown(status)} is no status; there are {', '.join(JobStatus)}.")
    return JobsWanted(
        limit=_limit(query),
        before=_job_place(query),
        status=JobStatus(status) if status else None,
        created_after=_time(query, "created_after"),
        created_before=_time(query, "created_before"),
    )


def parse_files_wanted(query: Mapping[str, str]) -> FilesWanted:
    """Return which files are wanted.

    Raises:
        InvalidRequestError: a parameter is not what it should be.
    """
    before = _cursor(query, FILE_ID)
    if before is not None and int(before[0]) > MAX_FILE_ID:
        raise _bad_cursor(query["cursor"])
    return FilesWanted(
        limit=_limit(query),
        before=int(before[0]) if before is not None else None,
        name=_name_filter(query, "name"),
        prefix=_name_filter(query, "prefix"),
    )


def job_cursor(last: JobDocument) -> str:
    """Return the cursor of the page that follows on a job."""
    return _wrapped(f"{(last.created_at - _EPOCH) // _MICROSECOND} {last.job_id}")


def file_cursor(last_id: int) -> str:
    """Return the cursor of the page that follows on a file."""
    return _wrapped(str(last_id))


def _wrapped(place: str) -> str:
    return urlsafe_b64encode(place.encode()).decode().rstrip("=")


def link_to_next(url: str, query: Mapping[str, str], cursor: str | None) -> dict[str, str]:
    """Return the ``Link`` header that leads to the next page (RFC 8288), if there is one."""
    if cursor is None:
        return {}
    return {"Link": f'<{url}?{urlencode({**query, "cursor": cursor})}>; rel="next"'}


def whole_number(query: Mapping[str, str], name: str, *, least: int, most: int) -> int | None:
    """Return a parameter that is an integer, or None if it is not given.

    Raises:
        InvalidRequestError: it is none, or out of bounds.
    """
    given = query.get(name)
    if given is None:
        return None
    if not _NUMBER.fullmatch(given) or not least <= int(given) <= most:
        raise bad_parameter(name, f"{shown(given)} is no integer from {least} to {most}.")
    return int(given)


def _limit(query: Mapping[str, str]) -> int:
    given = whole_number(query, "limit", least=1, most=MAX_LIMIT)
    return DEFAULT_LIMIT if given is None else given


def _unwrapped(cursor: str) -> str:
    try:
        return urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except ValueError:
        return ""


def _job_place(query: Mapping[str, str]) -> tuple[datetime, str] | None:
    place = _cursor(query, _JOB_PLACE)
    if place is None:
        return None
    try:
        return _EPOCH + int(place[1]) * _MICROSECOND, place[2]
    except OverflowError as error:
        raise _bad_cursor(query["cursor"]) from error


def _cursor(query: Mapping[str, str], form: re.Pattern[str]) -> re.Match[str] | None:
    given = query.get("cursor")
    if given is None:
        return None
    place = form.fullmatch(_unwrapped(given)) if _CURSOR.fullmatch(given) else None
    if place is None:
        raise _bad_cursor(given)
    return place


def _bad_cursor(given: str) -> InvalidRequestError:
    return bad_parameter("cursor", f"{shown(given)} is no cursor of this list; take it from the answer before.")


def _time(query: Mapping[str, str], name: str) -> datetime | None:
    given = query.get(name)
    if given is None:
        return None
    moment = _moment(given) if _TIME.fullmatch(given) else None
    if moment is None:
        hint = "a time with its offset is needed (RFC 3339), such as 2025-12-12T10:00:00Z"
        raise bad_parameter(name, f"{shown(given)} is no time; {hint}.")
    return moment


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _name_filter(query: Mapping[str, str], name: str) -> str | None:
    given = query.get(name)
    if given is None:
        return None
    if not 1 <= len(given) <= MAX_NAME_FILTER or has_unsafe_characters(given):
        raise bad_parameter(name, f"1 to {MAX_NAME_FILTER} characters are needed, and no control characters.")
    return given
