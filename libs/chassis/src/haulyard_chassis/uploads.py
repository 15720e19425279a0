"""Where the files that users upload are kept: the gateway writes there, and the orchestrator forgets users."""

import hashlib

UPLOADS = "uploads/"
"""Prefix of the keys of all uploads."""


def upload_folder(user_id: str) -> str:
    """Return the prefix of the keys of a user's uploads; a hash, because a user's id may hold anything."""
    return f"{UPLOADS}{hashlib.sha256(user_id.encode()).hexdigest()[:32]}/"
