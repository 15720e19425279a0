"""What OpenAPI says of each endpoint, by topic; the examples are those of the original requirement."""

from haulyard_gateway.openapi.downloads import CHECK, DOWNLOAD, DOWNLOAD_ALIAS, INITIATE, START
from haulyard_gateway.openapi.files import ADD_FILES, DELETE_FILE, GET_FILE, LIST_FILES
from haulyard_gateway.openapi.jobs import CANCEL, DELETE_JOB, LIST_JOBS, LIVE, RETRY, STATUS
from haulyard_gateway.openapi.users import ERASE, ERASURE, EXPORT

__all__ = [
    "ADD_FILES",
    "CANCEL",
    "CHECK",
    "DELETE_FILE",
    "DELETE_JOB",
    "DOWNLOAD",
    "DOWNLOAD_ALIAS",
    "ERASE",
    "ERASURE",
    "EXPORT",
    "GET_FILE",
    "INITIATE",
    "LIST_FILES",
    "LIST_JOBS",
    "LIVE",
    "RETRY",
    "START",
    "STATUS",
]
