"""Which bytes are there, and which to fetch next. Pure. A range is its first byte, and the one after its last."""

import re
from collections.abc import Iterable, Sequence

Range = tuple[int, int]

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")


def merged(ranges: Iterable[Range]) -> list[Range]:
    """Return the same bytes as the fewest ranges, in order."""
    result: list[Range] = []
    for start, end in sorted(item for item in ranges if item[0] < item[1]):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(result[-1][1], end))
        else:
            result.append((start, end))
    return result


def missing(size: int, done: Iterable[Range]) -> list[Range]:
    """Return the bytes of ``size`` that are not in ``done``, as the fewest ranges, in order."""
    result: list[Range] = []
    position = 0
    for start, end in merged(done):
        if position < min(start, size):
            result.append((position, min(start, size)))
        position = max(position, end)
    if position < size:
        result.append((position, size))
    return result


def pieces(ranges: Sequence[Range], *, connections: int, smallest: int, largest: int) -> list[Range]:
    """Cut ranges into pieces, in order, so that every connection has some and none has one that takes very long.

    Args:
        ranges: what is to be fetched.
        connections: how many work side by side.
        smallest: bytes below which a piece is not worth a request, if there is a choice.
        largest: bytes that a piece has at most.
    """
    total = sum(end - start for start, end in ranges)
    # Four for each connection, so that a slow one does not keep the others waiting at the end.
    length = max(smallest, min(largest, -(-total // (connections * 4))), 1)
    result = []
    for start, end in ranges:
        count = max(1, (end - start) // length)
        step = -(-(end - start) // count)
        result += [(at, min(at + step, end)) for at in range(start, end, step)]
    return result


def parse_content_range(value: str | None) -> tuple[Range, int] | None:
    """Return the range that an answer holds and the size of the whole (RFC 9110 section 14.4), if it says so."""
    match = _CONTENT_RANGE.fullmatch(value or "")
    if match is None:
        return None
    first, last, size = (int(number) for number in match.groups())
    return ((first, last + 1), size) if first <= last < size else None
