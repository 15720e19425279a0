"""The archive itself."""

from typing import Any

from litestar.openapi.spec import OpenAPIFormat, OpenAPIType, Schema

from haulyard_chassis.identity import JOBS_READ, Purpose
from haulyard_chassis.problems import ArchiveExpiredError, JobFailedError, JobNotReadyError
from haulyard_gateway.archive_bytes import TooManyStreamsError
from haulyard_gateway.archive_conditions import PreconditionFailedError, RangeNotSatisfiableError
from haulyard_gateway.auth import TICKET, TICKET_SCHEME_NAME
from haulyard_gateway.documented import Answer, Fault, documented, header, query
from haulyard_gateway.openapi.shared import DOWNLOADS, JOB, NO_JOB, NO_STATE, bad_parameter

_PATH = f"/v1/jobs/{JOB}/archive"
_ETAG = '"7d865e959b2466918c9863afca942d0fb89d7c9ac0c99bafc3749504ded97730-300a2f"'
_BYTES = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
_TEXT = Schema(type=OpenAPIType.STRING)
_HEADERS = ("ETag", "Accept-Ranges", "Cache-Control", "Content-Disposition", "Warning")

_WHOLE = Answer(
    description="The archive.",
    schema=_BYTES,
    media_type="application/zip",
    headers=_HEADERS,
)
_RANGE = Answer(
    description="The range of it that was asked for.",
    schema=_BYTES,
    media_type="application/zip",
    headers=(*_HEADERS, "Content-Range"),
)
_ELSEWHERE = Answer(description="It is built: go on to the store.", headers=("Location", "Cache-Control", "Warning"))
_UNCHANGED = Answer(
    description="It is the archive that you have (`If-None-Match`).",
    headers=("ETag", "Accept-Ranges", "Cache-Control", "Warning"),
)
_TICKET = query(TICKET, "The ticket of `archive_url`, instead of a token.", _TEXT, example="eyJhbGciOi")
_CONDITIONS = (
    header("If-None-Match", "The ETag of what you have: 304 if it is still that.", _TEXT, example=_ETAG),
    header("If-Match", "The ETag of what you have a part of: 412 if it is another one.", _TEXT, example=_ETAG),
)
_RANGES = (
    header("Range", "One range of bytes.", _TEXT, example="bytes=1048576-"),
    header("If-Range", "The ETag of what you have a part of: the whole if it is another one.", _TEXT, example=_ETAG),
)
_NONE = (
    bad_parameter(TICKET, "This parameter is given twice."),
    NO_JOB,
    Fault(
        kind=JobNotReadyError,
        detail="The job is processing, and its archive is not laid out yet. Ask again in 2 seconds.",
        headers=("Retry-After",),
    ),
    Fault(kind=JobFailedError, detail="The job is failed. PROCESSING_FAILED: no file could be archived"),
    Fault(
        kind=ArchiveExpiredError,
        detail="The archive was deleted after its time; start a new job for the same files.",
    ),
    Fault(
        kind=PreconditionFailedError,
        detail="The archive is not, or no longer, the one that you have a part of; get it anew.",
        headers=("ETag",),
    ),
    NO_STATE,
)


def _with_ticket(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of an endpoint that takes a ticket, too."""
    return arguments | {
        "security": [*arguments["security"], {TICKET_SCHEME_NAME: []}],
        "opt": {**arguments["opt"], TICKET: Purpose.ARCHIVE},
    }


ARCHIVE = _with_ticket(
    documented(
        operation_id="getArchive",
        summary="Get the archive itself",
        description="Begins at once, before the archive is built: its bytes come from where they will be copied from."
        " Ranges work, and an interrupted download goes on with `Range` and `If-Range` also when the archive has been"
        " built meanwhile. Once it is built, others are led to the store. 409 while it is not known what will be in"
        " it, or too much has to be read first.",
        tag=DOWNLOADS,
        path=_PATH,
        scopes=(JOBS_READ,),
        answers={200: _WHOLE, 206: _RANGE, 304: _UNCHANGED, 307: _ELSEWHERE},
        parameters=(_TICKET, *_CONDITIONS, *_RANGES),
        faults=[
            *_NONE,
            Fault(
                kind=RangeNotSatisfiableError,
                detail="The archive has 3145728 bytes.",
                headers=("Content-Range", "Accept-Ranges"),
            ),
            Fault(
                kind=TooManyStreamsError,
                detail="You are downloading 8 archives at once, and no more may be.",
                headers=("Retry-After",),
            ),
        ],
    )
)

ARCHIVE_HEAD = _with_ticket(
    documented(
        operation_id="headArchive",
        summary="See how long the archive is",
        description="What `GET` would say of the whole archive, also when it would lead to the store: links to the"
        " store are good for `GET` only.",
        tag=DOWNLOADS,
        path=_PATH,
        scopes=(JOBS_READ,),
        answers={
            200: Answer(description="The archive is there, or is being built.", headers=_HEADERS),
            304: _UNCHANGED,
        },
        parameters=(_TICKET, *_CONDITIONS),
        faults=_NONE,
    )
)
