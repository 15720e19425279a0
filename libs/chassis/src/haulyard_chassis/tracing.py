"""Spans: what a request, a message or a request to the store took, and what caused it.

Off until `start_tracing` is given a collector: then `span` makes nothing, and the ``traceparent`` of whoever asked is
handed on as it came (`haulyard_chassis.trace`). Nothing is instrumented behind our backs; the places that make spans
are those that call `span`, and nobody else knows OpenTelemetry.

A span belongs to the trace of its ``parent``, a ``traceparent`` from a header or the record of a job. Inside of a span
of the same trace it becomes that one's child, so that callers can always pass what they have.

Sources: W3C Trace Context; OpenTelemetry semantic conventions for HTTP and messaging.
"""

import asyncio
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from contextvars import Token
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from opentelemetry import context as contexts
from opentelemetry import trace as otel
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags, Tracer

from haulyard_chassis.logs import get_logger
from haulyard_chassis.redaction import redact_text
from haulyard_chassis.settings import ServiceSettings
from haulyard_chassis.trace import is_valid

__all__ = [
    "Attributes",
    "SpanKind",
    "Spanning",
    "begin",
    "current_span",
    "exemplar",
    "is_recording",
    "is_tracing",
    "span",
    "start_tracing",
    "stop_tracing",
]

log = get_logger(__name__)

FAREWELL: Final = 3.0
"""Seconds that the last spans may take on their way out when a service stops."""

Attributes = Mapping[str, str | int | float | bool]

_MAX_ERROR: Final = 300
_BEGINS = frozenset({SpanKind.SERVER, SpanKind.CONSUMER})
"""Kinds that may begin a trace; others without a parent are nobody's concern: health checks, repairs, probes."""


class Spanning(Protocol):
    """What can be said of a span; all of it is nothing while there is none."""

    @property
    def traceparent(self) -> str | None:
        """What carries the trace on to others; None while nothing is traced."""

    def set(self, name: str, value: str | float) -> None:
        """Note an attribute."""

    def rename(self, name: str) -> None:
        """Give the span a better name, once it is known."""

    def fail(self, error: BaseException | str) -> None:
        """Note that it did not end well, and why."""


class _Nothing:
    """A span while there is none: costs nothing, and takes all that can be said of one."""

    traceparent: None = None

    def set(self, name: str, value: str | float) -> None: ...

    def rename(self, name: str) -> None: ...

    def fail(self, error: BaseException | str) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class _Span:
    """A span of the SDK, current for what runs inside of it."""

    __slots__ = ("_is_current", "_span", "_token")

    def __init__(self, made: otel.Span) -> None:
        self._span = made
        self._token: Token[Context] | None = None

    @property
    def traceparent(self) -> str | None:
        return _written(self._span.get_span_context())

    def set(self, name: str, value: str | float) -> None:
        self._span.set_attribute(name, value)

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def fail(self, error: BaseException | str) -> None:
        if isinstance(error, BaseException):
            self._span.set_attribute("error.type", type(error).__name__)
        # Errors of libraries quote URLs, and those may be signed.
        self._span.set_status(StatusCode.ERROR, redact_text(str(error))[:_MAX_ERROR])

    def __enter__(self) -> Self:
        self._token = contexts.attach(otel.set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            contexts.detach(self._token)
        if isinstance(error, Exception):  # being cancelled is none
            self.fail(error)
        self._span.end()


class Provider(Protocol):
    """What of the SDK has to be ended."""

    def shutdown(self) -> None:
        """Send what is left, and stop."""


@dataclass
class _Installed:
    """The tracer of this process."""

    tracer: Tracer | None = None
    provider: Provider | None = None


_installed = _Installed()
_NOTHING: Final = _Nothing()


def is_tracing() -> bool:
    """Whether spans are made at all."""
    return _installed.tracer is not None


def is_recording() -> bool:
    """Whether what runs now is inside of a span that somebody will see."""
    return _installed.tracer is not None and otel.get_current_span().is_recording()


def current_span() -> Spanning:
    """Return the span inside of which this runs."""
    return _Span(otel.get_current_span()) if is_recording() else _NOTHING


def exemplar() -> dict[str, str] | None:
    """Return what makes a measurement an example of this trace (OpenMetrics, "Exemplars"); None if there is none."""
    if not is_recording():
        return None
    context = otel.get_current_span().get_span_context()
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


def span(
    name: str,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    parent: str | None = None,
    attributes: Attributes | None = None,
) -> AbstractContextManager[Spanning]:
    """Return a context manager that is a span, and the current one inside of it.

    An exception that leaves it makes it one that failed. Do not hold it open over a ``yield``: what the generator's
    caller does meanwhile would be inside of it, too. Use `begin` there.

    Args:
        name: of few different ones: ids are attributes.
        kind: which side of what it is.
        parent: ``traceparent`` of the trace that it belongs to.
        attributes: ids, counts, sizes; never contents, links or tokens.
    """
    made = begin(name, kind=kind, parent=parent, attributes=attributes)
    return _NOTHING if made is None else _Span(made)


def begin(
    name: str,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    parent: str | None = None,
    attributes: Attributes | None = None,
) -> otel.Span | None:
    """Begin a span that is not the current one and has to be ended; None while nothing is traced. See `span`."""
    tracer = _installed.tracer
    if tracer is None:
        return None
    current = otel.get_current_span()
    known = current.get_span_context() if kind not in _BEGINS else otel.INVALID_SPAN_CONTEXT
    remote = _read(parent)
    links: list[Link] = []
    if remote is not None and remote.trace_id != known.trace_id:
        within = otel.set_span_in_context(NonRecordingSpan(remote), Context())
        if known.is_valid:
            links.append(Link(known))  # another job's trace caused it
    elif known.is_valid:
        if not current.is_recording():  # nobody will see this trace
            return None
        within = otel.set_span_in_context(current, Context())
    elif kind in _BEGINS:
        within = Context()
    else:
        return None
    return tracer.start_span(name, within, kind, attributes, links)


def start_tracing(settings: ServiceSettings, *, service: str) -> None:
    """Trace from now on, if there is a collector to send spans to; call once, after `configure_logging`."""
    if settings.otlp_endpoint is None:
        return
    # The SDK takes some megabytes, a tenth of a second and a thread: only those pay for it who trace.
    from haulyard_chassis.tracing_export import make_provider  # noqa: PLC0415

    provider = make_provider(settings, service=service)
    install(provider.get_tracer("haulyard"), provider)
    log.info("tracing", endpoint=settings.otlp_endpoint, ratio=settings.trace_ratio)


def install(tracer: Tracer, provider: Provider) -> None:
    """Make spans with ``tracer`` from now on; tests give others than `start_tracing`."""
    _installed.tracer, _installed.provider = tracer, provider


def uninstall() -> Provider | None:
    """Make no more spans; return what may still have some to send."""
    provider = _installed.provider
    _installed.tracer = _installed.provider = None
    return provider


async def stop_tracing(*, within: float = FAREWELL) -> None:
    """Send what is left and make no more spans; what takes longer than ``within`` seconds is lost."""
    provider = uninstall()
    if provider is None:
        return
    done, loop = asyncio.Event(), asyncio.get_running_loop()

    def shut_down() -> None:
        provider.shutdown()
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(done.set)

    # Not in the loop's own threads: those are waited for when it ends.
    threading.Thread(target=shut_down, name="end of tracing", daemon=True).start()
    try:
        async with asyncio.timeout(within):
            await done.wait()
    except TimeoutError:
        log.warning("last spans not sent", seconds=within)


def _read(traceparent: str | None) -> SpanContext | None:
    if traceparent is None or not is_valid(traceparent):
        return None
    _, trace_id, span_id, flags = traceparent.split("-")
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))


def _written(context: SpanContext) -> str | None:
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & TraceFlags.SAMPLED:02x}"
