"""Whose object is it? Which objects a user may register."""

from collections.abc import Collection

from haulyard_chassis.uploads import UPLOADS, upload_folder


def may_register(user_id: str, bucket: str, key: str, *, buckets: Collection[str]) -> bool:
    """Whether a user may register an object: it is in one of ``buckets``, and not another user's upload."""
    return bucket in buckets and (not key.startswith(UPLOADS) or key.startswith(upload_folder(user_id)))
