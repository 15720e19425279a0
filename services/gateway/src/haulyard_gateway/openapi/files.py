"""The catalogue of files."""

from litestar.openapi.spec import OpenAPIType, Reference, Schema

from haulyard_chassis.identity import FILES_WRITE, JOBS_READ
from haulyard_chassis.problems import ForbiddenError, InvalidRequestError
from haulyard_gateway.documented import Answer, Fault, documented, json_body, query
from haulyard_gateway.file_bodies import FileBody, FilePage, UploadLink
from haulyard_gateway.file_validation import MAX_FILES_AT_ONCE, MAX_NAME_BYTES
from haulyard_gateway.openapi.shared import (
    FILES,
    NO_CATALOGUE,
    NO_FILE,
    NO_STORE_THERE,
    NOT_JSON,
    TOO_LARGE,
    at,
    bad_parameter,
    page_parameters,
)
from haulyard_gateway.queries import MAX_NAME_FILTER

_OWN_KEY = "uploads/5f70bf18a086007016e948b04aed3b82/01KC8ZB0J0W8G3R5Q2T7V9X4YZ"
_FILE_PATH = "/v1/files/70000"
_CURSOR = "NzAwMDA"
_FILE = FileBody(
    file_id=70000,
    name="report.pdf",
    source="s3://haulyard-files/reports/2025/report.pdf",
    status="available",
    size_bytes=1_048_576,
    etag='"9b2cf535f27731c974343645a3985328"',
    crc32="3610a686",
    created_at=at(0),
    upload=None,
)
_NEW = FileBody(
    file_id=70001,
    name="report.pdf",
    source=f"s3://haulyard-files/{_OWN_KEY}",
    status="pending",
    size_bytes=None,
    etag=None,
    crc32=None,
    created_at=at(0),
    upload=UploadLink(
        method="PUT",
        url=f"https://store.example.com/haulyard-files/{_OWN_KEY}?X-Amz-Signature=0a1b2c",
        expires_at=at(15),
    ),
)
_FIELDS: dict[str, Reference | Schema] = {
    "source": Schema(
        type=[OpenAPIType.STRING, OpenAPIType.NULL],
        pattern="^(s3://[a-z0-9][a-z0-9.\\-]+[a-z0-9]/.+|https://.+)$",
        description="`s3://bucket/key` of an object that you may register, or an `https://` URL of a host from which"
        " files may be archived.",
    ),
    "name": Schema(
        type=[OpenAPIType.STRING, OpenAPIType.NULL],
        min_length=1,
        max_length=MAX_NAME_BYTES,
        description="Path inside archives; the last part of the source if not set.",
    ),
}
_ONE = Schema(type=OpenAPIType.OBJECT, additional_properties=False, min_properties=1, properties=_FIELDS)
_MANY = Schema(
    type=OpenAPIType.OBJECT,
    additional_properties=False,
    required=["files"],
    properties={
        "files": Schema(type=OpenAPIType.ARRAY, items=_ONE, min_items=1, max_items=MAX_FILES_AT_ONCE),
    },
)

ADD_FILES = documented(
    operation_id="addFiles",
    summary="Add one file to the catalogue, or many",
    description="With `source`: an object that is in the store already, or what an origin serves. Without: the answer"
    " has a link; send the file's bytes there with one PUT, and the file is available. With `files`, a list of such:"
    " all of them are added, or none, and what is wrong is told with its position.",
    tag=FILES,
    path="/v1/files",
    scopes=(FILES_WRITE,),
    answers={
        201: Answer(
            example=_NEW,
            description="The file; for a list of files, an object with the list of them in the same order.",
            headers=("Location", "Cache-Control"),
        )
    },
    body=json_body(
        Schema(one_of=[_ONE, _MANY]),
        description="What to add: `source`, `name`, or both; or `files`, a list of such.",
        examples={
            "register": {"source": "s3://haulyard-files/reports/2025/report.pdf", "name": "2025/report.pdf"},
            "upload": {"name": "report.pdf"},
            "many": {"files": [{"source": "s3://haulyard-files/a.pdf"}, {"name": "b.pdf"}]},
        },
    ),
    faults=[
        Fault(
            kind=InvalidRequestError,
            detail="#/files/3/source: There is no such object, or it may not be read.",
            pointers=(("#/files/3/source", "There is no such object, or it may not be read."),),
        ),
        TOO_LARGE,
        NOT_JSON,
        NO_CATALOGUE,
        NO_STORE_THERE,
    ],
)

_NAME = Schema(type=OpenAPIType.STRING, min_length=1, max_length=MAX_NAME_FILTER, pattern="^[^\\x00-\\x1f]+$")

LIST_FILES = documented(
    operation_id="listFiles",
    summary="List the files that you may archive",
    description="Your own, and those that are everybody's; the newest first.",
    tag=FILES,
    path="/v1/files",
    scopes=(JOBS_READ,),
    answers={200: Answer(example=FilePage(files=(_FILE,), next_cursor=_CURSOR), headers=("Link", "Cache-Control"))},
    parameters=(
        *page_parameters(_CURSOR),
        query("name", "Only files with this somewhere in their name, in capitals or not.", _NAME, example="report"),
        query("prefix", "Only files whose name begins with this.", _NAME, example="2025/"),
    ),
    faults=[bad_parameter("limit", '"1000" is no integer from 1 to 100.'), NO_CATALOGUE],
)

GET_FILE = documented(
    operation_id="getFile",
    summary="See what the catalogue has of a file",
    description="Your own files, and those that are everybody's. One that is `pending` is looked for in the store.",
    tag=FILES,
    path=_FILE_PATH,
    scopes=(JOBS_READ,),
    answers={200: Answer(example=_FILE, headers=("Cache-Control", "Warning"))},
    faults=[NO_FILE, NO_CATALOGUE],
)

DELETE_FILE = documented(
    operation_id="deleteFile",
    summary="Take a file out of the catalogue",
    description="An object that was uploaded for it is deleted; one that was registered stays where it is. Jobs that"
    " are at work may miss it.",
    tag=FILES,
    path=_FILE_PATH,
    scopes=(FILES_WRITE,),
    answers={204: Answer(description="It is gone.", headers=("Cache-Control",))},
    faults=[
        NO_FILE,
        Fault(kind=ForbiddenError, detail="The file is everybody's; only an operator takes it away."),
        NO_CATALOGUE,
        NO_STORE_THERE,
    ],
)
