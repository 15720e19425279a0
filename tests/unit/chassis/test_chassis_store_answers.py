"""Answers of a store that misbehaves: what is tried again, what is not, and what is not believed."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from aiohttp import web

from haulyard_chassis import store, store_requests
from haulyard_chassis.store import (
    AccessDeniedError,
    CopiedPart,
    ObjectChangedError,
    ObjectNotFoundError,
    ObjectStore,
    StoreRefusedError,
    StoreUnavailableError,
    UploadedPart,
    UploadGoneError,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
StandIn = Callable[[Handler], AbstractAsyncContextManager[ObjectStore]]


def answers(*responses: Callable[[], web.Response]) -> tuple[Handler, list[str]]:
    """A handler that gives one answer after the other, and which requests it saw."""
    seen: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        await request.read()
        seen.append(f"{request.method} {request.path_qs}")
        return responses[min(len(seen), len(responses)) - 1]()

    return handler, seen


def busy() -> web.Response:
    return web.Response(status=503, text="<Error><Code>SlowDown</Code></Error>")


async def test_a_short_request_is_tried_again(standing_in: StandIn) -> None:
    handler, seen = answers(busy, lambda: web.Response(status=500), lambda: web.Response(body=b"here"))
    async with standing_in(handler) as client:
        assert await client.get("b", "k") == b"here"
    assert seen == ["GET /b/k"] * 3


async def test_a_store_that_stays_away_is_unavailable(standing_in: StandIn) -> None:
    handler, seen = answers(busy)
    async with standing_in(handler) as client:
        with pytest.raises(StoreUnavailableError, match="SlowDown"):
            await client.get("b", "k")
    assert len(seen) == 4


async def test_what_is_refused_is_not_tried_again(standing_in: StandIn) -> None:
    handler, seen = answers(lambda: web.Response(status=400))
    async with standing_in(handler) as client:
        with pytest.raises(StoreRefusedError):
            await client.get("b", "k")
    assert len(seen) == 1


async def test_an_error_inside_a_200_is_an_error(standing_in: StandIn) -> None:
    handler, _ = answers(lambda: web.Response(text="  \n<Error><Code>InternalError</Code></Error>"))
    async with standing_in(handler) as client:
        with pytest.raises(StoreUnavailableError, match="InternalError"):
            await client.complete_upload("b", "k", upload_id="u", parts=[UploadedPart(1, '"e"')])


async def test_an_upload_that_is_gone_inside_a_200_is_gone(standing_in: StandIn) -> None:
    handler, _ = answers(lambda: web.Response(text="<Error><Code>NoSuchUpload</Code></Error>"))
    async with standing_in(handler) as client:
        with pytest.raises(UploadGoneError):
            await client.complete_upload("b", "k", upload_id="u", parts=[UploadedPart(1, '"e"')])


async def test_an_answer_that_is_no_xml_is_unavailable(standing_in: StandIn) -> None:
    handler, _ = answers(lambda: web.Response(text="<html>maintenance"))
    async with standing_in(handler) as client:
        with pytest.raises(StoreUnavailableError, match="not XML"):
            await client.create_upload("b", "k", content_type="x/y")


async def test_a_bucket_that_another_replica_made_meanwhile_is_fine(standing_in: StandIn) -> None:
    conflict = "<Error><Code>BucketAlreadyOwnedByYou</Code></Error>"
    handler, seen = answers(
        lambda: web.Response(status=404), lambda: web.Response(status=409, text=conflict), web.Response
    )
    async with standing_in(handler) as client:
        await client.ensure_bucket("b")
    assert seen == ["HEAD /b", "PUT /b", "HEAD /b"]


async def test_a_bucket_that_the_store_refuses_to_make_is_refused(standing_in: StandIn) -> None:
    refused = "<Error><Code>InvalidBucketName</Code></Error>"
    handler, _ = answers(
        lambda: web.Response(status=404),
        lambda: web.Response(status=400, text=refused),
        lambda: web.Response(status=404),
    )
    async with standing_in(handler) as client:
        with pytest.raises(StoreRefusedError, match="InvalidBucketName"):
            await client.ensure_bucket("b")


async def read(client: ObjectStore, offset: int, length: int) -> bytes:
    async with client.read("b", "k", etag='"e"', offset=offset, length=length) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def test_a_read_that_the_store_breaks_off_is_unavailable(standing_in: StandIn) -> None:
    async def break_off(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=206, headers={"Content-Length": "10"})
        await response.prepare(request)
        await response.write(b"12345")
        assert request.transport is not None
        request.transport.close()
        return response

    async with standing_in(break_off) as client:
        with pytest.raises(StoreUnavailableError):
            await read(client, 0, 10)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (206, b"12345", StoreUnavailableError),
        (206, b"12345678901", StoreRefusedError),
        (200, b"123456789012", StoreRefusedError),
        (304, b"", StoreRefusedError),
        (412, b"", ObjectChangedError),
        (503, b"", StoreUnavailableError),
    ],
)
async def test_a_read_gives_exactly_the_range_or_an_error(
    standing_in: StandIn, status: int, body: bytes, kind: type[Exception]
) -> None:
    handler, _ = answers(lambda: web.Response(status=status, body=body))
    async with standing_in(handler) as client:
        with pytest.raises(kind):
            await read(client, 2, 10)


async def write_to_a_full_disk(client: ObjectStore) -> None:
    async with client.read("b", "k", etag='"e"', offset=0, length=10) as chunks:
        await anext(chunks)
        raise OSError("my own disk")


async def test_an_error_of_the_reader_is_not_taken_for_the_stores(standing_in: StandIn) -> None:
    handler, _ = answers(lambda: web.Response(status=206, body=b"1234567890"))
    async with standing_in(handler) as client:
        with pytest.raises(OSError, match="my own disk"):
            await write_to_a_full_disk(client)


async def test_a_read_that_fails_inside_an_upload_comes_out_as_the_reads_error(standing_in: StandIn) -> None:
    """A part is streamed from a source straight into the store: the caller must know which of the two failed."""

    async def half(request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return web.Response(status=206, body=b"12345")
        await request.read()
        return web.Response(headers={"ETag": '"e"'})

    async with standing_in(half) as client, client.read("b", "k", etag='"e"', offset=0, length=10) as chunks:
        with pytest.raises(StoreUnavailableError, match="GET b/k: the store sent 5 of 10 bytes"):
            await client.put("b", "copy", chunks, size=10, content_type="x/y")


COPIED = "<CopyPartResult><ETag>&quot;e&quot;</ETag></CopyPartResult>"


async def copy(client: ObjectStore, **other: Any) -> CopiedPart:
    request: dict[str, Any] = {
        "upload_id": "u",
        "number": 7,
        "source_bucket": "from",
        "source_key": "a b/ä+.txt",
        "etag": '"s"',
        "offset": 10,
        "length": 20,
    }
    return await client.copy_part("b", "k", **{**request, **other})


async def test_a_copy_names_its_source(standing_in: StandIn) -> None:
    seen: list[tuple[str, dict[str, str]]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        named = {name: value for name, value in request.headers.items() if name.startswith("x-amz-copy")}
        seen.append((request.path_qs, named))
        return web.Response(text=COPIED)

    async with standing_in(handler) as client:
        assert await copy(client) == CopiedPart('"e"', None)
    assert seen == [
        (
            "/b/k?partNumber=7&uploadId=u",
            {
                "x-amz-copy-source": "/from/a%20b/%C3%A4%2B.txt",
                "x-amz-copy-source-if-match": '"s"',
                "x-amz-copy-source-range": "bytes=10-29",
            },
        )
    ]


@pytest.mark.parametrize("begins", ["", " \n \n", '<?xml version="1.0"?>'])
async def test_a_copy_that_fails_after_it_seemed_to_succeed_is_tried_again(standing_in: StandIn, begins: str) -> None:
    late = f"{begins}<Error><Code>InternalError</Code></Error>"
    handler, seen = answers(lambda: web.Response(text=late), lambda: web.Response(text=COPIED))
    async with standing_in(handler) as client:
        assert (await copy(client)).etag == '"e"'
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("status", "code", "kind", "tries"),
    [
        (200, "InternalError", StoreUnavailableError, 4),
        (200, "Unheard", StoreUnavailableError, 4),
        (200, "PreconditionFailed", ObjectChangedError, 1),
        (200, "NoSuchKey", ObjectNotFoundError, 1),
        (412, "PreconditionFailed", ObjectChangedError, 1),
        (404, "NoSuchKey", ObjectNotFoundError, 1),
        (404, "NoSuchUpload", UploadGoneError, 1),
        (403, "AccessDenied", AccessDeniedError, 1),
        (501, "NotImplemented", StoreRefusedError, 1),
        (400, "InvalidArgument", StoreRefusedError, 1),
        (503, "SlowDown", StoreUnavailableError, 4),
    ],
)
async def test_a_copy_that_fails_says_what_to_do(
    standing_in: StandIn, status: int, code: str, kind: type[Exception], tries: int
) -> None:
    handler, seen = answers(lambda: web.Response(status=status, text=f"<Error><Code>{code}</Code></Error>"))
    async with standing_in(handler) as client:
        with pytest.raises(kind, match=code):
            await copy(client)
    assert len(seen) == tries


@pytest.mark.parametrize("body", ["", "<html>", "<CopyPartResult/>"])
async def test_an_answer_that_tells_nothing_of_a_copy_is_not_believed(standing_in: StandIn, body: str) -> None:
    handler, _ = answers(lambda: web.Response(text=body))
    async with standing_in(handler) as client:
        with pytest.raises(StoreUnavailableError):
            await copy(client)


async def test_a_copy_may_take_longer_than_other_answers_but_not_for_ever(
    standing_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_requests, "_SILENCE", 0.05)
    over = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        if request.query["partNumber"] == "1":
            await asyncio.sleep(0.3)
            return web.Response(text=COPIED)
        await over.wait()
        return web.Response()

    async with standing_in(slow) as client:
        assert (await copy(client, number=1)).etag == '"e"'
        monkeypatch.setattr(store, "COPY_GRACE", 0.1)
        with pytest.raises(StoreUnavailableError, match="no copy after 0 s"):
            await copy(client, number=2)
        over.set()


async def test_no_bytes_are_not_copied(standing_in: StandIn) -> None:
    handler, seen = answers(web.Response)
    async with standing_in(handler) as client:
        with pytest.raises(ValueError, match="at least one byte"):
            await copy(client, length=0)
    assert seen == []


async def test_what_could_not_be_deleted_is_told_after_all_was_tried(standing_in: StandIn) -> None:
    asked: list[list[str]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        keys = re.findall("<Key>(.*?)</Key>", await request.text())
        asked.append(keys or [request.path])
        left = "".join(f"<Error><Key>{key}</Key><Code>AccessDenied</Code></Error>" for key in keys if key.endswith("7"))
        return web.Response(text=f"<DeleteResult>{left}</DeleteResult>")

    async with standing_in(handler) as client:
        with pytest.raises(AccessDeniedError, match=": 7: AccessDenied") as raised:
            await client.delete_all("b", [str(n) for n in range(1001)] + ["odd\x01"])
    assert [len(keys) for keys in asked] == [1000, 1, 1]
    assert asked[2] == ["/b/odd\x01"]  # XML cannot name it
    assert raised.value.__notes__ == ["100 objects were not deleted"]


async def test_nothing_to_delete_asks_nothing(standing_in: StandIn) -> None:
    handler, seen = answers(web.Response)
    async with standing_in(handler) as client:
        await client.delete_all("b", [])
    assert seen == []
