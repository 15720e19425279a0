"""What the gateway asks of the orchestrator."""

from datetime import datetime
from typing import Literal

from haulyard_contracts.codec import Message


class JobRequested(Message, tag_field="type", tag="job_requested.v1", frozen=True, kw_only=True):
    """One request for one archive. Its message id is the job id, so a request sent twice is one job."""

    job_id: str
    user_id: str
    file_ids: tuple[int, ...]
    created_at: datetime
    priority: int = 5
    """1 to 10, 10 first."""
    filename: str | None = None
    """The name under which the archive is downloaded; None means ``download_<job_id>.zip``."""
    webhook_url: str | None = None


class JobControl(Message, tag_field="type", tag="job_control.v1", frozen=True, kw_only=True):
    """A user's wish about a job that exists."""

    job_id: str
    action: Literal["cancel"]
    requested_at: datetime
