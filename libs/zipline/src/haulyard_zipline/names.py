"""Names that every system can unpack, and that nobody can attack with.

A name in a ZIP is a path that an unpacker may follow: an absolute path or ``..`` writes where it should not
("zip slip"), and what one system allows another cannot store. So names are made safe, and then unique.

Sources: APPNOTE 4.4.17 (forward slashes, no drive letter, no leading slash); Microsoft, "Naming Files, Paths, and
Namespaces"; UAX #15 (normalization), UAX #9 (directional formatting).
"""

import re
import unicodedata
from collections.abc import Sequence

MAX_SEGMENT = 255
"""Bytes of one path segment: what ext4, APFS and NTFS allow, or less."""
MAX_PATH = 1024
"""Bytes of a whole path; what is more is cut from the front segments."""

_NAMELESS = "file"
_DRIVE = re.compile(r"^[A-Za-z]:")
_FORBIDDEN = frozenset('<>:"|?*')
_RESERVED = re.compile(r"^(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])$", re.IGNORECASE)
_DIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control, surrogate, line and paragraph separator


def safe_names(names: Sequence[str]) -> list[str]:
    """Return the names made safe, and unique also where upper and lower case are the same.

    The first of equal names keeps its name, others get `` (2)``, `` (3)`` … before the extension. A name that is a
    folder of another name counts as taken.
    """
    safe = [_safe_path(name) for name in names]
    folders = {_folded(folder) for name in safe for folder in _folders(name)}
    # A name that came first keeps it, also from a numbered name that would like to be the same.
    given = {_folded(name) for name in safe}
    taken: set[str] = set()
    next_number: dict[str, int] = {}
    unique = []
    for name in safe:
        folded = _folded(name)
        if folded not in taken and folded not in folders:
            chosen = name
        else:
            number = next_number.get(folded, 2)
            while True:
                chosen = _numbered(name, number)
                number += 1
                other = _folded(chosen)
                if other not in taken and other not in folders and other not in given:
                    break
            next_number[folded] = number
        taken.add(_folded(chosen))
        unique.append(chosen)
    return unique


def _folded(name: str) -> str:
    """Return the form in which names are the same that a case-insensitive system takes for the same."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def _folders(name: str) -> list[str]:
    segments = name.split("/")
    return ["/".join(segments[:depth]) for depth in range(1, len(segments))]


def _safe_path(name: str) -> str:
    path = _DRIVE.sub("", name.replace("\\", "/"))
    segments = [safe for segment in path.split("/") if (safe := _safe_segment(segment))]
    while len(segments) > 1 and len("/".join(segments).encode()) > MAX_PATH:
        segments = segments[1:]
    return "/".join(segments) or _NAMELESS


def _safe_segment(segment: str) -> str:
    """Return a segment without anything unsafe; empty if it is to be left out."""
    # A surrogate cannot be encoded; replaced first, since normalizing and cutting encode.
    text = "".join("_" if _is_unsafe(character) else character for character in segment)
    text = unicodedata.normalize("NFC", text)
    # Windows drops trailing dots and spaces, so two names could become one; "." and ".." end here too.
    text = text.strip(" ").rstrip(". ")
    if not text:
        return ""
    stem, dot, extension = text.partition(".")
    if _RESERVED.match(stem.rstrip(" ")):
        text = f"{stem.rstrip(' ')}_{dot}{extension}"
    return _cut(text, MAX_SEGMENT)


def _is_unsafe(character: str) -> bool:
    return character in _FORBIDDEN or character in _DIRECTIONAL or unicodedata.category(character) in _UNSAFE_CATEGORIES


def _split(segment: str) -> tuple[str, str]:
    """Return stem and extension, the latter with its dot; a leading dot starts no extension."""
    stem, dot, extension = segment.rpartition(".")
    if not stem or " " in extension or len(extension.encode()) > 16:  # noqa: PLR2004 - longer is no extension
        return segment, ""
    return stem, dot + extension


def _cut(segment: str, most: int) -> str:
    """Cut a segment to ``most`` bytes at a character boundary, keeping its extension."""
    if len(segment.encode()) <= most:
        return segment
    stem, extension = _split(segment)
    room = most - len(extension.encode())
    return stem.encode()[:room].decode(errors="ignore").rstrip(". ") + extension


def _numbered(name: str, number: int) -> str:
    folder, slash, segment = name.rpartition("/")
    stem, extension = _split(segment)
    suffix = f" ({number})"
    room = MAX_SEGMENT - len((suffix + extension).encode())
    return folder + slash + stem.encode()[:room].decode(errors="ignore").rstrip(". ") + suffix + extension
