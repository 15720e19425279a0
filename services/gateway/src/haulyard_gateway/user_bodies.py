"""What the API answers to users about what is held of them; times are UTC, to the second."""

from datetime import datetime
from typing import Literal

import msgspec

from haulyard_gateway.bodies import in_seconds
from haulyard_gateway.ports import Erasure


class ErasureBody(msgspec.Struct, frozen=True, kw_only=True):
    """A receipt for a wish to be forgotten."""

    erasure_id: str
    status: Literal["pending", "completed"]
    requested_at: datetime
    completed_at: datetime | None
    counts: dict[str, int]
    """What was deleted, when it is done."""
    status_url: str


def erasure_body(erasure: Erasure, *, status_url: str) -> ErasureBody:
    """Return the body that tells how far an erasure is."""
    return ErasureBody(
        erasure_id=erasure.erasure_id,
        status="pending" if erasure.completed_at is None else "completed",
        requested_at=in_seconds(erasure.requested_at),
        completed_at=in_seconds(erasure.completed_at) if erasure.completed_at else None,
        counts=erasure.counts,
        status_url=status_url,
    )
