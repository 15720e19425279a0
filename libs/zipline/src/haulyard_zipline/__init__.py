"""The archive engine of Haulyard: entries become a layout, a layout becomes the bytes of headers and directory.

A ZIP is arithmetic: with names, sizes and CRCs known, every byte's place is known before a byte
moves. This package does that arithmetic and nothing else: no I/O, no clock, no randomness. Who uploads what, when and
how is up to the orchestrator and the archivers.

The way through: `safe_names` → `Entry` → `plan` → `Layout`; then, part by part in the order that `Layout.blockers`
allows, `local_header`, slices of the data with their `crc32`, and at last `directory`. Or, for those who want the
archive as a stream: `View`. Both give the same bytes, which `content_digest` names before they exist.
"""

from haulyard_zipline.crc import crc32, crc32_combine, join_crcs
from haulyard_zipline.digest import content_digest
from haulyard_zipline.entry import Entry
from haulyard_zipline.errors import (
    ArchiveTooLargeError,
    EntryError,
    LimitsError,
    UnknownCrcError,
    ZiplineError,
)
from haulyard_zipline.layout import Data, Directory, Header, Layout, Part, Piece
from haulyard_zipline.limits import Limits
from haulyard_zipline.names import safe_names
from haulyard_zipline.planner import plan
from haulyard_zipline.records import directory, directory_at, directory_size, local_header, local_header_size
from haulyard_zipline.supply import Supply
from haulyard_zipline.view import View, archive_size, content

__all__ = [
    "ArchiveTooLargeError",
    "Data",
    "Directory",
    "Entry",
    "EntryError",
    "Header",
    "Layout",
    "Limits",
    "LimitsError",
    "Part",
    "Piece",
    "Supply",
    "UnknownCrcError",
    "View",
    "ZiplineError",
    "archive_size",
    "content",
    "content_digest",
    "crc32",
    "crc32_combine",
    "directory",
    "directory_at",
    "directory_size",
    "join_crcs",
    "local_header",
    "local_header_size",
    "plan",
    "safe_names",
]
