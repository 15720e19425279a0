"""What an archive is known by before it exists, so that an equal one need not be built again."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from haulyard_zipline.entry import Entry

# Names what is hashed, and how headers are written: a change of either in this package is a new version here.
_FORMAT: Final = b"haulyard archive content 1"


def content_digest(entries: Sequence[Entry], identities: Sequence[bytes]) -> str:
    """Return a SHA-256 in hexadecimal that two lists of entries share only if their archives have the same bytes.

    The CRC-32 and the deflated size are left out: they follow from the rest, and are not known as early.

    Args:
        entries: what goes in the archive, in order.
        identities: for each entry, what tells the bytes of its data apart from any other: the version of its source,
            and the options that its data is made by.

    Raises:
        ValueError: there are more or fewer identities than entries.
    """
    digest = hashlib.sha256(_encoded([_FORMAT, b"%d" % len(entries)]))
    for entry, identity in zip(entries, identities, strict=True):
        digest.update(_encoded([entry.name.encode(), b"%d" % entry.size, b"%d" % entry.mtime, identity]))
    return digest.hexdigest()


def _encoded(fields: Iterable[bytes]) -> bytes:
    """Return the fields one behind the other, each after its length, so that no other fields look the same."""
    return b"".join(len(field).to_bytes(8, "big") + field for field in fields)
