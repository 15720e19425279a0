"""JSON that strangers send: not larger and not deeper than anything that makes sense."""

from typing import Any

import msgspec

MAX_DEPTH = 16
"""Levels of lists and objects within each other."""


class JsonTooDeepError(ValueError):
    """Lists and objects are nested deeper than is read."""


def bounded_json(data: bytes, *, max_depth: int = MAX_DEPTH) -> Any:
    """Return what JSON ``data`` holds.

    How many bytes there may be is for the reader of the body to say, before it has them all.

    Raises:
        JsonTooDeepError
        msgspec.DecodeError: it is not JSON.
        UnicodeDecodeError: it is not UTF-8.
    """
    try:
        decoded = msgspec.json.decode(data)
    except RecursionError as error:
        raise JsonTooDeepError(f"it is nested deeper than {max_depth} levels") from error
    # What has so few brackets cannot be too deep, and that is nearly everything.
    if data.count(b"[") + data.count(b"{") > max_depth and _is_deeper(decoded, max_depth):
        raise JsonTooDeepError(f"it is nested deeper than {max_depth} levels")
    return decoded


def _is_deeper(decoded: Any, max_depth: int) -> bool:
    level = [decoded] if isinstance(decoded, dict | list) else []
    for _ in range(max_depth):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return bool(level)
