"""Requests to the store and to origins as spans: what they are called, and what they never show."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager

import aiohttp
import pytest
from aiohttp import web
from opentelemetry.trace import StatusCode

from haulyard_chassis.client_spans import operation, to_origin
from haulyard_chassis.store import ObjectNotFoundError, ObjectStore, StoreUnavailableError
from haulyard_chassis.tracing import span
from support.spans import Spans, parent_id, span_id, tracing_in_memory

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
StandIn = Callable[[Callable[[web.Request], Awaitable[web.StreamResponse]]], AbstractAsyncContextManager[ObjectStore]]
NONE: Mapping[str, str] = {}


@pytest.fixture
def spans() -> Iterator[Spans]:
    with tracing_in_memory() as kept:
        yield kept


@pytest.mark.parametrize(
    ("method", "key", "query", "headers", "expected"),
    [
        ("GET", "k", NONE, NONE, "GetObject"),
        ("HEAD", "k", NONE, NONE, "HeadObject"),
        ("PUT", "k", NONE, NONE, "PutObject"),
        ("DELETE", "k", NONE, NONE, "DeleteObject"),
        ("POST", "k", {"uploads": ""}, NONE, "CreateMultipartUpload"),
        ("PUT", "k", {"partNumber": "1", "uploadId": "u"}, NONE, "UploadPart"),
        ("PUT", "k", {"uploadId": "u", "partNumber": "1"}, {"x-amz-copy-source": "b/k"}, "UploadPartCopy"),
        ("POST", "k", {"uploadId": "u"}, NONE, "CompleteMultipartUpload"),
        ("DELETE", "k", {"uploadId": "u"}, NONE, "AbortMultipartUpload"),
        ("GET", "", {"list-type": "2", "prefix": "p"}, NONE, "ListObjectsV2"),
        ("GET", "", {"uploads": "", "prefix": ""}, NONE, "ListMultipartUploads"),
        ("POST", "", {"delete": ""}, NONE, "DeleteObjects"),
        ("HEAD", "", NONE, NONE, "HeadBucket"),
        ("PUT", "", NONE, NONE, "CreateBucket"),
        ("PUT", "", {"cors": ""}, NONE, "PutBucketCors"),
        ("PUT", "", {"lifecycle": ""}, NONE, "PutBucketLifecycleConfiguration"),
        ("GET", "", {"acl": ""}, NONE, "GET"),
    ],
)
def test_a_request_has_the_name_that_the_api_gives_it(
    method: str, key: str, query: Mapping[str, str], headers: Mapping[str, str], expected: str
) -> None:
    assert operation(method, key, query, headers) == expected


async def test_each_try_is_a_span(spans: Spans, standing_in: StandIn) -> None:
    answers = [web.Response(status=503), web.Response(body=b"here")]

    async def handler(request: web.Request) -> web.Response:
        return answers.pop(0)

    async with standing_in(handler) as store:
        with span("part", parent=TRACEPARENT):
            assert await store.get("bucket", "holiday.jpg") == b"here"
    first, second, part = spans.all()
    assert {first.name, second.name} == {"S3 GetObject"}
    assert {parent_id(first), parent_id(second)} == {span_id(part)}
    assert (first.status.status_code, second.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
    assert [(each.attributes or {})["http.response.status_code"] for each in (first, second)] == [503, 200]
    assert "holiday" not in str([each.to_json() for each in spans.all()])


async def test_an_answer_that_somebody_expects_is_no_failure(spans: Spans, standing_in: StandIn) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=404)

    async with standing_in(handler) as store:
        with span("part", parent=TRACEPARENT), pytest.raises(ObjectNotFoundError):
            await store.head("b", "k")
    assert spans.one("S3 HeadObject").status.status_code is StatusCode.UNSET


async def test_a_range_is_a_span_until_it_was_read(spans: Spans, standing_in: StandIn) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=206, body=b"12345")

    async with standing_in(handler) as store:
        with span("part", parent=TRACEPARENT):
            async with store.read("b", "k", etag='"e"', offset=10, length=5) as chunks:
                assert spans.names() == []
                assert b"".join([chunk async for chunk in chunks]) == b"12345"
    assert (spans.one("S3 GetObject").attributes or {})["haulyard.range"] == "bytes=10-14"


async def read_five(store: ObjectStore) -> bytes:
    async with store.read("b", "k", etag='"e"', offset=0, length=5) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def test_a_store_that_breaks_off_is_a_failure(spans: Spans, standing_in: StandIn) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(status=206, headers={"Content-Length": "5"})
        await answer.prepare(request)
        assert request.transport is not None
        request.transport.abort()
        return answer

    async with standing_in(handler) as store:
        with span("part", parent=TRACEPARENT), pytest.raises(StoreUnavailableError):
            await read_five(store)
    failed = spans.one("S3 GetObject")
    assert failed.status.status_code is StatusCode.ERROR
    assert (failed.attributes or {})["error.type"] == "StoreUnavailableError"


async def test_what_nobody_waits_for_is_not_traced(spans: Spans, standing_in: StandIn) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response()

    async with standing_in(handler) as store:
        await store.head_bucket("b")  # a health check
    assert spans.names() == []


async def test_an_origins_address_is_shown_and_not_its_url(spans: Spans) -> None:
    async def handler(request: web.BaseRequest) -> web.Response:
        return web.Response()

    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/private/a.txt?signature=secret"
    async with aiohttp.ClientSession(trust_env=False) as session:
        with span("part", parent=TRACEPARENT):
            async with to_origin(session.get(url), "GET", url) as answer:
                assert answer.status == 200
    await runner.cleanup()
    seen = spans.one("origin GET")
    assert (seen.attributes or {})["server.address"] == "127.0.0.1"
    assert not {"private", "secret"} & set(seen.to_json().replace("/", " ").replace("=", " ").split())
