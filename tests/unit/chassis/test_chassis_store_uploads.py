"""Uploads to a store that misbehaves, or from a source that does: no hang, no truncated object, nothing left open."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import pytest
from aiohttp import web

from haulyard_chassis import outgoing
from haulyard_chassis.outgoing import BodyLengthError
from haulyard_chassis.store import AccessDeniedError, ObjectChangedError, ObjectStore, StoreUnavailableError

MIB = 1024 * 1024
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
StandIn = Callable[[Handler], AbstractAsyncContextManager[ObjectStore]]


class Source:
    """An async generator of chunks that knows whether it was closed."""

    def __init__(self, *chunks: bytes, then: Exception | None = None) -> None:
        self.closed = False
        self.chunks = self._generate(chunks, then)

    async def _generate(self, chunks: tuple[bytes, ...], then: Exception | None) -> AsyncIterator[bytes]:
        try:
            for chunk in chunks:
                yield chunk
            if then is not None:
                raise then
        finally:
            self.closed = True


class Keeper:
    """Keeps what it was sent whole, as a store does."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.broken = 0
        self.ended = asyncio.Event()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        try:
            self.kept.append(await request.content.read())
        except Exception:
            self.broken += 1
            raise
        finally:
            self.ended.set()
        return web.Response(headers={"ETag": f'"{hashlib.md5(self.kept[-1]).hexdigest()}"'})


async def put(client: ObjectStore, source: Source, size: int) -> str:
    return await client.put("b", "k", source.chunks, size=size, content_type="text/plain")


@pytest.mark.parametrize("chunks", [[b""], [b"a"], [b"ab", b"", b"c"], [b"x" * MIB] * 3])
async def test_a_body_of_the_announced_length_is_stored(standing_in: StandIn, chunks: list[bytes]) -> None:
    keeper, source = Keeper(), Source(*chunks)
    async with standing_in(keeper) as client:
        await put(client, source, sum(map(len, chunks)))
    assert keeper.kept == [b"".join(chunks)]
    assert source.closed


async def test_bytes_are_stored_as_they_are(standing_in: StandIn) -> None:
    keeper = Keeper()
    async with standing_in(keeper) as client:
        await client.put("b", "k", b"x" * MIB, size=MIB, content_type="text/plain")
        await client.put("b", "k", b"", size=0, content_type="text/plain")
        with pytest.raises(BodyLengthError):
            await client.put("b", "k", b"xyz", size=2, content_type="text/plain")
    assert keeper.kept == [b"x" * MIB, b""]


@pytest.mark.parametrize(
    ("chunks", "size"),
    [
        pytest.param([b"ab"], 3, id="one byte short"),
        pytest.param([], 3, id="nothing"),
        pytest.param([b"x" * MIB] * 2, 3 * MIB, id="a chunk short"),
        pytest.param([b"abcd"], 3, id="one byte long"),
        pytest.param([b"abc", b"d"], 3, id="a chunk long"),
        pytest.param([b"a"], 0, id="longer than nothing"),
    ],
)
async def test_a_body_of_another_length_is_not_stored(standing_in: StandIn, chunks: list[bytes], size: int) -> None:
    keeper, source = Keeper(), Source(*chunks)
    async with standing_in(keeper) as client:
        with pytest.raises(BodyLengthError):
            await put(client, source, size)
    assert keeper.kept == [] or size == 0
    assert source.closed


@pytest.mark.parametrize("sent", [0, 1, 2])
async def test_a_source_that_fails_stores_nothing_even_after_its_last_byte(standing_in: StandIn, sent: int) -> None:
    """A source may find only at its end that what it gave was wrong."""
    keeper, source = Keeper(), Source(*[b"x" * MIB] * sent, then=ObjectChangedError("replaced"))
    async with standing_in(keeper) as client:
        with pytest.raises(ObjectChangedError, match="replaced"):
            await put(client, source, 2 * MIB)
        if sent:  # else the store heard nothing at all
            await keeper.ended.wait()
    assert keeper.kept == []
    assert source.closed


@pytest.mark.parametrize("then", [ValueError("odd"), OSError("disk"), TimeoutError("late")])
async def test_what_a_source_raises_comes_out_as_it_is(standing_in: StandIn, then: Exception) -> None:
    source = Source(b"x", then=then)
    async with standing_in(Keeper()) as client:
        with pytest.raises(type(then), match=str(then)):
            await put(client, source, 2)
    assert source.closed


async def test_a_store_that_refuses_early_ends_the_upload(standing_in: StandIn) -> None:
    """It answers while most of the body is still to come, and does not take the rest."""
    over = asyncio.Event()

    async def refuse(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=403, headers={"Content-Length": "0"})
        await response.prepare(request)
        await response.write_eof()
        await over.wait()
        return response

    source = Source(*[b"x" * MIB] * 64)
    async with standing_in(refuse) as client:
        with pytest.raises(AccessDeniedError):
            await put(client, source, 64 * MIB)
        over.set()
    assert source.closed


async def test_a_store_that_thanks_before_it_has_everything_is_not_believed(standing_in: StandIn) -> None:
    over = asyncio.Event()

    async def thank(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "0", "ETag": '"e"'})
        await response.prepare(request)
        await response.write_eof()
        await over.wait()
        return response

    source = Source(*[b"x" * MIB] * 64)
    async with standing_in(thank) as client:
        with pytest.raises(StoreUnavailableError, match="before it had the whole body"):
            await put(client, source, 64 * MIB)
        over.set()
    assert source.closed


async def test_a_store_that_stops_reading_is_given_up(standing_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "STALL", 0.2)
    over = asyncio.Event()

    async def stop_reading(_: web.Request) -> web.StreamResponse:
        await over.wait()
        return web.Response()

    source = Source(*[b"x" * MIB] * 64)
    async with standing_in(stop_reading) as client:
        with pytest.raises(StoreUnavailableError, match="Timeout"):
            await put(client, source, 64 * MIB)
        over.set()
    assert source.closed


async def test_a_slow_source_is_no_stall(standing_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time that the source takes does not count: only the store is expected to be quick."""
    monkeypatch.setattr(outgoing, "STALL", 0.05)
    keeper = Keeper()

    async def slow() -> AsyncIterator[bytes]:
        for _ in range(3):
            await asyncio.sleep(0.1)
            yield b"x"

    async with standing_in(keeper) as client:
        await client.put("b", "k", slow(), size=3, content_type="text/plain")
    assert keeper.kept == [b"xxx"]


async def test_a_connection_that_breaks_is_unavailable_and_closes_the_source(standing_in: StandIn) -> None:
    async def reset(request: web.Request) -> web.StreamResponse:
        await request.content.readany()
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    source = Source(*[b"x" * MIB] * 64)
    async with standing_in(reset) as client:
        with pytest.raises(StoreUnavailableError):
            await put(client, source, 64 * MIB)
    assert source.closed


async def test_a_cancelled_upload_stores_nothing_and_closes_the_source(standing_in: StandIn) -> None:
    keeper, reached = Keeper(), asyncio.Event()
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            yield b"x"
            reached.set()
            await asyncio.Event().wait()
            yield b"y"
        finally:
            closed.set()

    async with standing_in(keeper) as client:
        upload = asyncio.create_task(client.put("b", "k", endless(), size=3, content_type="text/plain"))
        await reached.wait()
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
        assert closed.is_set()
        await keeper.ended.wait()
    assert keeper.kept == []


async def test_a_body_that_never_started_is_closed_too(standing_in: StandIn) -> None:
    source = Source(b"x")
    async with standing_in(Keeper()) as client:
        client._requests._endpoint = "http://127.0.0.1:1"
        with pytest.raises(StoreUnavailableError):
            await put(client, source, 1)
    with pytest.raises(StopAsyncIteration):
        await anext(source.chunks)
