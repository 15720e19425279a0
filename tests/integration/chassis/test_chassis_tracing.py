"""Traces over a real broker and a real store: what a message and a request to the store belong to."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
import structlog
from nats.aio.client import Client

from haulyard_chassis.broker import TRACEPARENT, Publisher, ensure_consumer
from haulyard_chassis.consume import Intake, RetryLater, current_delivery, make_broker, subscribe
from haulyard_chassis.settings import ServiceSettings
from haulyard_chassis.store import ObjectStore, UploadedPart
from haulyard_chassis.tracing import current_span, span
from haulyard_contracts import JobAction, JobControl, Topology
from support.spans import Spans, parent_id, span_id, trace_id, tracing_in_memory

MIB = 1024 * 1024
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{PARENT}-01"
WAIT = 30.0

Seen = asyncio.Queue[tuple[str, dict[str, str], dict[str, object]]]


@pytest.fixture
def spans() -> Iterator[Spans]:
    with tracing_in_memory() as kept:
        yield kept


@asynccontextmanager
async def receiving(settings: ServiceSettings, topology: Topology, client: Client) -> AsyncIterator[Seen]:
    """A service that takes wishes; the first time it puts each of them off."""
    await ensure_consumer(client.jetstream(), topology.control_consumer)
    seen: Seen = asyncio.Queue()
    broker = make_broker(settings, name="test")

    @subscribe(broker, Intake(consumers=(topology.control_consumer,), slots=1), JobControl, topology=topology, grace=5)
    async def handle(message: JobControl) -> None:
        delivery = current_delivery()
        await seen.put((message.job_id, delivery.headers, structlog.contextvars.get_contextvars()))
        if delivery.number == 1:
            raise RetryLater("not yet", delay=0.01)
        current_span().set("haulyard.done", 1)

    await broker.start()
    try:
        yield seen
    finally:
        await broker.stop()


async def publish(publisher: Publisher, topology: Topology, job_id: str, headers: dict[str, str]) -> None:
    wish = JobControl(job_id=job_id, action=JobAction.CANCEL, requested_at=datetime.now(UTC))
    subject = topology.job_control(job_id, JobAction.CANCEL)
    await publisher.publish(subject, wish, message_id=job_id, headers=headers)


async def test_what_handles_a_message_belongs_to_what_published_it(
    settings: ServiceSettings, topology: Topology, client: Client, publisher: Publisher, spans: Spans
) -> None:
    async with receiving(settings, topology, client) as seen, asyncio.timeout(WAIT):
        given = {TRACEPARENT: SAMPLED}
        with span("request", parent=SAMPLED):
            await publish(publisher, topology, "job_1", given)
        _, headers, bound = await seen.get()
        await seen.get()
    assert given == {TRACEPARENT: SAMPLED}
    assert {trace_id(each) for each in spans.all()} == {TRACE}
    request, published = spans.one("request"), spans.one("publish JobControl")
    first, second = (each for each in spans.all() if each.name == "process JobControl")
    assert parent_id(published) == span_id(request)
    assert headers[TRACEPARENT] == f"00-{TRACE}-{span_id(published)}-01"
    assert {parent_id(first), parent_id(second)} == {span_id(published)}
    assert bound["trace_id"] == TRACE
    told = [dict(each.attributes or {}) for each in (first, second)]
    assert [(each.get("haulyard.delivery"), each.get("haulyard.put_off")) for each in told] == [
        (1, "not yet"),
        (2, None),
    ]
    assert told[1]["haulyard.done"] == 1


async def test_while_nothing_is_traced_a_message_carries_on_what_it_came_with(
    settings: ServiceSettings, topology: Topology, client: Client, publisher: Publisher
) -> None:
    async with receiving(settings, topology, client) as seen, asyncio.timeout(WAIT):
        await publish(publisher, topology, "job_1", {TRACEPARENT: SAMPLED})
        _, headers, bound = await seen.get()
        await seen.get()
        assert (headers[TRACEPARENT], bound["trace_id"]) == (SAMPLED, TRACE)
        await publish(publisher, topology, "job_2", {})
        _, headers, bound = await seen.get()
        assert TRACEPARENT not in headers
        assert "trace_id" not in bound


async def test_each_request_to_the_store_belongs_to_what_needed_it(settings: ServiceSettings, spans: Spans) -> None:
    store, bucket = ObjectStore(settings), f"c{secrets.token_hex(6)}"
    await store.open()
    try:
        await store.ensure_bucket(bucket)
        etag = await store.put(bucket, "source", bytes(5 * MIB), size=5 * MIB, content_type="text/plain")
        assert spans.names() == []
        with span("part", parent=SAMPLED):
            upload = await store.create_upload(bucket, "archive", content_type="application/zip")
            copied = await store.copy_part(
                bucket,
                "archive",
                upload_id=upload,
                number=1,
                source_bucket=bucket,
                source_key="source",
                etag=etag,
                offset=0,
                length=5 * MIB,
            )
            last = await store.upload_part(bucket, "archive", upload_id=upload, number=2, body=b"end", size=3)
            parts = [UploadedPart(1, copied.etag), UploadedPart(2, last)]
            await store.complete_upload(bucket, "archive", upload_id=upload, parts=parts)
            made = await store.head(bucket, "archive")
            async with store.read(bucket, "archive", etag=made.etag, offset=5 * MIB, length=3) as chunks:
                assert b"".join([chunk async for chunk in chunks]) == b"end"
            await store.delete_all(bucket, ["archive", "source"])
    finally:
        await store.close()
    *requests, part = spans.all()
    assert [each.name.removeprefix("S3 ") for each in requests] == [
        "CreateMultipartUpload",
        "UploadPartCopy",
        "UploadPart",
        "CompleteMultipartUpload",
        "HeadObject",
        "GetObject",
        "DeleteObjects",
    ]
    assert {parent_id(each) for each in requests} == {span_id(part)}
    assert {(each.attributes or {})["aws.s3.bucket"] for each in requests} == {bucket}
    numbers = [(each.attributes or {}).get("aws.s3.part_number") for each in requests]
    assert numbers == [None, 1, 2, None, None, None, None]
