"""What the orchestrator measures of the engine, for Prometheus."""

from dataclasses import asdict

from haulyard_chassis.metrics import LONG_SECONDS, counter, histogram
from haulyard_contracts import JobDocument, JobStatus, PartDone, PrepareDone
from haulyard_orchestrator.job_records import Took
from haulyard_orchestrator.planning import Plan

PLANNED_BYTES = counter("planned_bytes_total", "Source bytes of the archives that were laid out.")
PARTS = counter("parts_total", "Parts that were planned.", ["kind"])
COPIED_BYTES = counter("copied_bytes_total", "Source bytes that the store copied by itself.")
STREAMED_BYTES = counter("streamed_bytes_total", "Source bytes that went through archivers.", ["phase"])
THROUGH = histogram(
    "through_service_ratio",
    "Of the source bytes of a completed job, the share that went through archivers.",
    buckets=(0.0, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 1.0, 2.0),
)
REUSED = counter(
    "archives_reused_total",
    "Jobs that got an archive which was there, or was being built for another job.",
    ["how"],
)
PHASE_SECONDS = histogram(
    "job_phase_seconds", "Time that a completed job spent in a phase.", ["phase"], buckets=LONG_SECONDS
)
JOBS = counter("jobs_total", "Jobs that are over.", ["status", "code"])


def planned(plan: Plan) -> None:
    """Count an archive that was laid out."""
    PLANNED_BYTES.inc(plan.bytes_total)
    for part in plan.parts:
        kind = "copy" if part.task.copy else "put" if len(plan.parts) == 1 else "part"
        PARTS.labels(kind).inc()


def done(result: PartDone | PrepareDone) -> None:
    """Count the bytes of a part or a preparation."""
    if isinstance(result, PartDone):
        COPIED_BYTES.inc(result.bytes_copied)
        STREAMED_BYTES.labels("build").inc(result.bytes_through)
    else:
        STREAMED_BYTES.labels("prepare").inc(result.bytes_through)


def reused(how: str) -> None:
    """Count a job that builds nothing: what it wants is ``finished``, or ``in_flight`` for another job."""
    REUSED.labels(how).inc()


def ended(document: JobDocument, took: Took) -> None:
    """Count a job that is over, and how long its phases took."""
    JOBS.labels(document.status, document.error.code if document.error else "").inc()
    if document.status is JobStatus.COMPLETED:
        moved = document.bytes_copied + document.bytes_through
        if moved:  # an archive that was there already moved nothing
            THROUGH.observe(document.bytes_through / max(document.progress.bytes_total, 1))
        for phase, seconds in asdict(took).items():
            if seconds is not None:
                PHASE_SECONDS.labels(phase).observe(max(seconds, 0.0))
