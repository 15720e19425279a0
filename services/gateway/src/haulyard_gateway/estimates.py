"""When a job may be done: a promise to nobody, and a hint how long to wait before asking again."""

import math
from datetime import datetime, timedelta

_OVERHEAD = 5.0
"""Seconds from request to first part, on a system that is not busy."""
_PER_FILE = 0.5
"""Seconds a file; neither sizes nor load are known when a job is accepted."""


def estimated_completion(created_at: datetime, *, files: int) -> datetime:
    """Return when a job of so many files is expected to be done: 5 s, and half a second for each file."""
    return created_at + timedelta(seconds=math.ceil(_OVERHEAD + _PER_FILE * files))
