"""Whose object is it? Where uploads go, and which objects a user may register."""

import hashlib
from collections.abc import Collection

_UPLOADS = "uploads/"


def upload_folder(user_id: str) -> str:
    """Return the prefix of the keys of a user's uploads; a hash, because a user's id may hold anything."""
    return f"{_UPLOADS}{hashlib.sha256(user_id.encode()).hexdigest()[:32]}/"


def may_register(user_id: str, bucket: str, key: str, *, buckets: Collection[str]) -> bool:
    """Whether a user may register an object: it is in one of ``buckets``, and not another user's upload."""
    return bucket in buckets and (not key.startswith(_UPLOADS) or key.startswith(upload_folder(user_id)))
