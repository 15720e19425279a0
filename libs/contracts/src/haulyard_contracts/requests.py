"""What the gateway asks of the orchestrator."""

from datetime import datetime
from enum import StrEnum

from haulyard_contracts.codec import Message


class Compression(StrEnum):
    """How the data of entries is kept in the archive."""

    STORE = "store"
    """As it is: the store itself can copy it."""
    DEFLATE = "deflate"
    """Deflated where that makes an entry smaller."""


class OnMissing(StrEnum):
    """What becomes of a job when one of its files cannot be archived."""

    SKIP = "skip"
    """The others are archived, with a ``MISSING-FILES.txt`` that names those that are not."""
    FAIL = "fail"
    """The job fails."""


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
    compression: Compression = Compression.STORE
    on_missing: OnMissing = OnMissing.SKIP
    retry_of: str | None = None
    """The job whose failed files these are, when it is done again for them."""


class JobAction(StrEnum):
    """What a user can want of a job that exists."""

    CANCEL = "cancel"
    """Stop it; nothing of it stays in the store. A job that is over stays as it is."""
    DELETE = "delete"
    """Stop it if it is not over, and forget it: its record, and its archive unless another job has the same."""


class JobControl(Message, tag_field="type", tag="job_control.v1", frozen=True, kw_only=True):
    """A user's wish about a job that exists."""

    job_id: str
    action: JobAction
    requested_at: datetime


class UserErasure(Message, tag_field="type", tag="user_erasure.v1", frozen=True, kw_only=True):
    """A user's wish to be forgotten (GDPR, article 17): jobs, archives, files of the catalogue, and what names them."""

    erasure_id: str
    user_id: str
    requested_at: datetime
