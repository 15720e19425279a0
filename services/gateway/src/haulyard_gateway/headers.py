"""Headers that several answers have."""

NO_STORE = {"Cache-Control": "no-store"}
"""For answers that hold tickets, signed links, or a state that is old the moment it is sent."""

RETRY_AFTER = 2
"""Seconds after which a client may ask again how a job is."""


def retry_after() -> dict[str, str]:
    """Return the header that says when to ask again."""
    return {"Retry-After": str(RETRY_AFTER)}


def warning(*texts: str) -> dict[str, str]:
    """Return a ``Warning`` header (RFC 7234, section 5.5; 199 is a miscellaneous one), if there is a text."""
    return {"Warning": ", ".join(f'199 haulyard "{text}"' for text in texts)} if texts else {}
