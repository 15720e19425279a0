"""What is held of a user."""

from litestar.openapi.spec import OpenAPIType, Schema

from haulyard_chassis.identity import FILES_WRITE, JOBS_READ, JOBS_WRITE
from haulyard_chassis.problems import NotFoundError
from haulyard_gateway.documented import Answer, Fault, documented
from haulyard_gateway.openapi.shared import NO_BROKER, NO_RECORD, USERS, at
from haulyard_gateway.user_bodies import ErasureBody

_ID = "erasure_01KC8ZB0J0W8G3R5Q2T7V9X4YZ"
_PATH = f"/v1/users/me/data/erasures/{_ID}"
_LIST = Schema(type=OpenAPIType.ARRAY, items=Schema(type=OpenAPIType.OBJECT))


def _receipt(*, done: bool) -> ErasureBody:
    return ErasureBody(
        erasure_id=_ID,
        status="completed" if done else "pending",
        requested_at=at(0),
        completed_at=at(0, 20) if done else None,
        counts={"jobs": 3, "files": 2, "archives": 1} if done else {},
        status_url=f"https://api.example.com{_PATH}",
    )


EXPORT = documented(
    operation_id="exportMyData",
    summary="Get all that is held of you",
    description="Your jobs with their files, your files of the catalogue, and the deliveries to your webhooks, as one"
    " JSON document (GDPR, articles 15 and 20).",
    tag=USERS,
    path="/v1/users/me/data",
    scopes=(JOBS_READ,),
    answers={
        200: Answer(
            example={"jobs": [{"id": "job_01KC8ZB0J0W8G3R5Q2T7V9X4YZ"}], "files": [{"id": 70000}], "deliveries": []},
            description="All that is held of you.",
            headers=("Cache-Control", "Content-Disposition"),
            schema=Schema(
                type=OpenAPIType.OBJECT,
                required=["jobs", "files", "deliveries"],
                properties={"jobs": _LIST, "files": _LIST, "deliveries": _LIST},
            ),
        )
    },
    faults=[NO_RECORD],
)

ERASE = documented(
    operation_id="eraseMyData",
    summary="Be forgotten",
    description="Your jobs, archives, uploads, files of the catalogue and deliveries are deleted, and what names you in"
    " events (GDPR, article 17). The answer is a receipt, which does not say who you are.",
    tag=USERS,
    path="/v1/users/me/data",
    scopes=(JOBS_WRITE, FILES_WRITE),
    answers={202: Answer(example=_receipt(done=False), headers=("Location", "Retry-After", "Cache-Control"))},
    faults=[NO_RECORD, NO_BROKER],
)

ERASURE = documented(
    operation_id="getErasure",
    summary="See how far your wish to be forgotten is",
    description="When it is completed, `counts` says what was deleted.",
    tag=USERS,
    path=_PATH,
    scopes=(JOBS_READ,),
    answers={200: Answer(example=_receipt(done=True), headers=("Location", "Retry-After", "Cache-Control"))},
    faults=[Fault(kind=NotFoundError, detail="You have no receipt with this id."), NO_RECORD],
)
