"""What we compare ourselves to: the bare store, and the way the field does it, one worker that streams everything."""

import asyncio
import queue
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future

from zipstream import ZipStream

from haulyard_chassis.store import ObjectStore, UploadedPart
from rig import ARCHIVES, FILES, MIB, SLOTS, BenchFile, in_parallel

_PART = 16 * MIB
_UPLOADS = 4


async def bare_copies(store: ObjectStore, files: list[BenchFile], *, part: int) -> float:
    """Let the store copy the same bytes into one object, as many parts at a time as archivers would; seconds."""
    key = f"bench/{secrets.token_hex(8)}"
    started = time.perf_counter()
    upload_id = await store.create_upload(ARCHIVES, key, content_type="a/b")
    slices = [(file, offset, min(part, file.size - offset)) for file in files for offset in range(0, file.size, part)]

    def step(number: int, file: BenchFile, offset: int, length: int) -> Callable[[], Awaitable[UploadedPart]]:
        async def copy() -> UploadedPart:
            etag = (await store.head(FILES, file.key)).etag
            made = await store.copy_part(
                ARCHIVES,
                key,
                upload_id=upload_id,
                number=number,
                source_bucket=FILES,
                source_key=file.key,
                etag=etag,
                offset=offset,
                length=length,
            )
            return UploadedPart(number, made.etag)

        return copy

    parts = await in_parallel(SLOTS, [step(number, *each) for number, each in enumerate(slices, start=1)])
    await store.complete_upload(ARCHIVES, key, upload_id=upload_id, parts=parts)
    seconds = time.perf_counter() - started
    await store.delete(ARCHIVES, key)
    return seconds


async def bare_transfer(store: ObjectStore, files: list[BenchFile]) -> float:
    """Read and write the same bytes, file by file, with a plain client; seconds."""

    def step(file: BenchFile) -> Callable[[], Awaitable[str]]:
        async def transfer() -> str:
            etag = (await store.head(FILES, file.key)).etag
            key = f"bench/{secrets.token_hex(8)}"
            async with store.read(FILES, file.key, etag=etag, offset=0, length=file.size) as chunks:
                await store.put(ARCHIVES, key, chunks, size=file.size, content_type="a/b")
            return key

        return transfer

    started = time.perf_counter()
    keys = await in_parallel(SLOTS, [step(file) for file in files])
    seconds = time.perf_counter() - started
    await store.delete_all(ARCHIVES, keys)
    return seconds


async def gets_and_a_put(store: ObjectStore, files: list[BenchFile]) -> str:
    """Do what the store has to do for a small archive: read each file, write one object; return its key."""
    bodies = await asyncio.gather(*(store.get(FILES, file.key) for file in files))
    body = b"".join(bodies)
    key = f"bench/{secrets.token_hex(8)}"
    await store.put(ARCHIVES, key, body, size=len(body), content_type="a/b")
    return key


async def streaming_worker(store: ObjectStore, files: list[BenchFile]) -> float:
    """Build the archive as the field does: one worker reads, zips (zipstream-ng) and uploads it all; seconds."""
    started = time.perf_counter()
    key = f"bench/{secrets.token_hex(8)}"
    await _StreamingWorker(store, files, key).run()
    seconds = time.perf_counter() - started
    await store.delete(ARCHIVES, key)
    return seconds


class _StreamingWorker:
    """Reading ahead, zipping and uploading overlap, so this is a good worker of its kind."""

    def __init__(self, store: ObjectStore, files: list[BenchFile], key: str) -> None:
        self._store = store
        self._files = files
        self._key = key
        self._loop = asyncio.get_running_loop()
        self._ahead: queue.Queue[bytes | None] = queue.Queue(maxsize=64)
        self._parts: list[UploadedPart] = []
        self._under_way: list[Future[None]] = []
        self._upload_id = ""

    async def run(self) -> None:
        self._upload_id = await self._store.create_upload(ARCHIVES, self._key, content_type="application/zip")
        zipping = threading.Thread(target=self._zip)
        zipping.start()
        for file in self._files:
            await self._read(file)
        await asyncio.to_thread(zipping.join)
        parts = sorted(self._parts, key=lambda part: part.number)
        await self._store.complete_upload(ARCHIVES, self._key, upload_id=self._upload_id, parts=parts)

    async def _read(self, file: BenchFile) -> None:
        etag = (await self._store.head(FILES, file.key)).etag
        async with self._store.read(FILES, file.key, etag=etag, offset=0, length=file.size) as chunks:
            async for chunk in chunks:
                await self._put(chunk)
        await self._put(None)

    async def _put(self, chunk: bytes | None) -> None:
        while self._ahead.full():  # noqa: ASYNC110 - another thread empties it
            await asyncio.sleep(0.001)
        self._ahead.put_nowait(chunk)

    def _one_file(self) -> Iterator[bytes]:
        while (chunk := self._ahead.get()) is not None:
            yield chunk

    def _zip(self) -> None:
        """Zip and hand parts over; in a thread of its own."""
        archive = ZipStream()
        for number, _ in enumerate(self._files):
            archive.add(self._one_file(), f"{number}.bin")
        buffer, number = bytearray(), 1
        for chunk in archive:
            buffer += chunk
            if len(buffer) >= _PART:
                self._send(number, bytes(buffer))
                buffer, number = bytearray(), number + 1
        self._send(number, bytes(buffer))
        for each in self._under_way:
            each.result()

    def _send(self, number: int, body: bytes) -> None:
        self._under_way.append(asyncio.run_coroutine_threadsafe(self._upload(number, body), self._loop))
        if len(self._under_way) > _UPLOADS:
            self._under_way.pop(0).result()

    async def _upload(self, number: int, body: bytes) -> None:
        etag = await self._store.upload_part(
            ARCHIVES, self._key, upload_id=self._upload_id, number=number, body=body, size=len(body)
        )
        self._parts.append(UploadedPart(number, etag))
