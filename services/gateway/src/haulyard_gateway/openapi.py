"""What OpenAPI says of each endpoint; the examples are those of the original requirement."""

from datetime import UTC, datetime

from litestar.openapi.spec import OpenAPIFormat, OpenAPIType, Schema

from haulyard_chassis.problems import (
    ArchiveExpiredError,
    ContentTooLargeError,
    InvalidRequestError,
    JobFailedError,
    JobNotReadyError,
    NotFoundError,
    ProblemError,
    UnauthorizedError,
    UnavailableError,
    UnsupportedMediaTypeError,
)
from haulyard_contracts import FileState, FileStatus, JobStatus, Progress
from haulyard_gateway.bodies import ArchiveLink, FileBody, JobAccepted, JobView, UploadLink
from haulyard_gateway.documented import Fault, documented, json_body
from haulyard_gateway.validation import MAX_FILE_ID, MAX_FILENAME_BYTES, MAX_NAME_BYTES

JOBS = "Jobs"
FILES = "Files"

_JOB = "job_01KC8ZB0J0W8G3R5Q2T7V9X4YZ"
_INITIATE_PATH = "/v1/download/initiate"
_STATUS_PATH = f"/v1/jobs/{_JOB}/status"
_DOWNLOAD_PATH = f"/v1/jobs/{_JOB}/download"
_FILE_PATH = "/v1/files/70000"
_OWN_KEY = "uploads/5f70bf18a086007016e948b04aed3b82/01KC8ZB0J0W8G3R5Q2T7V9X4YZ"


def _at(minute: int, second: int = 0) -> datetime:
    return datetime(2025, 12, 12, 10, minute, second, tzinfo=UTC)


_UNAUTHORIZED = Fault(
    kind=UnauthorizedError,
    detail="The request is not authenticated: Signature has expired.",
    headers=("WWW-Authenticate",),
)
_INTERNAL = Fault(kind=ProblemError, detail="The error was logged; trying again may help.")
_NOT_JSON = Fault(
    kind=UnsupportedMediaTypeError, detail='The body was sent as "text/plain"; send JSON as application/json.'
)
_TOO_LARGE = Fault(kind=ContentTooLargeError, detail="The body is larger than any valid request can be.")
_NO_JOB = Fault(kind=NotFoundError, detail="You have no job with this id.")
_NO_FILE = Fault(kind=NotFoundError, detail="You have no file with this id.")


def _unavailable(detail: str) -> Fault:
    return Fault(kind=UnavailableError, detail=detail, headers=("Retry-After",))


_NO_STATE = _unavailable("The state of jobs cannot be read at the moment. Try again.")
_NO_CATALOGUE = _unavailable("The catalogue of files cannot be reached at the moment. Try again.")

INITIATE = documented(
    operation_id="initiateDownload",
    summary="Ask for an archive of some files",
    description="The job is accepted at once and done in the background. Follow it by polling `status_url`, over"
    " WebSocket (`websocket_url`) or server-sent events (`events_url`), or give a `webhook_url`.",
    tag=JOBS,
    path=_INITIATE_PATH,
    example=JobAccepted(
        job_id=_JOB,
        status=JobStatus.QUEUED,
        created_at=_at(0),
        estimated_completion=_at(0, 7),
        total_files=3,
        websocket_url=f"wss://live.example.com/ws/jobs/{_JOB}?ticket=eyJhbGciOi",
        status_url=f"https://api.example.com{_STATUS_PATH}",
        events_url=f"https://live.example.com/v1/jobs/{_JOB}/events?ticket=eyJhbGciOi",
    ),
    headers=("Location", "Retry-After", "Cache-Control", "Warning"),
    body=json_body(
        Schema(
            type=OpenAPIType.OBJECT,
            required=["file_ids"],
            additional_properties=False,
            properties={
                "file_ids": Schema(
                    type=OpenAPIType.ARRAY,
                    items=Schema(type=OpenAPIType.INTEGER, minimum=1, maximum=MAX_FILE_ID),
                    min_items=1,
                    max_items=100,
                    unique_items=True,
                    description="Ids of the files, in the order in which they come in the archive. An operator can"
                    " set another limit than 100.",
                ),
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
                    description=f"The archive's name, at most {MAX_FILENAME_BYTES} bytes of UTF-8 without path"
                    " separators; `.zip` is appended if it is missing. `download_<job id>.zip` if not set.",
                ),
            },
        ),
        description="Which files, and how.",
        examples={
            "files": {"file_ids": [70000, 70001, 70002], "webhook_url": "https://example.com/callback"},
            "named and urgent": {"file_ids": [70000], "priority": 10, "filename": "photos.zip"},
        },
    ),
    faults=[
        Fault(
            kind=InvalidRequestError,
            detail="2 things are wrong with the body; the first: #/file_ids/3: 0 is no file id: that is an integer"
            f" from 1 to {MAX_FILE_ID}.",
            pointers=(
                ("#/file_ids/3", f"0 is no file id: that is an integer from 1 to {MAX_FILE_ID}."),
                ("#/priorty", "There is no such field; did you mean priority?"),
            ),
        ),
        _UNAUTHORIZED,
        _TOO_LARGE,
        _NOT_JSON,
        _INTERNAL,
        _unavailable("The job could not be handed over for processing. Try again."),
    ],
)

STATUS = documented(
    operation_id="getJobStatus",
    summary="See how a job is",
    description="The whole state of the job. While it is not over, `Retry-After` says when to ask again.",
    tag=JOBS,
    path=_STATUS_PATH,
    example=JobView(
        job_id=_JOB,
        status=JobStatus.PROCESSING,
        progress=Progress(current=1, total=3, percentage=33, bytes_current=1_048_576, bytes_total=3_145_728),
        files=(
            FileState(file_id=70000, status=FileStatus.COMPLETED, size_bytes=1_048_576, name="report.pdf"),
            FileState(file_id=70001, status=FileStatus.PROCESSING, size_bytes=1_048_576, name="photo.jpg"),
            FileState(file_id=70002, status=FileStatus.QUEUED),
        ),
        created_at=_at(0),
        updated_at=_at(1, 30),
        completed_at=None,
        error=None,
        priority=5,
        filename=f"download_{_JOB}.zip",
        size_bytes=None,
        expires_at=None,
    ),
    headers=("Retry-After", "Cache-Control", "Warning"),
    faults=[_UNAUTHORIZED, _NO_JOB, _INTERNAL, _NO_STATE],
)

DOWNLOAD = documented(
    operation_id="getDownloadLink",
    summary="Get a link to a finished archive",
    description="The link leads straight to the object store, is good for a short time and for whoever has it, and"
    " supports ranges. Ask again for a new one whenever it has expired.",
    tag=JOBS,
    path=_DOWNLOAD_PATH,
    example=ArchiveLink(
        job_id=_JOB,
        download_url=f"https://store.example.com/haulyard-archives/{_JOB}.zip?X-Amz-Signature=0a1b2c",
        expires_at=_at(17),
        size_bytes=3_145_728,
        filename=f"download_{_JOB}.zip",
    ),
    headers=("Cache-Control", "Warning"),
    faults=[
        _UNAUTHORIZED,
        _NO_JOB,
        Fault(
            kind=JobNotReadyError,
            detail="The job is processing: 2 of 3 files are done. Ask again in 2 seconds.",
            headers=("Retry-After",),
        ),
        Fault(kind=JobFailedError, detail="The job is failed. PROCESSING_FAILED: no file could be archived"),
        Fault(
            kind=ArchiveExpiredError,
            detail="The archive was deleted after its time; start a new job for the same files.",
        ),
        _INTERNAL,
        _NO_STATE,
    ],
)

_FILE = FileBody(
    file_id=70000,
    name="report.pdf",
    source="s3://haulyard-files/reports/2025/report.pdf",
    status="available",
    size_bytes=1_048_576,
    etag='"9b2cf535f27731c974343645a3985328"',
    crc32="3610a686",
    created_at=_at(0),
    upload=None,
)

ADD_FILE = documented(
    operation_id="addFile",
    summary="Add a file to the catalogue",
    description="With `source`: an object that is in the store already. Without: the answer has a link; send the"
    " file's bytes there with one PUT, and the file is available.",
    tag=FILES,
    path="/v1/files",
    example=FileBody(
        file_id=70001,
        name="report.pdf",
        source=f"s3://haulyard-files/{_OWN_KEY}",
        status="pending",
        size_bytes=None,
        etag=None,
        crc32=None,
        created_at=_at(0),
        upload=UploadLink(
            method="PUT",
            url=f"https://store.example.com/haulyard-files/{_OWN_KEY}?X-Amz-Signature=0a1b2c",
            expires_at=_at(15),
        ),
    ),
    headers=("Location", "Cache-Control"),
    body=json_body(
        Schema(
            type=OpenAPIType.OBJECT,
            additional_properties=False,
            min_properties=1,
            properties={
                "source": Schema(
                    type=[OpenAPIType.STRING, OpenAPIType.NULL],
                    pattern="^s3://[a-z0-9][a-z0-9.\\-]+[a-z0-9]/.+$",
                    description="`s3://bucket/key` of an object that you may register.",
                ),
                "name": Schema(
                    type=[OpenAPIType.STRING, OpenAPIType.NULL],
                    min_length=1,
                    max_length=MAX_NAME_BYTES,
                    description="Path inside archives; the last part of the key if not set.",
                ),
            },
        ),
        description="What to add: `source`, `name`, or both.",
        examples={
            "register": {"source": "s3://haulyard-files/reports/2025/report.pdf", "name": "2025/report.pdf"},
            "upload": {"name": "report.pdf"},
        },
    ),
    faults=[
        Fault(
            kind=InvalidRequestError,
            detail="#/source: There is no such object, or it may not be read.",
            pointers=(("#/source", "There is no such object, or it may not be read."),),
        ),
        _UNAUTHORIZED,
        _TOO_LARGE,
        _NOT_JSON,
        _INTERNAL,
        _NO_CATALOGUE,
    ],
)

GET_FILE = documented(
    operation_id="getFile",
    summary="See what the catalogue has of a file",
    description="Your own files, and those that are everybody's. One that is `pending` is looked for in the store.",
    tag=FILES,
    path=_FILE_PATH,
    example=_FILE,
    headers=("Cache-Control", "Warning"),
    faults=[_UNAUTHORIZED, _NO_FILE, _INTERNAL, _NO_CATALOGUE],
)
