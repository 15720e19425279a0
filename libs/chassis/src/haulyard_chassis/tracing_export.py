"""OpenTelemetry's SDK, set up: which traces are recorded, and how spans leave.

Spans leave in batches, from a thread of their own, over HTTP (OTLP, protobuf). A collector that is away costs the spans
of that time and nothing else; it is logged when it goes and when it is back, not for each batch.

Sources: OpenTelemetry specification, "SDK: Sampling" and "OTLP Exporter"; semantic conventions for resources.
"""

import logging
import os
import socket
from collections import deque
from collections.abc import Sequence
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from haulyard_chassis.logs import get_logger
from haulyard_chassis.metrics import counter
from haulyard_chassis.settings import ServiceSettings

log = get_logger(__name__)

SPANS = counter("trace_spans_total", "Spans that were sent to the collector, or could not be.", ["outcome"])

_PATH = "/v1/traces"


class _Reasons(logging.Handler):
    """Keeps what the libraries complained of last, instead of lines for each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.last: deque[str] = deque(maxlen=2)  # what went wrong, and that it was given up

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what is said."""
        self.last.append(record.getMessage())


class Exporter(SpanExporter):
    """Sends spans by another exporter, counts them, and tells of failures once.

    Args:
        inner: sends them.
        reasons: knows why that failed.
    """

    def __init__(self, inner: SpanExporter, reasons: _Reasons) -> None:
        self._inner = inner
        self._reasons = reasons
        self._is_failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans; called from a thread of the SDK."""
        result = self._inner.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        SPANS.labels("failed" if failed else "sent").inc(len(spans))
        if failed and not self._is_failing:
            log.warning("spans not sent", reason=" ".join(self._reasons.last))
        elif self._is_failing and not failed:
            log.info("spans are sent again")
        self._is_failing = failed
        return result

    def shutdown(self) -> None:
        """Try nothing again."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is kept here."""
        return self._inner.force_flush(timeout_millis)


def make_provider(settings: ServiceSettings, *, service: str) -> TracerProvider:
    """Return what makes tracers whose spans go to the settings' collector."""
    reasons = _Reasons()
    libraries = logging.getLogger("opentelemetry")
    libraries.handlers[:] = [reasons]
    libraries.propagate = False
    resource = Resource.create(
        {
            "service.name": f"haulyard-{service}",
            "service.namespace": settings.namespace,
            "service.version": version("haulyard-chassis"),
            "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
            "deployment.environment.name": settings.environment,
        }
    )
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(settings.trace_ratio)),
        resource=resource,
        shutdown_on_exit=False,  # `stop_tracing` does it, and does not wait for ever
    )
    exporter = OTLPSpanExporter(endpoint=f"{settings.otlp_endpoint}{_PATH}")
    provider.add_span_processor(BatchSpanProcessor(Exporter(exporter, reasons)))
    return provider
