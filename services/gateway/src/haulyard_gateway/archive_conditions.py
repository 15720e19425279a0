"""Which bytes of an archive a request is to have: preconditions and ranges. Pure functions.

An archive has a strong ETag and no date, so conditions with dates never hold, and those of them that may be ignored
are. Of several ranges none is served: a client that asks for them gets the whole, as it may.

Source: RFC 9110, sections 8.8.3 (ETag), 13.1 and 13.2 (preconditions), 14 (ranges).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from haulyard_chassis.problems import ProblemError

_MAX_HEADER = 1_000
"""Characters of a condition or range that is looked at; what is longer is for nobody's use."""

_ETAG = re.compile(r'(?P<weak>W/)?(?P<opaque>"[\x21\x23-\x7e\x80-\xff]*")')
_RANGE = re.compile(r"[Bb][Yy][Tt][Ee][Ss]=[ \t]*(?P<set>.*)", re.DOTALL)
_SPEC = re.compile(r"(?P<first>[0-9]*)-(?P<last>[0-9]*)")

OK, PARTIAL, NOT_MODIFIED = 200, 206, 304


class PreconditionFailedError(ProblemError):
    """It is not the archive any more that ``If-Match`` names; get it anew from its start."""

    status = 412
    slug = "precondition-failed"
    title = "The archive is another one"


class RangeNotSatisfiableError(ProblemError):
    """The archive ends before the range begins; ``Content-Range`` says how long it is."""

    status = 416
    slug = "range-not-satisfiable"
    title = "There are no such bytes"


class Headers(Protocol):
    """The headers of a request."""

    def getall(self, key: str, default: Sequence[str]) -> Sequence[str]:
        """Return all values of a header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a request says of the bytes that it wants."""

    with_content: bool = True
    """It is no HEAD."""
    byte_range: str | None = None
    if_range: str | None = None
    if_match: str | None = None
    if_none_match: str | None = None

    @property
    def is_conditional(self) -> bool:
        """Whether it names what its client has."""
        return (self.if_range or self.if_match or self.if_none_match) is not None


@dataclass(frozen=True, slots=True)
class Choice:
    """What a request gets: bytes from ``start`` up to, not including, ``stop``."""

    status: int
    start: int
    stop: int


def parse_asked(method: str, headers: Headers) -> Asked:
    """Return what a request says. Of a header that comes in several lines, the lines are one list."""

    def joined(name: str) -> str | None:
        lines = headers.getall(name, ())
        return ", ".join(lines) if lines else None

    return Asked(
        with_content=method != "HEAD",
        byte_range=joined("Range"),
        if_range=joined("If-Range"),
        if_match=joined("If-Match"),
        if_none_match=joined("If-None-Match"),
    )


def names(asked: Asked, etag: str) -> bool:
    """Whether the answer to a request depends on that its client has, or has a part of, what has this ETag."""
    headers = (asked.if_match, asked.if_none_match, asked.if_range if asked.byte_range is not None else None)
    return any(etag in _etags(header, strongly=False) for header in headers)


def choose(asked: Asked, *, etag: str, size: int) -> Choice:
    """Return what a request gets of an archive.

    Args:
        asked: what it says.
        etag: of the archive, a strong one.
        size: bytes of the archive, at least one.

    Raises:
        PreconditionFailedError, RangeNotSatisfiableError
    """
    if asked.if_match is not None and asked.if_match.strip() != "*" and etag not in _etags(asked.if_match):
        raise PreconditionFailedError(
            "The archive is not, or no longer, the one that you have a part of; get it anew.", headers={"ETag": etag}
        )
    if asked.if_none_match is not None and (
        asked.if_none_match.strip() == "*" or etag in _etags(asked.if_none_match, strongly=False)
    ):
        return Choice(NOT_MODIFIED, 0, 0)
    # A range of anything but GET must be ignored, and one of something that the client does not have a part of.
    if not asked.with_content or (asked.if_range is not None and asked.if_range.strip() != etag):
        return Choice(OK, 0, size)
    found = byte_range(asked.byte_range, size)
    return Choice(OK, 0, size) if found is None else Choice(PARTIAL, found.start, found.stop)


def byte_range(header: str | None, size: int) -> range | None:
    """Return the bytes that a ``Range`` header selects; None if it is to be ignored: malformed, or several ranges.

    Raises:
        RangeNotSatisfiableError: it is a range, and there are no such bytes.
    """
    match = _RANGE.fullmatch(header.strip()) if header is not None and len(header) <= _MAX_HEADER else None
    if match is None:
        return None
    specs = [spec for each in match["set"].split(",") if (spec := each.strip(" \t"))]  # empty elements do not count
    spec = _SPEC.fullmatch(specs[0]) if len(specs) == 1 else None
    if spec is None or spec[0] == "-":
        return None
    if not spec["first"]:
        start, stop = max(0, size - int(spec["last"])), size
    else:
        start, stop = int(spec["first"]), min(size, int(spec["last"] or size) + 1)
        if spec["last"] and int(spec["last"]) < start:
            return None
    if start >= size:
        raise RangeNotSatisfiableError(
            f"The archive has {size} bytes.", headers={"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"}
        )
    return range(start, stop)


def _etags(header: str | None, *, strongly: bool = True) -> frozenset[str]:
    """Return the ETags of a list, without their weakness; with ``strongly``, those that are not weak."""
    if header is None or len(header) > _MAX_HEADER:
        return frozenset()
    return frozenset(each["opaque"] for each in _ETAG.finditer(header) if not (strongly and each["weak"]))
