"""One file's place in the archive, and the limits that the ZIP format itself sets on it."""

from dataclasses import dataclass

from haulyard_zipline.errors import EntryError

# The file name length field is two bytes (APPNOTE 4.4.10).
MAX_NAME_BYTES = 0xFFFF

# Sizes are eight bytes at most (APPNOTE 4.5.3), but many readers hold them in signed integers.
MAX_ENTRY_SIZE = 2**63 - 1

_MAX_CRC32 = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Entry:
    """One file's place in the archive: what its headers say and how much data follows.

    Raises:
        EntryError: a field cannot be written in a ZIP.
    """

    name: str
    """Path inside the archive, with `/` between segments; already safe and unique (see `safe_names`)."""

    size: int
    """Bytes of the file."""

    crc32: int | None
    """CRC-32 of the file's bytes (APPNOTE 4.4.7), or None while nobody knows it."""

    mtime: int
    """When the file was last modified, in seconds since 1970-01-01 UTC."""

    packed: int | None = None
    """Bytes of the file's deflated form (RFC 1951), if that is its data in the archive; None: stored as it is."""

    @property
    def data_size(self) -> int:
        """Bytes of the entry's data in the archive, deflated or stored."""
        return self.size if self.packed is None else self.packed

    def __post_init__(self) -> None:
        if not self.name:
            raise EntryError("name: empty")
        try:
            name_bytes = len(self.name.encode())
        except UnicodeEncodeError as error:
            raise EntryError(f"name: {self.name!r} has no UTF-8 form") from error
        if name_bytes > MAX_NAME_BYTES:
            raise EntryError(f"name: {name_bytes} bytes of UTF-8, at most {MAX_NAME_BYTES} fit")
        if not 0 <= self.size <= MAX_ENTRY_SIZE:
            raise EntryError(f"size: {self.size} is not in 0..{MAX_ENTRY_SIZE}")
        if self.crc32 is not None and not 0 <= self.crc32 <= _MAX_CRC32:
            raise EntryError(f"crc32: {self.crc32} is not an unsigned 32-bit number")
        # Even of no bytes the deflated form has some: it says where it ends.
        if self.packed is not None and not 1 <= self.packed <= MAX_ENTRY_SIZE:
            raise EntryError(f"packed: {self.packed} is not in 1..{MAX_ENTRY_SIZE}")
