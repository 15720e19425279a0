"""Spans: whose children they are, which are recorded, what they say; and that there are none while nobody wants any."""

import asyncio
import logging
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import structlog
from opentelemetry.sdk.trace.sampling import ParentBased
from opentelemetry.trace import StatusCode

from haulyard_chassis import tracing
from haulyard_chassis.metrics import REGISTRY
from haulyard_chassis.settings import ServiceSettings
from haulyard_chassis.tracing import SpanKind, current_span, is_recording, is_tracing, span, start_tracing, stop_tracing
from haulyard_chassis.tracing_export import make_provider
from support.otlp import Collector, running_collector
from support.spans import Spans, parent_id, span_id, trace_id, tracing_in_memory

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
OTHER = f"00-{'a' * 32}-{'b' * 16}-01"


def settings(**more: Any) -> ServiceSettings:
    needed = {"nats_url": "n", "postgres_dsn": "p", "redis_url": "r", "s3_endpoint": "http://s"}
    return ServiceSettings(**{**needed, "s3_access_key": "k", "s3_secret_key": "s", **more})


@pytest.fixture
def spans() -> Iterator[Spans]:
    with tracing_in_memory() as kept:
        yield kept


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    """A collector, and the library's loggers as they were."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    libraries = logging.getLogger("opentelemetry")
    before = list(libraries.handlers), libraries.propagate
    async with running_collector() as running:
        yield running
    await stop_tracing()
    libraries.handlers[:], libraries.propagate = before


# Off


def test_without_a_collector_nothing_is_traced() -> None:
    start_tracing(settings(), service="test")
    assert not is_tracing()
    with span("a", kind=SpanKind.SERVER, parent=SAMPLED, attributes={"x": 1}) as first, span("b") as second:
        assert first is second  # nothing is made, not even an object
        first.set("name", "value")
        first.rename("c")
        first.fail(ValueError("no"))
        assert first.traceparent is None
        assert (is_recording(), current_span()) == (False, first)


def test_an_error_leaves_what_is_no_span() -> None:
    with pytest.raises(ValueError, match="mine"), span("a"):
        raise ValueError("mine")


def test_the_sdk_is_not_even_imported() -> None:
    code = "import sys, haulyard_chassis.app, haulyard_chassis.serve; print('opentelemetry.sdk' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


async def test_ending_what_was_not_begun_is_nothing() -> None:
    await stop_tracing()


# Whose child it is


def test_a_span_continues_the_trace_that_it_is_given(spans: Spans) -> None:
    with span("work", parent=SAMPLED) as traced:
        traceparent = traced.traceparent
    made = spans.one("work")
    assert (trace_id(made), parent_id(made)) == (TRACE, PARENT)
    assert traceparent == f"00-{TRACE}-{span_id(made)}-01"


def test_inside_of_a_span_of_the_same_trace_it_is_that_ones_child(spans: Spans) -> None:
    with span("outer", kind=SpanKind.CONSUMER, parent=SAMPLED), span("inner"), span("innermost", parent=SAMPLED):
        pass
    outer, inner, innermost = (spans.one(name) for name in ("outer", "inner", "innermost"))
    assert {trace_id(each) for each in spans.all()} == {TRACE}
    assert (parent_id(inner), parent_id(innermost)) == (span_id(outer), span_id(inner))


def test_inside_of_another_trace_it_keeps_its_own_and_names_the_other(spans: Spans) -> None:
    with span("outer", kind=SpanKind.CONSUMER, parent=OTHER), span("inner", parent=SAMPLED):
        pass
    inner = spans.one("inner")
    assert (trace_id(inner), parent_id(inner)) == (TRACE, PARENT)
    assert [f"{link.context.trace_id:032x}" for link in inner.links] == ["a" * 32]


@pytest.mark.parametrize("kind", [SpanKind.INTERNAL, SpanKind.CLIENT, SpanKind.PRODUCER])
@pytest.mark.parametrize("parent", [None, "", "nonsense", f"00-{'0' * 32}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01"])
def test_what_belongs_to_no_trace_is_not_traced(spans: Spans, kind: SpanKind, parent: str | None) -> None:
    with span("health check", kind=kind, parent=parent) as traced:
        assert traced.traceparent is None
    assert spans.names() == []


@pytest.mark.parametrize("kind", [SpanKind.SERVER, SpanKind.CONSUMER])
def test_a_request_or_message_begins_a_trace(spans: Spans, kind: SpanKind) -> None:
    with span("outer", kind=SpanKind.SERVER, parent=SAMPLED), span("begins", kind=kind, parent="nonsense"):
        pass
    begins = spans.one("begins")
    assert parent_id(begins) is None
    assert trace_id(begins) != TRACE


async def test_tasks_inherit_the_span_in_which_they_were_made(spans: Spans) -> None:
    async def child(name: str) -> None:
        with span(name):
            await asyncio.sleep(0)

    with span("parent", parent=SAMPLED):
        await asyncio.gather(child("a"), child("b"))
    assert {parent_id(spans.one(name)) for name in "ab"} == {span_id(spans.one("parent"))}


# Which are recorded


@pytest.mark.parametrize(
    ("ratio", "parent", "recorded"),
    [
        (0.0, None, False),
        (1.0, None, True),
        (0.0, SAMPLED, True),  # who began the trace decides
        (1.0, UNSAMPLED, False),
    ],
)
def test_sampling(ratio: float, parent: str | None, *, recorded: bool) -> None:
    with (
        tracing_in_memory(ratio) as spans,
        span("request", kind=SpanKind.SERVER, parent=parent) as traced,
    ):
        assert traced.traceparent is not None
        assert traced.traceparent.endswith("-01" if recorded else "-00")
        assert parent is None or traced.traceparent[3:35] == TRACE
        assert is_recording() == recorded
        with span("inner") as inner:
            assert (inner.traceparent is not None) == recorded
    assert len(spans.names()) == (2 if recorded else 0)


def test_a_share_of_the_traces_that_begin_here_is_recorded() -> None:
    with tracing_in_memory(0.5) as spans:
        for _ in range(400):
            with span("request", kind=SpanKind.SERVER):
                pass
    assert 0 < len(spans.names()) < 400  # 1 : 10^120 against


# What they say


def test_an_error_that_leaves_a_span_makes_it_one_that_failed(spans: Spans) -> None:
    signed = "https://store/x?X-Amz-Signature=0123456789abcdef"
    with pytest.raises(ValueError, match="Signature"), span("work", parent=SAMPLED):
        raise ValueError(f"no answer from {signed}")
    made = spans.one("work")
    assert made.status.status_code is StatusCode.ERROR
    assert (made.attributes or {})["error.type"] == "ValueError"
    assert "0123456789abcdef" not in str(made.status.description)
    assert made.events == ()  # tracebacks are for the log


def test_being_cancelled_is_no_failure(spans: Spans) -> None:
    with pytest.raises(asyncio.CancelledError), span("work", parent=SAMPLED):
        raise asyncio.CancelledError
    assert spans.one("work").status.status_code is StatusCode.UNSET


def test_the_current_span_can_be_told_more(spans: Spans) -> None:
    with span("work", parent=SAMPLED):
        current_span().rename("better")
        current_span().set("haulyard.part", 3)
    assert (spans.one("better").attributes or {})["haulyard.part"] == 3


# How they leave


async def test_spans_are_sent_with_the_name_of_their_service(collector: Collector) -> None:
    start_tracing(settings(otlp_endpoint=collector.url, trace_ratio=0.25), service="test")
    with span("work", parent=SAMPLED, attributes={"haulyard.part": 3}):
        pass
    (seen,) = await collector.wait(lambda spans: len(spans) > 0)
    assert (seen.trace_id, seen.parent_id, seen.name, seen.kind) == (TRACE, PARENT, "work", "internal")
    assert (seen.service, seen.attributes) == ("haulyard-test", {"haulyard.part": 3})


async def test_what_is_left_is_sent_in_the_end(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
    start_tracing(settings(otlp_endpoint=collector.url), service="test")
    with span("last", parent=SAMPLED):
        pass
    await stop_tracing(within=60)
    assert [seen.name for seen in collector.spans] == ["last"]
    assert not is_tracing()


async def test_a_collector_that_refuses_is_told_of_once(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0.2")  # seconds for which it is tried again
    collector.is_away = True

    def count(outcome: str) -> float:
        return REGISTRY.get_sample_value("haulyard_trace_spans_total", {"outcome": outcome}) or 0.0

    failed, sent = count("failed"), count("sent")
    with structlog.testing.capture_logs() as logged:
        provider = make_provider(settings(otlp_endpoint=collector.url), service="test")
        tracing.install(provider.get_tracer("test"), provider)
        for _ in range(3):
            with span("lost", parent=SAMPLED):
                pass
            await asyncio.to_thread(provider.force_flush)
        await collector.wait_refused()
        collector.is_away = False
        for _ in range(2):
            with span("sent", parent=SAMPLED):
                pass
            await asyncio.to_thread(provider.force_flush)
        await collector.wait(lambda spans: len(spans) == 2)
    assert [line["event"] for line in logged] == ["spans not sent", "spans are sent again"]
    assert "Failed to export" in logged[0]["reason"]
    assert (count("failed") - failed, count("sent") - sent) == (3, 2)


async def test_a_collector_that_does_not_answer_does_not_hold_the_end_up() -> None:
    release = threading.Event()

    class Stuck:
        def shutdown(self) -> None:
            release.wait(60)

    tracing.install(ParentBased, Stuck())  # type: ignore[arg-type]  # never asked for a span
    with structlog.testing.capture_logs() as logged:
        await stop_tracing(within=0.01)
    release.set()
    assert [line["event"] for line in logged] == ["last spans not sent"]
    assert not is_tracing()
