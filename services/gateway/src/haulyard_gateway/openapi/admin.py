"""What operators do."""

from litestar.openapi.spec import OpenAPIType, Schema

from haulyard_chassis.dead_letters import STREAMS
from haulyard_chassis.identity import ADMIN as ADMIN_SCOPE
from haulyard_chassis.problems import NotFoundError
from haulyard_contracts import Compression, ErrorCode, Failure, JobStatus, OnMissing, Phase
from haulyard_gateway.admin_bodies import (
    DeadLetterPage,
    DeadLetterSummary,
    DeadLetterView,
    InspectedJobBody,
    PurgedBody,
    ReplayedBody,
    TriedTaskBody,
)
from haulyard_gateway.documented import Answer, Fault, documented, query
from haulyard_gateway.errors import DeadLetterStaysError
from haulyard_gateway.openapi.shared import ADMIN, JOB, NO_BROKER, NO_RECORD, at, bad_parameter, page_parameters

_PATH = "/v1/admin/dead-letters"
_LETTER = {
    "sequence": 7,
    "stream": "tasks",
    "subject": f"haulyard.tasks.5.put.{JOB}.1.1",
    "reason": "delivered 10 times in vain",
    "given_up_at": at(3),
    "job_id": JOB,
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "size_bytes": 812,
}
_CACHED = ("Cache-Control",)
_NO_LETTER = Fault(kind=NotFoundError, detail="There is no dead letter with this sequence.")
_STREAM = query("stream", "Only those from this stream.", Schema(type=OpenAPIType.STRING, enum=list(STREAMS)))
_BAD_STREAM = bad_parameter("stream", f'"webhooks" is no stream; there are {", ".join(STREAMS)}.')

LIST_DEAD_LETTERS = documented(
    operation_id="listDeadLetters",
    summary="List messages that were given up",
    description="Messages that nobody could read, or that were delivered too often in vain; the oldest first. They are"
    " kept for 30 days.",
    tag=ADMIN,
    path=_PATH,
    scopes=(ADMIN_SCOPE,),
    answers={
        200: Answer(
            example=DeadLetterPage(dead_letters=(DeadLetterSummary(**_LETTER),), next_cursor="Nw"),  # type: ignore[arg-type] # the fields of an example
            headers=("Link", *_CACHED),
        )
    },
    parameters=(*page_parameters("Nw"), _STREAM),
    faults=[_BAD_STREAM, NO_BROKER],
)

GET_DEAD_LETTER = documented(
    operation_id="getDeadLetter",
    summary="See a message that was given up",
    description="With its headers and what it says.",
    tag=ADMIN,
    path=f"{_PATH}/7",
    scopes=(ADMIN_SCOPE,),
    answers={
        200: Answer(
            example=DeadLetterView(
                **_LETTER,  # type: ignore[arg-type] # the fields of an example
                headers={"traceparent": str(_LETTER["traceparent"])},
                payload={"type": "part_task.v1", "job_id": JOB, "number": 1},
                payload_base64=None,
            ),
            headers=_CACHED,
        )
    },
    faults=[_NO_LETTER, NO_BROKER],
)

REPLAY_DEAD_LETTER = documented(
    operation_id="replayDeadLetter",
    summary="Send a message that was given up again",
    description="As it was, to where it was; sent twice, it goes once. A job that has failed stays failed: retry that"
    " instead.",
    tag=ADMIN,
    path=f"{_PATH}/7/replay",
    scopes=(ADMIN_SCOPE,),
    answers={200: Answer(example=ReplayedBody(replayed=1, kept=0, next_cursor=None), headers=_CACHED)},
    faults=[
        _NO_LETTER,
        Fault(
            kind=DeadLetterStaysError,
            detail="The message cannot be sent again: the subject that the message had is not known.",
        ),
        NO_BROKER,
    ],
)

REPLAY_DEAD_LETTERS = documented(
    operation_id="replayDeadLetters",
    summary="Send all messages that were given up again",
    description="Or those from one stream. When there are many, the answer has a `next_cursor`: ask again with it."
    " Messages that are given up once more meanwhile are not sent again.",
    tag=ADMIN,
    path=f"{_PATH}/replay",
    scopes=(ADMIN_SCOPE,),
    answers={200: Answer(example=ReplayedBody(replayed=200, kept=1, next_cursor="MjA4IDUwMA"), headers=_CACHED)},
    parameters=(page_parameters("MjA4IDUwMA")[0], _STREAM),
    faults=[_BAD_STREAM, NO_BROKER],
)

DELETE_DEAD_LETTER = documented(
    operation_id="deleteDeadLetter",
    summary="Delete a message that was given up",
    description="It is gone for good.",
    tag=ADMIN,
    path=f"{_PATH}/7",
    scopes=(ADMIN_SCOPE,),
    answers={204: Answer(description="It is deleted.", headers=_CACHED)},
    faults=[_NO_LETTER, NO_BROKER],
)

PURGE_DEAD_LETTERS = documented(
    operation_id="purgeDeadLetters",
    summary="Delete all messages that were given up",
    description="Or those from one stream. They are gone for good.",
    tag=ADMIN,
    path=_PATH,
    scopes=(ADMIN_SCOPE,),
    answers={200: Answer(example=PurgedBody(deleted=3), headers=_CACHED)},
    parameters=(_STREAM,),
    faults=[_BAD_STREAM, NO_BROKER],
)

INSPECT_JOB = documented(
    operation_id="inspectJob",
    summary="Look into any job",
    description="Its tasks with their attempts and errors, its plan, and the jobs that it shares its archive with.",
    tag=ADMIN,
    path=f"/v1/admin/jobs/{JOB}",
    scopes=(ADMIN_SCOPE,),
    answers={
        200: Answer(
            example=InspectedJobBody(
                job_id=JOB,
                user_id="alice",
                status=JobStatus.PROCESSING,
                sequence=7,
                told_sequence=0,
                generation=1,
                priority=5,
                compression=Compression.STORE,
                on_missing=OnMissing.SKIP,
                created_at=at(0),
                updated_at=at(1, 30),
                completed_at=None,
                expires_at=None,
                error=None,
                digest="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                follows=None,
                followers=1,
                archive_key="archives/01kc8zb0j0w8g3r5q2t7v9x4yz.zip",
                files={"completed": 1, "processing": 2},
                tasks={"build": {"done": 3, "queued": 2, "retrying": 1, "waiting": 1}},
                attempts=8,
                tried=(
                    TriedTaskBody(
                        phase=Phase.BUILD,
                        number=4,
                        status="retrying",
                        attempts=2,
                        next_attempt_at=at(1, 32),
                        error=Failure(code=ErrorCode.STORE_UNAVAILABLE, message="PUT: 503 Slow Down"),
                    ),
                ),
            ),
            headers=_CACHED,
        )
    },
    faults=[Fault(kind=NotFoundError, detail="There is no job with this id."), NO_RECORD],
)
