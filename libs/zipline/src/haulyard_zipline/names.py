"""Names that any computer can unpack: sanitised path by path, then made unique across the archive.

APPNOTE 4.4.17.1 only asks for relative paths with forward slashes. The rest comes from where archives are unpacked:
Windows forbids characters and device names and drops trailing dots, file systems limit a segment to 255 bytes and may
ignore case, and a name with `..` in it is an attack on whoever unpacks it.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Final, NamedTuple

# What the usual file systems take for one segment of a path (ext4, XFS, APFS; NTFS counts 255 UTF-16 units).
MAX_SEGMENT_BYTES: Final = 255

# A whole path. The format would take 65,535 bytes, but common tools stop at 1,024 (macOS's PATH_MAX) or a little more.
MAX_PATH_BYTES: Final = 1024

# Whatever the file is called, its folders leave room for it, so making a file name unique never touches its folders.
_MAX_FOLDER_BYTES: Final = MAX_PATH_BYTES - MAX_SEGMENT_BYTES

# Longer than this, or with a space in it, what follows the last dot is a sentence and not an extension.
_MAX_EXTENSION_BYTES: Final = 32

# Room for " (n)" with any n that a list in memory can reach.
_SUFFIX_BYTES: Final = 16

# The file name of a path of which nothing is left.
_NAMELESS: Final = "file"

_UNSAFE: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f"  # category Cc
    r"\ud800-\udfff"  # surrogates have no UTF-8 form
    r"\u2028\u2029"  # line and paragraph separators break lists of names
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidi marks and overrides make "gpj.exe" look like "exe.jpg"
    r'<>:"|?*]'  # forbidden on Windows, as are the slashes
)

# Default_Ignorable_Code_Point (UAX #44), from soft hyphens to joiners and variation selectors. Scripts and emoji need
# some of them, so they stay; but nobody sees them and file systems that ignore case may drop them (HFS+, ext4), so they
# make no name different from another.
_INVISIBLE: Final = re.compile(
    r"[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)

_DRIVE: Final = re.compile(r"\A/*[A-Za-z]:")

# Devices, to Windows, with any extension and also with spaces before it: `NUL`, `nul.txt`, `Com1 .tar.gz`.
_DEVICE: Final = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9¹²³]) *(?:\.|\Z)", re.IGNORECASE)


class _Path(NamedTuple):
    folder: str
    """Empty, or segments each followed by `/`."""

    file: str


def safe_names(names: Sequence[str]) -> list[str]:
    """Return a safe and unique name for each of `names`, in their order.

    Safe: NFC, relative, `/` between segments, no `.`, `..` or empty segments, no control characters, surrogates,
    bidi overrides or characters and names that Windows reserves, at most 255 UTF-8 bytes a segment and 1,024 a path.
    A segment too long is cut before its extension; a path too long loses its innermost folders.

    Unique: also when case and invisible characters are ignored, and no file is also the folder of another. Of equal
    names the first stays as it is; the others get ` (2)`, ` (3)` before the extension, skipping numbers that would
    equal another given name.

    Safe and unique names come back unchanged, so `safe_names(safe_names(x)) == safe_names(x)`.
    """
    paths = [_safe_path(name) for name in names]
    keys = [_key(path.folder + path.file) for path in paths]
    given = set(keys)
    taken = _folders(keys)
    counters: dict[str, int] = {}
    result = []
    for path, given_key in zip(paths, keys, strict=True):
        name, key = path.folder + path.file, given_key
        if key in taken:
            name, key = _renamed(path, given, taken, counters)
        taken.add(key)
        result.append(name)
    return result


def _renamed(path: _Path, given: set[str], taken: set[str], counters: dict[str, int]) -> tuple[str, str]:
    """Return the first free name of the form `stem (n).extension` in the same folder, and its key."""
    stem, extension = _split(path.file)
    stem = _cut(stem, MAX_SEGMENT_BYTES - _SUFFIX_BYTES - len(extension.encode()))
    # All names that lead to the same candidates count on together (`/` cannot be part of either side). So a number
    # is tried once, and many equal names cost no more than as many different ones.
    family = _key(f"{path.folder}{stem}/{extension}")
    number = counters.get(family, 2)
    while True:
        name = f"{path.folder}{stem} ({number}){extension}"
        key = _key(name)
        number += 1
        if key not in given and key not in taken:
            counters[family] = number
            return name, key


def _key(name: str) -> str:
    """Return what two names have in common when a person, or a file system that ignores case, takes them for one."""
    return unicodedata.normalize("NFC", _INVISIBLE.sub("", unicodedata.normalize("NFD", name).casefold()))


def _folders(keys: Sequence[str]) -> set[str]:
    """Return the keys of all folders that the paths with these keys lie in."""
    folders: set[str] = set()
    for key in keys:
        folder = key.rpartition("/")[0]
        # A folder already seen has brought its own folders with it.
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return folders


def _safe_path(name: str) -> _Path:
    path = _DRIVE.sub("", unicodedata.normalize("NFC", name).replace("\\", "/"))
    segments = [segment for raw in path.split("/") if (segment := _safe_segment(raw))]
    if not segments:
        return _Path("", _NAMELESS)
    folder = ""
    for segment in segments[:-1]:
        longer = f"{folder}{segment}/"
        if len(longer.encode()) > _MAX_FOLDER_BYTES:
            break
        folder = longer
    return _Path(folder, segments[-1])


def _safe_segment(raw: str) -> str:
    """Return `raw` as a safe segment, or nothing if nothing to see is left, as of `.` and `..`."""
    segment = _shortened(_UNSAFE.sub("_", raw).lstrip(" ").rstrip(". "))
    if not _INVISIBLE.sub("", segment).strip(". "):
        return ""
    device = _DEVICE.match(segment)
    if device:
        segment = _shortened(f"{device[1]}_{segment[device.end(1) :]}")
    return segment


def _shortened(segment: str) -> str:
    """Return `segment` cut before its extension to what a file system takes."""
    if len(segment.encode()) <= MAX_SEGMENT_BYTES:
        return segment
    stem, extension = _split(segment)
    return (_cut(stem, MAX_SEGMENT_BYTES - len(extension.encode())) + extension).rstrip(". ")


def _split(segment: str) -> tuple[str, str]:
    """Return (stem, extension with its dot); `.tar` belongs to the extension after it, a leading dot to the stem."""
    stem, _, suffix = segment.rpartition(".")
    if not stem or not suffix or " " in suffix or len(suffix.encode()) > _MAX_EXTENSION_BYTES:
        return segment, ""
    inner, dot, tar = stem.rpartition(".")
    if inner and tar.lower() == "tar":
        return inner, f"{dot}{tar}.{suffix}"
    return stem, f".{suffix}"


def _cut(text: str, max_bytes: int) -> str:
    """Return as much of the start of `text` as fits in `max_bytes` of UTF-8, ending between characters."""
    return text.encode()[:max_bytes].decode(errors="ignore")
