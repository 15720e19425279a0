"""What several endpoints have in common."""

from datetime import UTC, datetime

from litestar.openapi.spec import OpenAPIType, Parameter, Schema

from haulyard_chassis.problems import (
    ContentTooLargeError,
    InvalidRequestError,
    NotFoundError,
    UnavailableError,
    UnsupportedMediaTypeError,
)
from haulyard_contracts import JobStatus
from haulyard_gateway.bodies import JobAccepted
from haulyard_gateway.documented import Answer, Fault, header, query
from haulyard_gateway.errors import IdempotencyKeyReusedError, TooManyJobsError
from haulyard_gateway.queries import DEFAULT_LIMIT, MAX_LIMIT

DOWNLOADS = "Downloads"
JOBS = "Jobs"
FILES = "Files"
USERS = "Users"
ADMIN = "Operators"

JOB = "job_01KC8ZB0J0W8G3R5Q2T7V9X4YZ"
ARCHIVE_URL = f"https://api.example.com/v1/jobs/{JOB}/archive?ticket=eyJhbGciOi"
STATUS_PATH = f"/v1/jobs/{JOB}/status"


def at(minute: int, second: int = 0) -> datetime:
    """Return a time of the examples."""
    return datetime(2025, 12, 12, 10, minute, second, tzinfo=UTC)


NOT_JSON = Fault(
    kind=UnsupportedMediaTypeError, detail='The body was sent as "text/plain"; send JSON as application/json.'
)
TOO_LARGE = Fault(kind=ContentTooLargeError, detail="The body is larger than any valid request can be.")
NO_JOB = Fault(kind=NotFoundError, detail="You have no job with this id.")
NO_FILE = Fault(kind=NotFoundError, detail="You have no file with this id.")


def unavailable(detail: str) -> Fault:
    """Return the problem that something is away."""
    return Fault(kind=UnavailableError, detail=f"{detail} Try again.", headers=("Retry-After",))


def bad_parameter(name: str, detail: str) -> Fault:
    """Return the problem that a parameter is not what it should be."""
    return Fault(kind=InvalidRequestError, detail=f"{name}: {detail}", parameter=name)


NO_STATE = unavailable("The state of jobs cannot be read at the moment.")
NO_CATALOGUE = unavailable("The catalogue of files cannot be reached at the moment.")
NO_RECORD = unavailable("The record of jobs cannot be reached at the moment.")
NO_STORE_THERE = unavailable("The object store cannot be reached at the moment.")
NO_BROKER = unavailable("The request could not be handed over for processing.")

ACCEPTED = Answer(
    example=JobAccepted(
        job_id=JOB,
        status=JobStatus.QUEUED,
        created_at=at(0),
        estimated_completion=at(0, 7),
        total_files=3,
        websocket_url=f"wss://live.example.com/ws/jobs/{JOB}?ticket=eyJhbGciOi",
        status_url=f"https://api.example.com{STATUS_PATH}",
        events_url=f"https://live.example.com/v1/jobs/{JOB}/events?ticket=eyJhbGciOi",
        archive_url=ARCHIVE_URL,
    ),
    headers=("Location", "Retry-After", "Cache-Control", "Warning"),
)

IDEMPOTENCY_KEY = header(
    "Idempotency-Key",
    "Names the request: when it is sent again within 24 hours, because the answer was lost, the answer is that of the"
    " first one, and there is one job. 1 to 255 visible ASCII characters; a string in quotes, or without.",
    Schema(type=OpenAPIType.STRING, pattern=r'^("[ !#-\[\]-~]{1,255}"|[!#-+\--:<-~]{1,255})$'),
    example="8e03978e-40d5-43dd-bc93-6894a57f9324",
)

MAKES_A_JOB = (
    Fault(
        kind=IdempotencyKeyReusedError,
        detail="This Idempotency-Key was sent before with another request; take a new key for a new request.",
    ),
    Fault(
        kind=TooManyJobsError,
        detail="5 of your jobs are running, and no more may at once. Try again in 5 s, or cancel one.",
        headers=("Retry-After", "RateLimit-Policy", "RateLimit"),
    ),
    NO_BROKER,
)


def page_parameters(example: str) -> tuple[Parameter, Parameter]:
    """Return the parameters that lists have."""
    return (
        query(
            "cursor",
            "Where to go on: `next_cursor` of the page before.",
            Schema(type=OpenAPIType.STRING, pattern="^[A-Za-z0-9_-]{1,100}$"),
            example=example,
        ),
        query(
            "limit",
            "Most items of the page.",
            Schema(type=OpenAPIType.INTEGER, minimum=1, maximum=MAX_LIMIT, default=DEFAULT_LIMIT),
        ),
    )
