"""Objects of unknown length: right bytes, few buffers, and nothing left of one that is given up."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from haulyard_chassis import staging, store_requests
from haulyard_chassis.staging import StagedObject, StagingWriter, TooLongError, staged
from haulyard_chassis.store import AccessDeniedError, ObjectStore, StoreRefusedError, StoreUnavailableError
from haulyard_chassis.tasks import cancel_and_wait
from support.quirky_s3 import MIB, Asked, QuirkyS3, client_of, serving

PART = 5 * MIB


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[QuirkyS3]:
    """A store whose answers to completions lack the ETag."""
    async with serving("ceph") as running:
        yield running


@pytest.fixture(scope="module")
async def client(server: QuirkyS3) -> AsyncIterator[ObjectStore]:
    """A client of it."""
    async with client_of(server, bucket="b") as opened:
        yield opened


@pytest.fixture(autouse=True)
def fresh(server: QuirkyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty bucket; tries follow each other at once."""
    monkeypatch.setattr(store_requests, "FIRST_PAUSE", 0.0)
    server.buckets["b"].clear()
    server.uploads.clear()
    server.operations.clear()
    server.instead = lambda _: None


async def stage(client: ObjectStore, *chunks: bytes) -> StagedObject:
    async with asyncio.timeout(30), staged(client, "b", "k", content_type="a/b", part_size=PART) as writer:
        for chunk in chunks:
            await writer.write(chunk)
        assert writer.position == sum(map(len, chunks))
        return await writer.finish()


PUT, CREATE, PART_OF, COMPLETE, HEAD, ABORT = (
    "PUT object",
    "POST object uploads",
    "PUT object uploadId",
    "POST object uploadId",
    "HEAD object",
    "DELETE object uploadId",
)


@pytest.mark.parametrize(
    ("size", "operations"),
    [
        (0, [PUT]),
        (1, [PUT]),
        (PART - 1, [PUT]),
        (PART, [PUT]),
        (PART + 1, [CREATE, PART_OF, PART_OF, COMPLETE, HEAD]),
        (2 * PART, [CREATE, PART_OF, PART_OF, COMPLETE, HEAD]),
        (2 * PART + 1, [CREATE, PART_OF, PART_OF, PART_OF, COMPLETE, HEAD]),
    ],
)
async def test_what_fits_into_a_part_is_put_and_more_is_made_of_parts(
    server: QuirkyS3, client: ObjectStore, size: int, operations: list[str]
) -> None:
    data = (b"0123456789abcdef!" * (size // 17 + 1))[:size]
    made = await stage(client, data)
    stored = server.buckets["b"]["k"]
    assert stored.data == data
    assert stored.content_type == "a/b"
    assert made == StagedObject(stored.etag, size)
    assert server.operations == operations
    assert server.uploads == {}


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 3 * PART), max_size=5))
async def test_it_does_not_matter_how_the_bytes_come(server: QuirkyS3, client: ObjectStore, sizes: list[int]) -> None:
    chunks = [bytes([n + 1]) * size for n, size in enumerate(sizes)]
    made = await stage(client, *chunks)
    assert made.size == sum(sizes)
    assert server.buckets["b"]["k"].data == b"".join(chunks)


class BrokenSourceError(Exception):
    """The bytes ended early."""


@pytest.mark.parametrize("size", [0, 1, PART + 1, 3 * PART])
async def test_a_source_that_breaks_leaves_nothing(server: QuirkyS3, client: ObjectStore, size: int) -> None:
    async def broken() -> None:
        async with staged(client, "b", "k", content_type="a/b", part_size=PART) as writer:
            await writer.write(bytes(size))
            raise BrokenSourceError

    with pytest.raises(BrokenSourceError):
        await broken()
    assert server.buckets["b"] == {}
    assert server.uploads == {}


@pytest.mark.parametrize("size", [1, 3 * PART])
async def test_an_object_that_is_not_finished_leaves_nothing(server: QuirkyS3, client: ObjectStore, size: int) -> None:
    async with staged(client, "b", "k", content_type="a/b", part_size=PART) as writer:
        await writer.write(bytes(size))
    assert server.buckets["b"] == {}
    assert server.uploads == {}
    with pytest.raises(RuntimeError):
        await writer.write(b"x")
    with pytest.raises(RuntimeError):
        await writer.finish()


async def test_a_cancelled_writer_leaves_nothing(server: QuirkyS3, client: ObjectStore) -> None:
    reached = asyncio.Event()

    async def write() -> None:
        async with staged(client, "b", "k", content_type="a/b", part_size=PART) as writer:
            await writer.write(bytes(3 * PART))
            reached.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(write())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.buckets["b"] == {}
    assert server.uploads == {}


@pytest.mark.parametrize("operation", [PUT, CREATE, PART_OF, COMPLETE, HEAD])
async def test_a_store_that_stumbles_is_tried_again(server: QuirkyS3, client: ObjectStore, operation: str) -> None:
    stumbles = [web.Response(status=503) for _ in range(3)]

    def stumble(asked: Asked) -> web.Response | None:
        return stumbles.pop() if asked.operation == operation and stumbles else None

    server.instead = stumble
    data = b"x" * (3 if operation == PUT else 2 * PART)
    assert (await stage(client, data)).size == len(data)
    assert server.buckets["b"]["k"].data == data


@pytest.mark.parametrize(
    ("operation", "status", "kind"),
    [
        (PUT, 503, StoreUnavailableError),
        (PUT, 403, AccessDeniedError),
        (CREATE, 503, StoreUnavailableError),
        (PART_OF, 503, StoreUnavailableError),
        (PART_OF, 403, AccessDeniedError),
        (COMPLETE, 400, StoreRefusedError),
    ],
)
async def test_a_store_that_fails_leaves_nothing(
    server: QuirkyS3, client: ObjectStore, operation: str, status: int, kind: type[Exception]
) -> None:
    server.instead = lambda asked: web.Response(status=status) if asked.operation == operation else None
    with pytest.raises(kind):
        await stage(client, b"x" * (3 if operation == PUT else 3 * PART))
    assert server.buckets["b"] == {}
    assert server.uploads == {}


async def test_an_error_is_not_hidden_by_an_upload_that_cannot_be_aborted(
    server: QuirkyS3, client: ObjectStore
) -> None:
    answers = {PART_OF: 403, ABORT: 503}
    server.instead = lambda asked: web.Response(status=answers[asked.operation]) if asked.operation in answers else None
    with pytest.raises(AccessDeniedError):
        await stage(client, b"x" * 3 * PART)
    assert len(server.uploads) == 1  # the bucket's lifecycle rule is for that


async def test_a_completion_whose_answer_was_lost_is_complete(server: QuirkyS3, client: ObjectStore) -> None:
    lost: list[web.Response] = []

    def lose(asked: Asked) -> web.Response | None:
        if asked.operation != COMPLETE or lost:
            return None
        lost.append(server._complete_upload(asked))
        return web.Response(status=500)

    server.instead = lose
    assert (await stage(client, b"x" * 2 * PART)).size == 2 * PART
    assert len(lost) == 1


async def test_an_object_of_another_size_is_not_believed(server: QuirkyS3, client: ObjectStore) -> None:
    headers = {"Content-Length": "7", "ETag": '"e"', "Last-Modified": "Tue, 24 Nov 2026 12:00:00 GMT"}
    server.instead = lambda asked: web.Response(headers=headers) if asked.operation == HEAD else None
    with pytest.raises(StoreUnavailableError, match="has 7 bytes"):
        await stage(client, b"x" * 2 * PART)


async def test_an_object_may_be_too_long(
    server: QuirkyS3, client: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "MAX_PARTS", 2)
    assert (await stage(client, b"x" * 2 * PART)).size == 2 * PART
    server.buckets["b"].clear()
    with pytest.raises(TooLongError):
        await stage(client, b"x" * 2 * PART, b"x")
    assert server.buckets["b"] == {}
    assert server.uploads == {}


async def test_parts_cannot_be_smaller_than_the_store_takes(client: ObjectStore) -> None:
    with pytest.raises(ValueError, match="at least 5242880 bytes"):
        async with staged(client, "b", "k", content_type="a/b", part_size=PART - 1):
            pass


async def test_two_buffers_are_in_memory_at_most_while_the_store_takes_nothing(
    server: QuirkyS3, client: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer waits in the third: a source that is faster than the store is held up."""
    monkeypatch.setattr(client, "upload_part", never)
    chunk, full = b"x" * 64 * 1024, asyncio.Event()

    async def write(writer: StagingWriter) -> None:
        while True:
            if writer.position == 2 * PART:
                full.set()
            await writer.write(chunk)

    async with staged(client, "b", "k", content_type="a/b", part_size=PART) as writer:
        tracemalloc.start()
        try:
            writing = asyncio.create_task(write(writer))
            await full.wait()
            for _ in range(100):  # turns of the loop in which it could take more
                await asyncio.sleep(0)
            assert writer.position == 2 * PART
            assert tracemalloc.get_traced_memory()[1] < 2 * PART * 1.3  # a growing buffer has some air
        finally:
            tracemalloc.stop()
            await cancel_and_wait(writing)
    assert server.uploads == {}


async def never(*_: object, **__: object) -> str:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")
