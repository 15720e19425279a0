"""Haulyard's client: bulk downloads as one ZIP.

from haulyard import Client

with Client() as client:  # HAULYARD_URL and HAULYARD_TOKEN, or `haulyard login`
    client.get([70000, 70001], "out.zip")
"""

from haulyard.client import AsyncClient, Uploaded, raise_for_end
from haulyard.errors import (
    ApiError,
    ArchiveCorruptError,
    ArchiveExpiredError,
    ConfigurationError,
    ConflictError,
    ConnectionFailedError,
    DownloadError,
    FieldError,
    ForbiddenError,
    HaulyardError,
    InvalidRequestError,
    JobEndedBadlyError,
    JobFailedError,
    JobNotReadyError,
    NotFoundError,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
    UnexpectedAnswerError,
    UploadError,
    WaitTimeoutError,
)
from haulyard.http import Timeouts
from haulyard.models import (
    AcceptedJob,
    ArchiveLink,
    DeadLetter,
    Failure,
    File,
    InspectedJob,
    Job,
    JobFile,
    JobStatus,
    Progress,
    Replayed,
    TriedTask,
    Update,
    UploadLink,
    Way,
)
from haulyard.retrying import RetryPolicy
from haulyard.sync import Client
from haulyard.transfer.naming import LocalFile, local_files

__all__ = [
    "AcceptedJob",
    "ApiError",
    "ArchiveCorruptError",
    "ArchiveExpiredError",
    "ArchiveLink",
    "AsyncClient",
    "Client",
    "ConfigurationError",
    "ConflictError",
    "ConnectionFailedError",
    "DeadLetter",
    "DownloadError",
    "Failure",
    "FieldError",
    "File",
    "ForbiddenError",
    "HaulyardError",
    "InspectedJob",
    "InvalidRequestError",
    "Job",
    "JobEndedBadlyError",
    "JobFailedError",
    "JobFile",
    "JobNotReadyError",
    "JobStatus",
    "LocalFile",
    "NotFoundError",
    "Progress",
    "Replayed",
    "RetryPolicy",
    "Timeouts",
    "TooManyRequestsError",
    "TriedTask",
    "UnauthorizedError",
    "UnavailableError",
    "UnexpectedAnswerError",
    "Update",
    "UploadError",
    "UploadLink",
    "Uploaded",
    "WaitTimeoutError",
    "Way",
    "local_files",
    "raise_for_end",
]
