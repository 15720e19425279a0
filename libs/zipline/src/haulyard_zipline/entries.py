"""What the engine is told of a file's place in the archive."""

from dataclasses import dataclass

MAX_NAME = 0xFFFF
"""Bytes of a name: its length is a 2-byte field (APPNOTE 4.4.10)."""


_MAX_CRC = 0xFFFFFFFF


class InvalidEntryError(ValueError):
    """An entry that no ZIP can hold; the message says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file in the archive, stored without compression.

    Raises:
        InvalidEntryError: see there.
    """

    name: str
    """Path inside the archive; made safe before (`haulyard_zipline.safe_names`)."""
    size: int
    """Bytes of data."""
    crc32: int | None
    """None: not known yet."""
    mtime: int
    """Last change, Unix seconds."""

    def __post_init__(self) -> None:
        if not 0 < len(self.encoded_name) <= MAX_NAME:
            raise InvalidEntryError(f"a name must have 1 to {MAX_NAME} bytes, not {len(self.encoded_name)}")
        if self.size < 0:
            raise InvalidEntryError(f"{self.name}: the size {self.size} is negative")
        if self.crc32 is not None and not 0 <= self.crc32 <= _MAX_CRC:
            raise InvalidEntryError(f"{self.name}: {self.crc32} is no CRC-32")

    @property
    def encoded_name(self) -> bytes:
        """The name as it stands in the archive."""
        return self.name.encode()
