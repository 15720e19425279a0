"""The archive engine: from entries to the layout of a ZIP in parts, and to the bytes of its headers and directory.

Pure functions: no I/O, no clock, no randomness. The same entries always give the same bytes.
"""

from haulyard_zipline.crc import crc32, crc32_combine, join_crcs
from haulyard_zipline.entries import Entry, InvalidEntryError
from haulyard_zipline.layout import (
    ArchiveTooLargeError,
    Data,
    Directory,
    Header,
    Layout,
    Limits,
    LimitsError,
    Part,
    Piece,
    plan,
)
from haulyard_zipline.names import safe_names
from haulyard_zipline.records import (
    UnknownChecksumError,
    directory,
    directory_size,
    local_header,
    local_header_size,
)

__all__ = [
    "ArchiveTooLargeError",
    "Data",
    "Directory",
    "Entry",
    "Header",
    "InvalidEntryError",
    "Layout",
    "Limits",
    "LimitsError",
    "Part",
    "Piece",
    "UnknownChecksumError",
    "crc32",
    "crc32_combine",
    "directory",
    "directory_size",
    "join_crcs",
    "local_header",
    "local_header_size",
    "plan",
    "safe_names",
]
