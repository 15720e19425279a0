"""Streams of archives over sources in memory: which bytes, how much at a time, and what happens when one breaks."""

import asyncio
import io
import random
import zipfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haulyard_chassis.problems import ProblemError, UnavailableError
from haulyard_chassis.store import ObjectChangedError, ObjectInfo, ObjectNotFoundError, StoreUnavailableError
from haulyard_contracts import ArchiveLocation, InlineSource, ObjectSource, Source
from haulyard_gateway import archive_bytes
from haulyard_gateway.archive_bytes import (
    Archives,
    BrokenOffError,
    StreamLimits,
    TooManyStreamsError,
    WrongChecksumError,
)
from haulyard_gateway.archive_checksums import Checksums, Unread
from haulyard_gateway.archive_contents import (
    ArchiveState,
    Awaited,
    Built,
    LaidOut,
    RecordedEntry,
    laid_out,
    recorded_etag,
)
from haulyard_gateway.archive_ports import Wanted
from haulyard_gateway.archive_sending import ArchiveResponse
from haulyard_zipline import Entry, UnknownCrcError, View, archive_size, crc32, local_header_size

CHUNK = 1_000
FILES = {"a.bin": 3_500, "empty.txt": 0, "b/c.bin": 12_345, "d.bin": 1, "also empty": 0, "e.bin": 2_000}


def noise(name: str, size: int) -> bytes:
    return random.Random(name).randbytes(size)


CONTENTS = {name: noise(name, size) for name, size in FILES.items()}
NOTE = b"One of the requested files could not be archived:\r\n"


@dataclass
class MemorySources:
    """Objects, and an archive, by their keys; counts what is pulled out of it."""

    objects: dict[str, bytes] = field(default_factory=lambda: dict(CONTENTS))
    failures: dict[str, list[Exception]] = field(default_factory=dict)
    """What reading a key raises, one after the other, after its first chunk."""
    opened: list[tuple[str, int, int]] = field(default_factory=list)
    open_now: int = 0
    pulled: int = 0

    @asynccontextmanager
    async def open(self, source: Source, *, offset: int, length: int) -> AsyncIterator[AsyncIterator[bytes]]:
        if isinstance(source, InlineSource):
            key, data = "", source.data
        else:
            assert isinstance(source, ObjectSource)
            key = source.key
            if key not in self.objects:
                raise ObjectNotFoundError(key)
            data = self.objects[key]
        self.opened.append((key, offset, length))
        self.open_now += 1
        try:
            async with aclosing(self._chunks(key, data[offset : offset + length])) as chunks:
                yield chunks
        finally:
            self.open_now -= 1

    async def _chunks(self, key: str, data: bytes) -> AsyncGenerator[bytes, None]:
        for start in range(0, len(data), CHUNK):
            if (start or len(data) <= CHUNK) and self.failures.get(key):
                raise self.failures[key].pop(0)
            self.pulled += 1
            yield data[start : start + CHUNK]

    async def head(self, bucket: str, key: str) -> ObjectInfo:
        now = datetime.now(UTC)
        return ObjectInfo(size=len(self.objects[key]), etag='"s"', modified=now, content_type="a/b", crc32=None)

    def read(self, bucket: str, key: str, *, etag: str, offset: int, length: int) -> Any:
        return self.open(ObjectSource(bucket=bucket, key=key, etag=etag), offset=offset, length=length)


@dataclass
class Finder:
    state: ArchiveState = field(default_factory=Awaited)

    async def find(self, job_id: str) -> ArchiveState:
        return self.state


def recorded(*, known: bool = True) -> list[RecordedEntry]:
    entries = []
    for name, data in CONTENTS.items():
        source = ObjectSource(bucket="files", key=name, etag='"e"')
        checksum = crc32(data) if known or not data else None
        entries.append(
            RecordedEntry(entry=Entry(name, len(data), checksum, 1_700_000_000), source=source, identity=name.encode())
        )
    note = Entry("MISSING-FILES.txt", len(NOTE), crc32(NOTE), 1_700_000_000)
    entries.append(RecordedEntry(entry=note, source=InlineSource(data=NOTE), identity=NOTE))
    return entries


def archive_of(*, known: bool = True) -> LaidOut:
    entries = recorded(known=known)
    found = laid_out("digest", archive_size([each.entry for each in entries]), entries)
    assert isinstance(found, LaidOut)
    return found


def built(archive: LaidOut) -> Built:
    return Built(etag=archive.etag, size=archive.size, location=ArchiveLocation(bucket="archives", key="zip"))


@dataclass
class World:
    sources: MemorySources = field(default_factory=MemorySources)
    finder: Finder = field(default_factory=Finder)
    limits: StreamLimits = field(default_factory=lambda: StreamLimits(all=3, each_user=2))

    def __post_init__(self) -> None:
        self.archives = Archives(self.finder, self.sources, self.sources, limits=self.limits)

    async def read(self, archive: LaidOut | Built, start: int = 0, stop: int | None = None) -> bytes:
        async with self.archives.open(wanted(archive, start, stop)) as chunks:
            return b"".join([chunk async for chunk in chunks])


def wanted(archive: LaidOut | Built, start: int = 0, stop: int | None = None, *, user: str = "alice") -> Wanted:
    return Wanted(job_id="job", user_id=user, archive=archive, start=start, stop=archive.size if stop is None else stop)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(archive_bytes, "_FIRST_PAUSE", 0.001)
    return World()


# What is streamed


async def test_the_stream_is_a_zip_of_the_files_and_the_note(world: World) -> None:
    data = await world.read(archive_of())
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        assert opened.testzip() is None
        assert {name: opened.read(name) for name in opened.namelist()} == {**CONTENTS, "MISSING-FILES.txt": NOTE}
    assert world.sources.open_now == 0


async def test_unknown_checksums_are_found_out_first_and_once(world: World) -> None:
    archive = archive_of(known=False)
    data = await world.read(archive)
    assert data == await world.read(archive_of())
    before = len(world.sources.opened)
    assert await world.read(archive) == data
    assert len(world.sources.opened) - before == sum(1 for each in CONTENTS.values() if each) + 1


@given(st.data())
async def test_any_range_is_the_slice(data: st.DataObject) -> None:
    world = World()
    archive = archive_of()
    whole = await world.read(archive)
    start = data.draw(st.integers(0, archive.size))
    stop = data.draw(st.integers(start, archive.size))
    assert await world.read(archive, start, stop) == whole[start:stop]
    world.sources.objects["zip"] = whole
    assert await world.read(built(archive), start, stop) == whole[start:stop]
    assert world.sources.open_now == 0


@given(st.data())
def test_a_range_needs_only_the_checksums_of_its_headers(data: st.DataObject) -> None:
    archive = archive_of(known=False)
    start = data.draw(st.integers(0, archive.size))
    stop = data.draw(st.integers(start, archive.size))
    needed = archive.unknown(start, stop)
    given_ = dict.fromkeys(needed, 0)
    list(View(archive.with_checksums(given_).entries).content(start, stop))  # raises if one is missing
    directory = sum(local_header_size(entry) + entry.data_size for entry in archive.entries)
    for index in needed if stop <= directory else ():
        others = {other: 0 for other in needed if other != index}
        with pytest.raises(UnknownCrcError):
            list(View(archive.with_checksums(others).entries).content(start, stop))


async def test_a_file_in_blocks_has_the_checksum_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("haulyard_gateway.archive_checksums._BLOCK", 777)
    sources = MemorySources()
    unread = [Unread(ObjectSource(bucket="b", key=name, etag="e"), size) for name, size in FILES.items()]
    assert await Checksums(sources).of(unread) == [crc32(data) for data in CONTENTS.values()]


# When something breaks


async def test_what_fails_for_a_moment_goes_on_from_where_it_stopped(world: World) -> None:
    whole = await world.read(archive_of())
    world.sources.failures = {"b/c.bin": [StoreUnavailableError("away")] * 2, "e.bin": [StoreUnavailableError("away")]}
    assert await world.read(archive_of()) == whole


async def test_what_fails_again_and_again_breaks_off(world: World) -> None:
    world.sources.failures = {"d.bin": [StoreUnavailableError("away")] * 10}
    with pytest.raises(BrokenOffError):
        await world.read(archive_of())
    assert world.sources.open_now == 0


async def _take_all(chunks: AsyncIterator[bytes], got: bytearray) -> None:
    async for chunk in chunks:
        got += chunk


async def test_a_source_that_is_another_one_breaks_off_at_once(world: World) -> None:
    world.sources.failures = {"b/c.bin": [ObjectChangedError("changed"), StoreUnavailableError("not reached")]}
    got = bytearray()
    async with world.archives.open(wanted(archive_of())) as chunks:
        with pytest.raises(BrokenOffError):
            await _take_all(chunks, got)
    assert len(world.sources.failures["b/c.bin"]) == 1
    assert bytes(got) == (await World().read(archive_of()))[: len(got)]


async def test_a_source_without_the_checksum_of_its_header_breaks_off(world: World) -> None:
    world.sources.objects["b/c.bin"] = noise("something else", FILES["b/c.bin"])
    with pytest.raises(WrongChecksumError):
        await world.read(archive_of())


async def test_the_rest_comes_from_the_archive_once_that_is_built(world: World) -> None:
    archive = archive_of()
    whole = await world.read(archive)
    world.sources.objects["zip"] = whole
    world.finder.state = built(archive)
    world.sources.failures = {"b/c.bin": [ObjectNotFoundError("what was staged is gone")]}
    assert await world.read(archive) == whole
    assert world.sources.opened[-1][0] == "zip"


async def test_another_archive_is_never_gone_on_with(world: World) -> None:
    archive = archive_of()
    world.sources.objects["zip"] = bytes(archive.size)
    world.finder.state = replace(built(archive), etag='"another"')
    world.sources.failures = {"b/c.bin": [ObjectNotFoundError("gone")]}
    with pytest.raises(BrokenOffError):
        await world.read(archive)


async def test_an_archive_of_another_size_is_not_sent(world: World) -> None:
    world.sources.objects["zip"] = b"short"
    with pytest.raises(BrokenOffError):
        await world.read(built(archive_of()))


# How many


async def test_there_are_only_so_many_streams_and_places_come_back(world: World) -> None:
    archive = archive_of()
    async with world.archives.open(wanted(archive)), world.archives.open(wanted(archive)):
        with pytest.raises(TooManyStreamsError):
            async with world.archives.open(wanted(archive)):
                pass
        async with world.archives.open(wanted(archive, user="bob")):
            with pytest.raises(UnavailableError) as error:
                async with world.archives.open(wanted(archive, user="carol")):
                    pass
            assert error.value.headers["Retry-After"]
    assert await world.read(archive)
    assert world.sources.open_now == 0


# Sending


class Client:
    """An ASGI client that takes a message when it is let."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.asked = asyncio.Event()
        self.let = asyncio.Semaphore(0)
        self.gone = asyncio.Event()

    async def send(self, message: Any) -> None:
        self.asked.set()
        await self.let.acquire()
        self.sent.append(message)

    async def receive(self) -> Any:
        await self.gone.wait()
        return {"type": "http.disconnect"}


def response(world: World, archive: LaidOut, *, stall: float = 60) -> Any:
    headers = {"Content-Type": "application/zip", "Content-Length": str(archive.size)}
    answer = ArchiveResponse(lambda: world.archives.open(wanted(archive)), status=200, headers=headers, stall=stall)
    return answer.to_asgi_response(None, None)


async def test_a_client_that_takes_its_time_holds_the_sources_back(world: World) -> None:
    client, archive = Client(), archive_of()
    sending = asyncio.create_task(response(world, archive)({}, client.receive, client.send))
    for taken in range(1, 8):
        await client.asked.wait()
        client.asked.clear()
        assert world.sources.pulled <= taken, "one chunk is on its way, and none is read ahead"
        client.let.release()
    for _ in range(100):
        client.let.release()
    await sending
    assert client.sent[0]["type"] == "http.response.start"
    assert sum(len(message.get("body", b"")) for message in client.sent) == archive.size
    assert client.sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_a_client_that_goes_away_ends_the_reading(world: World) -> None:
    client = Client()
    sending = asyncio.create_task(response(world, archive_of())({}, client.receive, client.send))
    await client.asked.wait()
    assert world.sources.open_now == 1
    client.gone.set()
    await sending
    assert world.sources.open_now == 0
    assert client.sent == []


async def test_a_client_that_takes_nothing_is_cut_off(world: World) -> None:
    client = Client()
    client.let.release()
    await response(world, archive_of(), stall=0.01)({}, client.receive, client.send)
    assert [message["type"] for message in client.sent] == ["http.response.start"]
    assert world.sources.open_now == 0


async def test_an_answer_that_breaks_off_is_not_completed(world: World) -> None:
    world.sources.failures = {"b/c.bin": [ObjectChangedError("changed")]}
    client = Client()
    for _ in range(100):
        client.let.release()
    await response(world, archive_of())({}, client.receive, client.send)
    assert client.sent[0]["type"] == "http.response.start"
    assert all(message["more_body"] for message in client.sent[1:])


@pytest.mark.parametrize(
    ("error", "status"), [(ObjectChangedError("changed"), 409), (StoreUnavailableError("away"), 503)]
)
async def test_what_cannot_even_begin_is_a_problem(world: World, error: Exception, status: int) -> None:
    world.sources.failures = {"a.bin": [error] * 10}
    # Of a range whose first chunk fails: not even a header is sent.
    client, archive = Client(), archive_of(known=False)
    with pytest.raises(ProblemError) as raised:
        await response(world, archive)({}, client.receive, client.send)
    assert raised.value.status == status
    assert client.sent == []


# How the ETag is made


def test_the_etag_is_of_the_digest_and_the_size() -> None:
    assert recorded_etag("ab", 255, ()) == '"ab-ff"'
    assert archive_of().etag == archive_of(known=False).etag


def test_without_a_digest_it_is_of_what_goes_in() -> None:
    entries = recorded()
    etag = recorded_etag(None, 1, entries)
    assert etag == recorded_etag(None, 1, recorded(known=False))
    for changed in (
        replace(entries[0], identity=b"another version"),
        replace(entries[0], entry=replace(entries[0].entry, name="other")),
        replace(entries[0], entry=replace(entries[0].entry, mtime=1)),
    ):
        assert recorded_etag(None, 1, [changed, *entries[1:]]) != etag
    assert recorded_etag(None, 1, entries[::-1]) != etag


def test_entries_that_do_not_make_the_recorded_size_are_not_all() -> None:
    entries = recorded()
    assert laid_out("d", archive_of().size, entries[:-1]) == Awaited()
