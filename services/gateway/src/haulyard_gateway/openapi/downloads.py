"""Asking for archives, and getting them."""

from litestar.openapi.spec import OpenAPIFormat, OpenAPIType, Schema

from haulyard_chassis.identity import JOBS_READ, JOBS_WRITE
from haulyard_chassis.problems import ArchiveExpiredError, InvalidRequestError, JobFailedError, JobNotReadyError
from haulyard_contracts import Compression, OnMissing
from haulyard_gateway.bodies import ArchiveLink
from haulyard_gateway.documented import Answer, Fault, documented, json_body
from haulyard_gateway.file_bodies import Availability
from haulyard_gateway.openapi.shared import (
    ACCEPTED,
    DOWNLOADS,
    IDEMPOTENCY_KEY,
    JOB,
    MAKES_A_JOB,
    NO_CATALOGUE,
    NO_JOB,
    NO_STATE,
    NO_STORE_THERE,
    NOT_JSON,
    TOO_LARGE,
    at,
)
from haulyard_gateway.validation import MAX_FILE_ID, MAX_FILENAME_BYTES

_NO_ID = f"0 is no file id: that is an integer from 1 to {MAX_FILE_ID}."
_FILE_ID = Schema(type=OpenAPIType.INTEGER, minimum=1, maximum=MAX_FILE_ID)
_FILE_IDS = Schema(
    type=OpenAPIType.ARRAY,
    items=_FILE_ID,
    min_items=1,
    max_items=100,
    unique_items=True,
    description="Ids of the files, in the order in which they come in the archive. An operator can set another limit"
    " than 100.",
)
_OPTIONS = {
    "webhook_url": Schema(
        type=[OpenAPIType.STRING, OpenAPIType.NULL],
        format=OpenAPIFormat.URI,
        max_length=2048,
        description="An https URL that is told when the job has completed or failed.",
    ),
    "priority": Schema(
        type=[OpenAPIType.INTEGER, OpenAPIType.NULL],
        minimum=1,
        maximum=10,
        default=5,
        description="10 is served first.",
    ),
    "filename": Schema(
        type=[OpenAPIType.STRING, OpenAPIType.NULL],
        min_length=1,
        max_length=MAX_FILENAME_BYTES,
        description=f"The archive's name, at most {MAX_FILENAME_BYTES} bytes of UTF-8 without path separators; `.zip`"
        " is appended if it is missing. `download_<job id>.zip` if not set.",
    ),
    "compression": Schema(
        type=[OpenAPIType.STRING, OpenAPIType.NULL],
        enum=[*Compression, None],
        default=Compression.STORE,
        description="`store`: as they are, so that the store can copy them; `deflate`: smaller where that is possible.",
    ),
    "on_missing": Schema(
        type=[OpenAPIType.STRING, OpenAPIType.NULL],
        enum=[*OnMissing, None],
        default=OnMissing.SKIP,
        description="When a file cannot be archived: `skip` it and name it in `MISSING-FILES.txt`, or `fail` the job.",
    ),
}
_BAD_BODY = Fault(
    kind=InvalidRequestError,
    detail=f"2 things are wrong with the body; the first: #/file_ids/3: {_NO_ID}",
    pointers=(("#/file_ids/3", _NO_ID), ("#/priorty", "There is no such field; did you mean priority?")),
)
_BAD_FILE_ID = Fault(kind=InvalidRequestError, detail=f"#/file_id: {_NO_ID}", pointers=(("#/file_id", _NO_ID),))

INITIATE = documented(
    operation_id="initiateDownload",
    summary="Ask for an archive of some files",
    description="The job is accepted at once and done in the background. Follow it by polling `status_url`, over"
    " WebSocket (`websocket_url`) or server-sent events (`events_url`), or give a `webhook_url`.",
    tag=DOWNLOADS,
    path="/v1/download/initiate",
    scopes=(JOBS_WRITE,),
    own_count=True,
    answers={202: ACCEPTED},
    parameters=(IDEMPOTENCY_KEY,),
    body=json_body(
        Schema(
            type=OpenAPIType.OBJECT,
            required=["file_ids"],
            additional_properties=False,
            properties={"file_ids": _FILE_IDS, **_OPTIONS},
        ),
        description="Which files, and how.",
        examples={
            "files": {"file_ids": [70000, 70001, 70002], "webhook_url": "https://example.com/callback"},
            "named and urgent": {"file_ids": [70000], "priority": 10, "filename": "photos.zip"},
            "small and complete": {"file_ids": [70000], "compression": "deflate", "on_missing": "fail"},
        },
    ),
    faults=[_BAD_BODY, TOO_LARGE, NOT_JSON, *MAKES_A_JOB],
)

_LINK = Answer(
    example=ArchiveLink(
        job_id=JOB,
        download_url=f"https://store.example.com/haulyard-archives/{JOB}.zip?X-Amz-Signature=0a1b2c",
        expires_at=at(17),
        size_bytes=3_145_728,
        filename=f"download_{JOB}.zip",
    ),
    headers=("Cache-Control", "Warning"),
)
_FAILED = Fault(kind=JobFailedError, detail="The job is failed. PROCESSING_FAILED: no file could be archived")
_EXPIRED = Fault(
    kind=ArchiveExpiredError,
    detail="The archive was deleted after its time; start a new job for the same files.",
)
_NO_LINK = (
    NO_JOB,
    Fault(
        kind=JobNotReadyError,
        detail="The job is processing: 2 of 3 files are done. Ask again in 2 seconds.",
        headers=("Retry-After",),
    ),
    _FAILED,
    _EXPIRED,
    NO_STATE,
)
_LINK_TEXT = (
    "The link leads straight to the object store, is good for a short time and for whoever has it, and supports ranges."
    " Ask again for a new one whenever it has expired."
)

DOWNLOAD = documented(
    operation_id="getDownloadLink",
    summary="Get a link to a finished archive",
    description=_LINK_TEXT,
    tag=DOWNLOADS,
    path=f"/v1/jobs/{JOB}/download",
    scopes=(JOBS_READ,),
    answers={200: _LINK},
    faults=_NO_LINK,
)

DOWNLOAD_ALIAS = documented(
    operation_id="getDownloadLinkByDownload",
    summary="Get a link to a finished archive (another path)",
    description=f"The same as `GET /v1/jobs/{{job_id}}/download`. {_LINK_TEXT}",
    tag=DOWNLOADS,
    path=f"/v1/download/{JOB}",
    scopes=(JOBS_READ,),
    answers={200: _LINK},
    faults=_NO_LINK,
)

CHECK = documented(
    operation_id="checkFile",
    summary="See whether one file can be archived",
    description="Looks at the source in the store. A file of an origin (`https://`) is looked at when it is archived.",
    tag=DOWNLOADS,
    path="/v1/download/check",
    scopes=(JOBS_READ,),
    answers={
        200: Answer(
            example=Availability(file_id=70000, available=True, name="report.pdf", size_bytes=1_048_576, reason=None),
            headers=("Cache-Control",),
        )
    },
    body=json_body(
        Schema(
            type=OpenAPIType.OBJECT,
            required=["file_id"],
            additional_properties=False,
            properties={"file_id": _FILE_ID},
        ),
        description="Which file.",
        examples={"file": {"file_id": 70000}},
    ),
    faults=[_BAD_FILE_ID, TOO_LARGE, NOT_JSON, NO_CATALOGUE, NO_STORE_THERE],
)

_DEPRECATED = ("Deprecation", "Sunset", "Link", "Warning")

START = documented(
    operation_id="startDownload",
    summary="Make an archive and wait for it",
    description="Deprecated: use `POST /v1/download/initiate`, which answers at once. Waits up to 25 seconds for the"
    " archive (200); what takes longer is handed over to the job, as if it had been initiated (202).",
    tag=DOWNLOADS,
    path="/v1/download/start",
    scopes=(JOBS_WRITE,),
    own_count=True,
    deprecated=True,
    answers={
        200: Answer(example=_LINK.example, headers=("Cache-Control", *_DEPRECATED)),
        202: Answer(example=ACCEPTED.example, headers=("Location", "Retry-After", "Cache-Control", *_DEPRECATED)),
    },
    parameters=(IDEMPOTENCY_KEY,),
    body=json_body(
        Schema(
            type=OpenAPIType.OBJECT,
            additional_properties=False,
            properties={"file_id": _FILE_ID, "file_ids": _FILE_IDS, **_OPTIONS},
            one_of=[Schema(required=["file_id"]), Schema(required=["file_ids"])],
        ),
        description="Which file or files, and how.",
        examples={"one": {"file_id": 70000}, "several": {"file_ids": [70000, 70001]}},
    ),
    faults=[_BAD_BODY, TOO_LARGE, NOT_JSON, _FAILED, _EXPIRED, *MAKES_A_JOB],
)
