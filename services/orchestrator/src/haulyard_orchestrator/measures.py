"""What the orchestrator measures of the engine, for Prometheus."""

import math
from collections import Counter
from dataclasses import asdict

from haulyard_chassis.metrics import LONG_SECONDS, SIZE_BYTES, counter, gauge, histogram
from haulyard_chassis.tracing import exemplar
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
JOB_SECONDS = histogram(
    "job_duration_seconds", "Time from the request until a job was over.", ["status"], buckets=LONG_SECONDS
)
SIZE = histogram("archive_size_bytes", "Size of the archives of completed jobs.", buckets=SIZE_BYTES)
FILES = counter("files_total", "Files of jobs that are over, by what they are.", ["type", "outcome"])

QUEUE_MESSAGES = gauge("queue_messages", "Messages that wait, or were taken and are worked on.", ["queue", "state"])
QUEUE_OLDEST = gauge("queue_oldest_seconds", "Age of the oldest message that nobody has taken.", ["queue"])
DEAD_LETTERS = gauge("dead_letters", "Messages that were given up and wait for an operator.")
CACHE_BYTES = gauge("cache_memory_bytes", "Memory that the cache uses for its data.")

_TYPES = {
    ending: kind
    for kind, endings in {
        "archive": "7z bz2 gz rar tar tgz xz zip zst",
        "audio": "aac aif aiff flac m4a mp3 ogg opus wav wma",
        "data": "csv db json jsonl ndjson parquet sql sqlite tsv xml yaml yml",
        "document": "doc docx epub html key md numbers odp ods odt pages pdf ppt pptx rtf txt xls xlsx",
        "image": "ai arw bmp cr2 dng eps gif heic jpeg jpg nef png psd raw svg tif tiff webp",
        "video": "avi m4v mkv mov mp4 mpeg mpg mts webm wmv",
    }.items()
    for ending in endings.split()
}


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
    if document.status is not JobStatus.EXPIRED:  # which was over before
        _ended_now(document)
    if document.status is JobStatus.COMPLETED:
        if document.size_bytes is not None:
            SIZE.observe(document.size_bytes)
        moved = document.bytes_copied + document.bytes_through
        if moved:  # an archive that was there already moved nothing
            THROUGH.observe(document.bytes_through / max(document.progress.bytes_total, 1))
        for phase, seconds in asdict(took).items():
            if seconds is not None:
                PHASE_SECONDS.labels(phase).observe(max(seconds, 0.0))


def _ended_now(document: JobDocument) -> None:
    JOB_SECONDS.labels(document.status).observe(
        max((document.updated_at - document.created_at).total_seconds(), 0.0), exemplar()
    )
    for (kind, outcome), number in Counter((file_type(file.name), file.status) for file in document.files).items():
        FILES.labels(kind, outcome).inc(number)


def file_type(name: str | None) -> str:
    """Return what kind of file a name says it is; ``unknown`` where there is no name: it was never found."""
    if name is None:
        return "unknown"
    _, dot, ending = name.rpartition(".")
    return _TYPES.get(ending.lower(), "other") if dot else "other"


def queue(name: str, *, waiting: int, taken: int, oldest: float) -> None:
    """Note what waits in a queue; ``oldest`` in seconds."""
    QUEUE_MESSAGES.labels(name, "waiting").set(waiting)
    QUEUE_MESSAGES.labels(name, "taken").set(taken)
    QUEUE_OLDEST.labels(name).set(oldest)


def forget_queues() -> None:
    """Tell nothing of queues: nobody knows."""
    QUEUE_MESSAGES.clear()
    QUEUE_OLDEST.clear()
    DEAD_LETTERS.set(math.nan)
