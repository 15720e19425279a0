"""Jobs that exist."""

from litestar.openapi.spec import OpenAPIFormat, OpenAPIType, Schema

from haulyard_chassis.identity import JOBS_READ, JOBS_WRITE
from haulyard_contracts import Compression, FileState, FileStatus, JobAction, JobStatus, OnMissing, Progress
from haulyard_gateway.bodies import JobPage, JobSummary, JobView, JobWish, LiveLinks, Transfer
from haulyard_gateway.conditions import MAX_SEQUENCE
from haulyard_gateway.documented import Answer, Fault, documented, header, query
from haulyard_gateway.errors import JobNotOverError, JobOverError, NothingToRetryError
from haulyard_gateway.openapi.shared import (
    ACCEPTED,
    ARCHIVE_URL,
    IDEMPOTENCY_KEY,
    JOB,
    JOBS,
    MAKES_A_JOB,
    NO_BROKER,
    NO_JOB,
    NO_RECORD,
    NO_STATE,
    STATUS_PATH,
    at,
    bad_parameter,
    page_parameters,
)
from haulyard_gateway.settings import LONGEST_WAIT

_PROGRESS = Progress(current=1, total=3, percentage=33, bytes_current=1_048_576, bytes_total=3_145_728)
_CURSOR = "MTc2NTUzMzYwMDAwMDAwMCBqb2JfMDFLQzhaQjBKMFc4RzNSNVEyVDdWOVg0WVo"

STATUS = documented(
    operation_id="getJobStatus",
    summary="See how a job is",
    description="The whole state of the job, with an `ETag`. While it is not over, `Retry-After` says when to ask"
    f" again; or wait here: with `?wait={LONGEST_WAIT}` the answer comes with the next change after the state that you"
    " name (`If-None-Match`, or `since`; the present one if you name none), or when the time is up.",
    tag=JOBS,
    path=STATUS_PATH,
    scopes=(JOBS_READ,),
    answers={
        200: Answer(
            example=JobView(
                job_id=JOB,
                status=JobStatus.PROCESSING,
                progress=_PROGRESS,
                files=(
                    FileState(file_id=70000, status=FileStatus.COMPLETED, size_bytes=1_048_576, name="report.pdf"),
                    FileState(file_id=70001, status=FileStatus.PROCESSING, size_bytes=1_048_576, name="photo.jpg"),
                    FileState(file_id=70002, status=FileStatus.QUEUED),
                ),
                created_at=at(0),
                updated_at=at(1, 30),
                completed_at=None,
                error=None,
                priority=5,
                filename=f"download_{JOB}.zip",
                size_bytes=None,
                expires_at=None,
                compression=Compression.STORE,
                on_missing=OnMissing.SKIP,
                retry_of=None,
                sequence=7,
                estimated_completion=at(4, 30),
                bytes_per_second=11_650,
                transfer=Transfer(bytes_copied=0, bytes_through=1_048_576),
                archive_url=ARCHIVE_URL,
            ),
            headers=("ETag", "Retry-After", "Cache-Control", "Warning"),
        ),
        304: Answer(
            description="The job is as you know it (`If-None-Match`).",
            headers=("ETag", "Retry-After", "Cache-Control", "Warning"),
        ),
    },
    parameters=(
        query(
            "wait",
            "Seconds to wait for a change.",
            Schema(type=OpenAPIType.INTEGER, minimum=0, maximum=LONGEST_WAIT, default=0),
        ),
        query(
            "since",
            "The `sequence` of the state that you know.",
            Schema(type=OpenAPIType.INTEGER, minimum=0, maximum=MAX_SEQUENCE),
        ),
        header(
            "If-None-Match",
            "The `ETag` of the state that you know.",
            Schema(type=OpenAPIType.STRING, pattern='^(W/)?"[0-9]{1,15}"$'),
            example='W/"7"',
        ),
    ),
    faults=[bad_parameter("wait", f'"60" is no integer from 0 to {LONGEST_WAIT}.'), NO_JOB, NO_STATE],
)

LIST_JOBS = documented(
    operation_id="listJobs",
    summary="List your jobs",
    description="The newest first. A job is in the list moments after it was accepted. Pages stay right when jobs are"
    " added meanwhile.",
    tag=JOBS,
    path="/v1/jobs",
    scopes=(JOBS_READ,),
    answers={
        200: Answer(
            example=JobPage(
                jobs=(
                    JobSummary(
                        job_id=JOB,
                        status=JobStatus.PROCESSING,
                        progress=_PROGRESS,
                        created_at=at(0),
                        updated_at=at(1, 30),
                        completed_at=None,
                        expires_at=None,
                        error=None,
                        failed_files=0,
                        priority=5,
                        filename=f"download_{JOB}.zip",
                        size_bytes=None,
                        compression=Compression.STORE,
                        on_missing=OnMissing.SKIP,
                        retry_of=None,
                        status_url=f"https://api.example.com{STATUS_PATH}",
                    ),
                ),
                next_cursor=_CURSOR,
            ),
            headers=("Link", "Cache-Control"),
        )
    },
    parameters=(
        *page_parameters(_CURSOR),
        query("status", "Only jobs with this status.", Schema(type=OpenAPIType.STRING, enum=list(JobStatus))),
        query(
            "created_after",
            "Only jobs that were asked for at this time or later.",
            Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.DATE_TIME),
            example="2025-12-12T00:00:00Z",
        ),
        query(
            "created_before",
            "Only jobs that were asked for before this time.",
            Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.DATE_TIME),
            example="2025-12-13T00:00:00Z",
        ),
    ),
    faults=[bad_parameter("limit", '"1000" is no integer from 1 to 100.'), NO_RECORD],
)

LIVE = documented(
    operation_id="followJob",
    summary="Get links to follow a job live",
    description="For clients that cannot send a token with a WebSocket or an event stream, such as browsers. The links"
    " are like those that came with the job, with a fresh ticket: ask again when the notifier refuses the old one.",
    tag=JOBS,
    path=f"/v1/jobs/{JOB}/live",
    scopes=(JOBS_READ,),
    answers={
        200: Answer(
            example=LiveLinks(
                job_id=JOB,
                websocket_url=f"wss://api.example.com/ws/jobs/{JOB}?ticket=eyJhbGciOiJIUzI1NiJ9.e30.c2ln",
                events_url=f"https://api.example.com/v1/jobs/{JOB}/events?ticket=eyJhbGciOiJIUzI1NiJ9.e30.c2ln",
            ),
            headers=("Cache-Control", "Warning"),
        )
    },
    faults=[NO_JOB, NO_STATE],
)

CANCEL = documented(
    operation_id="cancelJob",
    summary="Stop a job",
    description="Its tasks are dropped, and nothing of it stays in the store. Asked again, the answer is the same.",
    tag=JOBS,
    path=f"/v1/jobs/{JOB}/cancel",
    scopes=(JOBS_WRITE,),
    answers={
        202: Answer(
            example=JobWish(
                job_id=JOB,
                action=JobAction.CANCEL,
                status=JobStatus.PROCESSING,
                status_url=f"https://api.example.com{STATUS_PATH}",
            ),
            headers=("Location", "Cache-Control", "Warning"),
        )
    },
    faults=[
        NO_JOB,
        Fault(kind=JobOverError, detail="The job is completed; it can no longer be cancelled."),
        NO_STATE,
        NO_BROKER,
    ],
)

RETRY = documented(
    operation_id="retryJob",
    summary="Do the failed files of a job again",
    description="Makes a new job (`retry_of` names this one) of the files that failed, with the same options and"
    " webhook; of all files, if the job has no archive and none of them failed by itself.",
    tag=JOBS,
    path=f"/v1/jobs/{JOB}/retry",
    scopes=(JOBS_WRITE,),
    answers={202: ACCEPTED},
    parameters=(IDEMPOTENCY_KEY,),
    faults=[
        bad_parameter("Idempotency-Key", "This header is sent twice."),
        NO_JOB,
        Fault(kind=JobNotOverError, detail="The job is processing; cancel it first, or wait until it is over."),
        Fault(kind=NothingToRetryError, detail="Every file of the job was archived."),
        NO_STATE,
        *MAKES_A_JOB,
    ],
)

DELETE_JOB = documented(
    operation_id="deleteJob",
    summary="Forget a job",
    description="It is stopped if it is not over, and no longer to be seen. Its archive goes soon, unless another job"
    " has the same; links that were issued before end with it.",
    tag=JOBS,
    path=f"/v1/jobs/{JOB}",
    scopes=(JOBS_WRITE,),
    answers={
        202: Answer(
            example=JobWish(job_id=JOB, action=JobAction.DELETE, status=JobStatus.COMPLETED, status_url=None),
            headers=("Cache-Control", "Warning"),
        )
    },
    faults=[NO_JOB, NO_STATE, NO_BROKER],
)
