"""Collecting what is wrong with a body, each thing with its place, so that a client can mend all of it at once."""

import unicodedata
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any
from urllib.parse import quote

import msgspec

from haulyard_chassis.problems import FieldError, InvalidRequestError

MAX_LISTED = 20
"""Faults that an answer lists at most."""

_MAX_SHOWN = 60
_MAX_POINTER = 200
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
# They reverse how the rest of a name looks, so that "exe.pdf" may be read where "fdp.exe" is written.
_BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Faults:
    """What is wrong with one body."""

    def __init__(self) -> None:
        self._found: list[FieldError] = []
        self._unlisted = 0

    def __len__(self) -> int:
        return len(self._found) + self._unlisted

    @property
    def full(self) -> bool:
        """Whether what is noted from now on is only counted."""
        return len(self._found) >= MAX_LISTED

    def add(self, detail: str, *path: str | int) -> None:
        """Note a fault at ``path``, a sequence of field names and positions; none means the body as a whole."""
        if self.full:
            self._unlisted += 1
        else:
            self._found.append(FieldError(detail=detail, pointer=pointer(*path)))

    def check(self) -> None:
        """Return if nothing was noted.

        Raises:
            InvalidRequestError: with all that was.
        """
        if not self._found:
            return
        first = self._found[0]
        detail = f"{first.pointer}: {first.detail}"
        if len(self) > 1:
            detail = f"{len(self)} things are wrong with the body; the first: {detail}"
        if self._unlisted:
            detail += f" Only the first {MAX_LISTED} are listed."
        raise InvalidRequestError(detail, errors=self._found)


def pointer(*path: str | int) -> str:
    """Return a JSON Pointer in a URI fragment (RFC 6901, sections 3 and 6).

    A name so long that it could only be an attack is not repeated: the pointer then names what holds it.
    """
    steps = ""
    for step in path:
        escaped = quote(str(step).replace("~", "~0").replace("/", "~1"), safe="~!$&'()*+,;=:@")
        if len(steps) + len(escaped) > _MAX_POINTER:
            break
        steps += f"/{escaped}"
    return f"#{steps}"


def shown(value: Any) -> str:
    """Return a value as JSON, short enough for a message."""
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def has_unsafe_characters(text: str) -> bool:
    """Whether a text has control characters, line separators, or marks that reorder what is seen of it."""
    return any(
        character in _BIDI_CONTROLS or unicodedata.category(character) in _UNSAFE_CATEGORIES for character in text
    )


def check_known(body: Mapping[str, Any], known: Collection[str], faults: Faults, *path: str | int) -> None:
    """Note each field that does not exist: a typo must not pass for a field that was left out."""
    for name in body:
        if name not in known:
            faults.add(f"There is no such field; {'' if faults.full else _hint(name, known)}", *path, name)


def _hint(name: str, known: Collection[str]) -> str:
    close = get_close_matches(name[:_MAX_SHOWN], known, n=1)
    return f"did you mean {close[0]}?" if close else f"the fields are {', '.join(known)}."
