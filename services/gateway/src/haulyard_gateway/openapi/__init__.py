"""What OpenAPI says of each endpoint, by topic; the examples are those of the original requirement."""

from haulyard_gateway.openapi.admin import (
    DELETE_DEAD_LETTER,
    GET_DEAD_LETTER,
    INSPECT_JOB,
    LIST_DEAD_LETTERS,
    PURGE_DEAD_LETTERS,
    REPLAY_DEAD_LETTER,
    REPLAY_DEAD_LETTERS,
)
from haulyard_gateway.openapi.archive import ARCHIVE, ARCHIVE_HEAD
from haulyard_gateway.openapi.downloads import CHECK, DOWNLOAD, DOWNLOAD_ALIAS, INITIATE, START
from haulyard_gateway.openapi.files import ADD_FILES, DELETE_FILE, GET_FILE, LIST_FILES
from haulyard_gateway.openapi.jobs import CANCEL, DELETE_JOB, LIST_JOBS, LIVE, RETRY, STATUS
from haulyard_gateway.openapi.users import ERASE, ERASURE, EXPORT
from haulyard_gateway.openapi.webhooks import DELIVERIES, REDELIVER, ROTATE, SECRETS

__all__ = [
    "ADD_FILES",
    "ARCHIVE",
    "ARCHIVE_HEAD",
    "CANCEL",
    "CHECK",
    "DELETE_DEAD_LETTER",
    "DELETE_FILE",
    "DELETE_JOB",
    "DELIVERIES",
    "DOWNLOAD",
    "DOWNLOAD_ALIAS",
    "ERASE",
    "ERASURE",
    "EXPORT",
    "GET_DEAD_LETTER",
    "GET_FILE",
    "INITIATE",
    "INSPECT_JOB",
    "LIST_DEAD_LETTERS",
    "LIST_FILES",
    "LIST_JOBS",
    "LIVE",
    "PURGE_DEAD_LETTERS",
    "REDELIVER",
    "REPLAY_DEAD_LETTER",
    "REPLAY_DEAD_LETTERS",
    "RETRY",
    "ROTATE",
    "SECRETS",
    "START",
    "STATUS",
]
