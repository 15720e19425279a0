"""What an archiver measures, for Prometheus."""

from haulyard_chassis.metrics import counter, histogram
from haulyard_chassis.tracing import exemplar
from haulyard_contracts import PartFailed, Result, TaskKind

TASKS = counter("tasks_total", "Tasks that were done, or could not be.", ["kind", "outcome"])
TASK_SECONDS = histogram("task_duration_seconds", "Time that a task took.", ["kind"])
THROUGH_BYTES = counter("archiver_bytes_total", "Source bytes that went through this archiver.", ["kind"])


def done(kind: TaskKind, result: Result) -> None:
    """Count a task."""
    if isinstance(result, PartFailed):
        TASKS.labels(kind, result.failure.code).inc()
        return
    TASKS.labels(kind, "done").inc()
    TASK_SECONDS.labels(kind).observe(result.seconds, exemplar())
    THROUGH_BYTES.labels(kind).inc(result.bytes_through)
