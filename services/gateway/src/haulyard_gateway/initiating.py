"""Asking for an archive: the endpoint, and what it has in common with others that make jobs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import msgspec
from litestar import Response, post
from ulid import ULID

from haulyard_chassis.broker import TRACEPARENT, AlreadyPendingError, BrokerUnavailableError
from haulyard_chassis.idempotency import (
    Conflict,
    InvalidKeyError,
    Replay,
    derived_job_id,
    fingerprint,
    read_key,
)
from haulyard_chassis.job_state import JobStateUnavailableError, queued_document
from haulyard_chassis.limits import Decision
from haulyard_chassis.logs import audit, get_logger
from haulyard_chassis.problems import ProblemError
from haulyard_contracts import JobRequested, JobStatus
from haulyard_gateway import openapi
from haulyard_gateway.admission import Claim, Verdict
from haulyard_gateway.auth import UserRequest, count, decided
from haulyard_gateway.bodies import JobAccepted, in_seconds
from haulyard_gateway.context import Context, Given
from haulyard_gateway.errors import IdempotencyKeyReusedError, RecordUnavailableError, TooManyJobsError
from haulyard_gateway.estimates import estimated_completion
from haulyard_gateway.headers import NO_STORE, retry_after, warning
from haulyard_gateway.reading import bad_parameter, read_object
from haulyard_gateway.validation import InitiateRequest, parse_initiate

log = get_logger(__name__)

IDEMPOTENCY_KEY = "Idempotency-Key"

Parse = Callable[..., InitiateRequest]

_NO_CACHE = "the status cache is away; the job is safe, and its status may lag"
_NO_BROKER = "the broker is away; the job is safe, and begins when it is back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A request for a job, as far as it is about the job."""

    job: InitiateRequest
    claim: Claim | None = None
    retry_of: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A job that will be done."""

    request: JobRequested
    warnings: tuple[str, ...] = ()
    parked: bool = False
    """The broker was away: the job waits in the record."""


@post("/download/initiate", status_code=202, **openapi.INITIATE)
async def initiate(request: UserRequest, context: Given) -> Response[JobAccepted]:
    """Accept a job: one round trip to the cache, one to the broker, and the database is not needed."""
    wanted = await read_wanted(request, context, "initiate", parse_initiate)
    return answer(context, await accept(request, context, wanted))


async def read_wanted(request: UserRequest, context: Context, operation: str, parse: Parse) -> Wanted:
    """Return what a request wants; one that is wrong counts like one that is right.

    Raises:
        ProblemError: it is wrong, or one too many.
    """
    settings = context.settings
    try:
        body = await read_object(request)
        job = parse(body, max_files=settings.max_files_per_job, networks=settings.allowed_networks)
        return Wanted(job=job, claim=read_claim(request, operation, body))
    except ProblemError:
        await count(request, context)
        raise


def read_claim(request: UserRequest, operation: str, body: Mapping[str, Any]) -> Claim | None:
    """Return what a request's ``Idempotency-Key`` is claimed for; None without one.

    Raises:
        InvalidRequestError: it is no key.
    """
    given = request.headers.getall(IDEMPOTENCY_KEY, [])
    if not given:
        return None
    if len(given) > 1:
        raise bad_parameter(IDEMPOTENCY_KEY, "This header is sent twice.")
    try:
        return Claim(read_key(given[0]), fingerprint(operation, body))
    except InvalidKeyError as error:
        raise bad_parameter(IDEMPOTENCY_KEY, f"The key {error}.") from error


async def accept(request: UserRequest, context: Context, wanted: Wanted, *, charged: bool = False) -> Accepted:
    """Make a job, or find the one that was made when the same was asked before.

    Args:
        request: from whom.
        context: what we work with.
        wanted: what they want.
        charged: the request has been counted already.

    Raises:
        ProblemError: it may not be made now.
        BrokerUnavailableError: it could not be handed over.
    """
    job = new_request(wanted, user_id=request.user, now=datetime.now(UTC))
    document = queued_document(job)
    verdict = await context.ports.admission.admit(document, wanted.claim, charged=charged)
    decided(request.scope, verdict.requests, jobs=verdict.jobs)
    check_verdict(verdict)
    if isinstance(verdict.outcome, Replay):
        return await _again(request, context, msgspec.structs.replace(job, job_id=verdict.outcome.job_id))
    try:
        accepted = await _hand_over(request, context, job)
    except Exception:
        await context.ports.admission.withdraw(document, wanted.claim)
        raise
    audit("job requested", user_id=job.user_id, job_id=job.job_id, files=len(job.file_ids), priority=job.priority)
    if verdict.degraded:
        return replace(accepted, warnings=(*accepted.warnings, _NO_CACHE))
    return accepted


async def _again(request: UserRequest, context: Context, job: JobRequested) -> Accepted:
    """Answer as when the same was asked before.

    Whoever asked first may have died before the broker had the job; if it has, handing it over changes nothing.
    """
    try:
        known = (await context.ports.state.look_up(job.job_id)).document
    except JobStateUnavailableError as error:
        log.warning("job of an idempotency key not looked up", job_id=job.job_id, error=str(error))
        known = None
    if known is not None:
        job = msgspec.structs.replace(job, created_at=known.created_at)
    if known is None or known.status is JobStatus.QUEUED:
        return await _hand_over(request, context, job)
    return Accepted(request=job)


def new_request(wanted: Wanted, *, user_id: str, now: datetime) -> JobRequested:
    """Return the request that goes to the broker; with an idempotency key its id is made from that."""
    claim, job = wanted.claim, wanted.job
    if claim is None:
        job_id = f"job_{ULID.from_datetime(now)}"
    else:
        job_id = derived_job_id(user_id, claim.key, claim.fingerprint, now)
    return JobRequested(
        job_id=job_id,
        user_id=user_id,
        file_ids=job.file_ids,
        created_at=now,
        priority=job.priority,
        filename=job.filename,
        webhook_url=job.webhook_url,
        compression=job.compression,
        on_missing=job.on_missing,
        retry_of=wanted.retry_of,
    )


def check_verdict(verdict: Verdict) -> None:
    """Return if a job may be made, or was made before.

    Raises:
        TooManyJobsError, IdempotencyKeyReusedError
    """
    if verdict.jobs is not None and not verdict.jobs.allowed:
        raise _too_many(verdict.jobs)
    if isinstance(verdict.outcome, Conflict):
        raise IdempotencyKeyReusedError(
            "This Idempotency-Key was sent before with another request; take a new key for a new request."
        )


def _too_many(jobs: Decision) -> TooManyJobsError:
    seconds = max(1, round(jobs.retry_after))
    return TooManyJobsError(
        f"{jobs.limit} of your jobs are running, and no more may at once. Try again in {seconds} s, or cancel one.",
        headers={"Retry-After": str(seconds)},
    )


async def _hand_over(request: UserRequest, context: Context, job: JobRequested) -> Accepted:
    """Give a job to the broker, or else to the record, from which it is taken when the broker is back."""
    ports, traceparent = context.ports, request.headers[TRACEPARENT]
    try:
        await ports.publisher.publish(
            context.topology.job_requested(job.priority, job.job_id),
            job,
            message_id=job.job_id,
            headers={TRACEPARENT: traceparent},
        )
    except AlreadyPendingError:
        log.info("job was handed over before", job_id=job.job_id)
    except BrokerUnavailableError as away:
        log.warning("broker unavailable", job_id=job.job_id, error=str(away))
        try:
            await ports.records.park(job, traceparent=traceparent)
        except RecordUnavailableError as error:
            log.warning("job not parked", job_id=job.job_id, error=str(error))
            raise away from error
        return Accepted(request=job, parked=True, warnings=(_NO_BROKER,))
    return Accepted(request=job)


def answer(context: Context, accepted: Accepted) -> Response[JobAccepted]:
    """Return the answer that tells of a job that will be done."""
    job = accepted.request
    ticket = context.tickets.issue(job.job_id, job.user_id, ttl_seconds=context.settings.ticket_ttl)
    status_url = context.links.status(job.job_id)
    body = JobAccepted(
        job_id=job.job_id,
        status=JobStatus.QUEUED,
        created_at=in_seconds(job.created_at),
        estimated_completion=in_seconds(estimated_completion(job.created_at, files=len(job.file_ids))),
        total_files=len(job.file_ids),
        websocket_url=context.links.websocket(job.job_id, ticket),
        status_url=status_url,
        events_url=context.links.events(job.job_id, ticket),
        archive_url=context.archive_url(job.job_id, job.user_id),
    )
    headers = {**NO_STORE, **retry_after(), "Location": status_url, **warning(*accepted.warnings)}
    return Response(body, status_code=202, headers=headers)
