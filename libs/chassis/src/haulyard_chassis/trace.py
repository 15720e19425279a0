"""W3C Trace Context: the ``traceparent`` that ties a request to every message and event that follows from it.

Source: W3C Trace Context, section 3.2 (traceparent header).
"""

import re
import secrets

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def is_valid(traceparent: str) -> bool:
    """Whether it names a trace, in the version that we know."""
    return _TRACEPARENT.fullmatch(traceparent) is not None


def continue_trace(received: str | None) -> str:
    """Return the caller's ``traceparent`` if it is valid, else that of a new trace."""
    if received is not None and is_valid(received):
        return received
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def trace_id(traceparent: str) -> str:
    """Return the 32 hex digits that name the trace."""
    return traceparent[3:35]
