"""The messages that the orchestrator takes, each handed to the step that it asks for."""

import structlog
from faststream.nats import NatsBroker

from haulyard_chassis.broker import TRACEPARENT
from haulyard_chassis.consume import Intake, RetryLater, current_delivery, subscribe
from haulyard_chassis.store import StoreUnavailableError
from haulyard_chassis.tracing import current_span
from haulyard_contracts import (
    ErrorCode,
    Failure,
    JobAction,
    JobControl,
    JobRequested,
    PartDone,
    PartFailed,
    PrepareDone,
    Result,
    Topology,
    UserErasure,
    decode,
)
from haulyard_orchestrator.jobs import Jobs
from haulyard_orchestrator.patience import patiently
from haulyard_orchestrator.retry import RetryPolicy
from haulyard_orchestrator.settings import OrchestratorSettings

_CONTROL_SLOTS = 16


class Runtime:
    """What exists only while the service runs; handlers are registered before."""

    jobs: Jobs


def register_handlers(
    broker: NatsBroker, runtime: Runtime, *, settings: OrchestratorSettings, topology: Topology, policy: RetryPolicy
) -> None:
    """Subscribe to requests, controls and results; messages come once the broker is started."""
    grace = settings.shutdown_grace

    async def request_given_up(payload: bytes, reason: str) -> None:
        request = decode(payload, JobRequested)
        message = f"The job could not be planned: {reason}"
        await runtime.jobs.refuse(request, Failure(code=ErrorCode.INTERNAL, message=message), traceparent=None)

    requests = Intake(consumers=(topology.requests_consumer,), slots=settings.planning_slots, on_dead=request_given_up)

    @subscribe(broker, requests, JobRequested, topology=topology, grace=grace)
    async def plan_job(request: JobRequested) -> None:
        _about(request.job_id)
        delivery = current_delivery()
        traceparent = delivery.headers.get(TRACEPARENT)
        try:
            await patiently(lambda: runtime.jobs.accept(request, traceparent=traceparent))
        except StoreUnavailableError as error:
            if delivery.number < policy.attempts:
                raise RetryLater(str(error), delay=policy.first_delay * 2.0 ** (delivery.number - 1)) from error
            failure = Failure(code=ErrorCode.STORE_UNAVAILABLE, message=f"The store does not answer: {error}")
            await patiently(lambda: runtime.jobs.refuse(request, failure, traceparent=traceparent))

    @subscribe(
        broker,
        Intake(consumers=(topology.control_consumer,), slots=_CONTROL_SLOTS),
        JobControl | UserErasure,
        topology=topology,
        grace=grace,
    )
    async def control(wish: JobControl | UserErasure) -> None:
        await _grant(runtime.jobs, wish)

    @subscribe(
        broker,
        Intake(consumers=(topology.results_consumer,), slots=settings.result_slots),
        Result,
        topology=topology,
        grace=grace,
    )
    async def take_result(result: Result) -> None:
        await _take_in(runtime.jobs, result)


async def _grant(jobs: Jobs, wish: JobControl | UserErasure) -> None:
    """Do what a user wants."""
    if isinstance(wish, UserErasure):
        await patiently(lambda: jobs.forgetting.erase_user(wish))
        return
    _about(wish.job_id)
    if not await jobs.is_recorded(wish.job_id):
        # The wish has overtaken the request: it would be forgotten, and the job done.
        raise RetryLater("the job is not recorded yet", delay=min(0.025 * 2.0 ** current_delivery().number, 30.0))
    match wish.action:
        case JobAction.CANCEL:
            await patiently(lambda: jobs.cancel(wish.job_id))
        case JobAction.DELETE:
            await patiently(lambda: jobs.delete(wish.job_id))


async def _take_in(jobs: Jobs, result: Result) -> None:
    """Take a result in."""
    _about(result.job_id)
    match result:
        case PartDone():
            await patiently(lambda: jobs.part_done(result))
        case PrepareDone():
            await patiently(lambda: jobs.preparation_done(result))
        case PartFailed():
            await patiently(lambda: jobs.part_failed(result))


def _about(job_id: str) -> None:
    """Let what is logged, and what is traced, say which job it is about."""
    structlog.contextvars.bind_contextvars(job_id=job_id)
    current_span().set("haulyard.job_id", job_id)
