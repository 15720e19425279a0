"""What the store allows and what the operator prefers, checked so that planning can rely on it."""

from dataclasses import dataclass
from typing import Final

from haulyard_zipline.errors import LimitsError
from haulyard_zipline.records import MAX_LOCAL_HEADER_SIZE

_MIB: Final = 1024 * 1024
_GIB: Final = 1024 * _MIB

# A written part holds up to min_part before its last packed entry, up to packed_part of that entry's data, that
# entry's header, and the header of an entry that is not packed, which ends the part.
_HEADER_ROOM: Final = 2 * MAX_LOCAL_HEADER_SIZE


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes that a layout keeps. The defaults are those of S3 and of Haulyard.

    Raises:
        LimitsError: two of the limits contradict each other.
    """

    min_part: int = 5 * _MIB
    """Every part but the last is at least this large."""

    max_part: int = 5 * _GIB
    """No part is larger."""

    max_parts: int = 10_000
    """An archive has no more parts."""

    packed_part: int = 16 * _MIB
    """Small entries share a part up to this size; an entry with more data than this is large.

    Written parts other than the last have less than `min_part + packed_part` bytes and two headers (of 128 KiB at
    most together): 22 MiB with the defaults, so that an archiver can hold one in memory.
    """

    body_part: int = 64 * _MIB
    """Data that passes through archivers, or that is read for its CRC-32 while the store copies it, is cut in parts of
    at most this size, if that does not make too many."""

    copied_part: int = 512 * _MIB
    """Data that only the store touches is cut in parts of at most this size (but not smaller than `body_part`, nor
    larger than `max_part`), if that does not make too many."""

    spread: int = 16
    """Data that only the store touches is cut in about this many parts at least, as far as these are not smaller than
    `body_part`, so that many archivers have something to do."""

    equal_parts: bool = False
    """All parts but the last have to have the same size, as on Cloudflare R2."""

    single_put: int = 16 * _MIB
    """An archive up to this size is one PUT; 0 means always a multipart upload."""

    def __post_init__(self) -> None:
        if self.min_part < 1:
            raise LimitsError(f"min_part ({self.min_part}) must be at least 1")
        if self.max_parts < 1:
            raise LimitsError(f"max_parts ({self.max_parts}) must be at least 1")
        # What is left of a large entry after its first min_part bytes must be enough for a part of its own.
        if self.packed_part < 2 * self.min_part:
            raise LimitsError(f"packed_part ({self.packed_part}) must be at least twice min_part ({self.min_part})")
        if not self.min_part <= self.body_part <= self.max_part:
            raise LimitsError(
                f"body_part ({self.body_part}) must lie between min_part ({self.min_part}) "
                f"and max_part ({self.max_part})"
            )
        if self.copied_part < self.min_part:
            raise LimitsError(f"copied_part ({self.copied_part}) must be at least min_part ({self.min_part})")
        if self.spread < 1:
            raise LimitsError(f"spread ({self.spread}) must be at least 1")
        if not 0 <= self.single_put <= self.max_part:
            raise LimitsError(f"single_put ({self.single_put}) must lie between 0 and max_part ({self.max_part})")
        if self.min_part + self.packed_part + _HEADER_ROOM > self.max_part:
            raise LimitsError(
                f"packed_part ({self.packed_part}) must leave room for min_part ({self.min_part}) and "
                f"{_HEADER_ROOM} bytes of headers within max_part ({self.max_part})"
            )
