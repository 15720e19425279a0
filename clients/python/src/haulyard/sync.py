"""The client for code without an event loop: the same methods as the asynchronous one, which does the work.

The event loop runs in a thread of its own, so this works anywhere, also where a loop is running (a notebook), and from
many threads at once.
"""

import asyncio
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from haulyard.client import AnyJob, AsyncClient, Compression, OnMissing, Uploaded
from haulyard.http import Timeouts
from haulyard.live.follow import EVERY_WAY
from haulyard.models import (
    AcceptedJob,
    ArchiveLink,
    DeadLetter,
    File,
    InspectedJob,
    Job,
    JobStatus,
    Replayed,
    Update,
    Way,
)
from haulyard.retrying import RetryPolicy
from haulyard.transfer.download import OnBytes
from haulyard.transfer.naming import LocalFile
from haulyard.transfer.upload import OnSent

T = TypeVar("T")


class _LoopThread:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="haulyard", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to the end, or cancel it when the caller is interrupted."""
        if not self._thread.is_alive():
            work.close()
            raise RuntimeError("the client is closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:  # Ctrl-C, above all
            future.cancel()
            raise

    def iterate(self, generator: AsyncGenerator[T, None]) -> Generator[T, None, None]:
        """Yield what an asynchronous generator yields; it is closed with ours."""
        try:
            while True:
                try:
                    item = self.run(_next_of(generator))
                except StopAsyncIteration:
                    return
                yield item
        finally:
            if self._thread.is_alive():
                self.run(generator.aclose())

    def stop(self) -> None:
        """End the thread; what still runs in it is cancelled."""
        if self._thread.is_alive():
            self.run(_cancel_others())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


async def _next_of(generator: AsyncGenerator[T, None]) -> T:
    return await anext(generator)


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
    await asyncio.get_running_loop().shutdown_default_executor()


def _close(thread: _LoopThread, client: AsyncClient) -> None:
    try:
        thread.run(client.close())
    finally:
        thread.stop()


class Client:
    """A client of one server, as one user; close it: ``with Client() as client``. See `AsyncClient` for everything.

    Args:
        base_url: the API's address; else ``HAULYARD_URL``, else what ``haulyard login`` has stored.
        token: a bearer token; else ``HAULYARD_TOKEN``, else what ``haulyard login`` has stored for this address.
        retries: when requests are tried again.
        timeouts: how long to wait for the server.

    Raises:
        ConfigurationError: address or token are missing or not valid.
    """

    def __init__(
        self,
        base_url: str | None = None,
        token: str | None = None,
        *,
        retries: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        self._client = AsyncClient(base_url, token, retries=retries, timeouts=timeouts)
        self._thread = _LoopThread()
        self._finalizer = weakref.finalize(self, _close, self._thread, self._client)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._finalizer()

    def initiate(
        self,
        file_ids: Iterable[int],
        *,
        filename: str | None = None,
        priority: int | None = None,
        compression: Compression | None = None,
        on_missing: OnMissing | None = None,
        webhook_url: str | None = None,
        idempotency_key: str | None = None,
    ) -> AcceptedJob:
        """See `AsyncClient.initiate`."""
        return self._thread.run(
            self._client.initiate(
                file_ids,
                filename=filename,
                priority=priority,
                compression=compression,
                on_missing=on_missing,
                webhook_url=webhook_url,
                idempotency_key=idempotency_key,
            )
        )

    def status(self, job: AnyJob) -> Job:
        """See `AsyncClient.status`."""
        return self._thread.run(self._client.status(job))

    def watch(
        self,
        job: AnyJob,
        *,
        after: int = 0,
        ways: Sequence[Way] = EVERY_WAY,
        poll_interval: float = 2.0,
    ) -> Generator[Update, None, None]:
        """See `AsyncClient.watch`."""
        return self._thread.iterate(self._client.watch(job, after=after, ways=ways, poll_interval=poll_interval))

    def wait(self, job: AnyJob, *, timeout: float | None = None) -> Job:
        """See `AsyncClient.wait`."""
        return self._thread.run(self._client.wait(job, timeout=timeout))

    def cancel(self, job: AnyJob) -> None:
        """See `AsyncClient.cancel`."""
        self._thread.run(self._client.cancel(job))

    def retry(self, job: AnyJob, *, idempotency_key: str | None = None) -> AcceptedJob:
        """See `AsyncClient.retry`."""
        return self._thread.run(self._client.retry(job, idempotency_key=idempotency_key))

    def delete(self, job: AnyJob) -> None:
        """See `AsyncClient.delete`."""
        self._thread.run(self._client.delete(job))

    def jobs(self, *, status: JobStatus | None = None, limit: int | None = None) -> Generator[Job, None, None]:
        """See `AsyncClient.jobs`."""
        return self._thread.iterate(self._client.jobs(status=status, limit=limit))

    def link(self, job: AnyJob) -> ArchiveLink:
        """See `AsyncClient.link`."""
        return self._thread.run(self._client.link(job))

    def download(
        self,
        job: AnyJob,
        target: str | Path = ".",
        *,
        connections: int = 4,
        overwrite: bool = False,
        verify: bool = False,
        on_bytes: OnBytes | None = None,
    ) -> Path:
        """See `AsyncClient.download`; ``on_bytes`` is called in another thread."""
        return self._thread.run(
            self._client.download(
                job, target, connections=connections, overwrite=overwrite, verify=verify, on_bytes=on_bytes
            )
        )

    def stream(self, job: AnyJob) -> Generator[bytes, None, None]:
        """See `AsyncClient.stream`."""
        return self._thread.iterate(self._client.stream(job))

    def get(
        self,
        file_ids: Iterable[int],
        target: str | Path = ".",
        *,
        filename: str | None = None,
        on_update: Callable[[Update], None] | None = None,
        on_bytes: OnBytes | None = None,
    ) -> Path:
        """See `AsyncClient.get`; ``on_update`` and ``on_bytes`` are called in another thread."""
        return self._thread.run(
            self._client.get(file_ids, target, filename=filename, on_update=on_update, on_bytes=on_bytes)
        )

    def add_file(self, source: str, *, name: str | None = None) -> File:
        """See `AsyncClient.add_file`."""
        return self._thread.run(self._client.add_file(source, name=name))

    def add_files(self, sources: Iterable[str]) -> list[File]:
        """See `AsyncClient.add_files`."""
        return self._thread.run(self._client.add_files(sources))

    def upload(self, path: str | Path, *, name: str | None = None, on_sent: OnSent | None = None) -> File:
        """See `AsyncClient.upload`; ``on_sent`` is called in another thread."""
        return self._thread.run(self._client.upload(path, name=name, on_sent=on_sent))

    def upload_many(
        self, files: Iterable[LocalFile], *, parallel: int = 4, on_sent: OnSent | None = None
    ) -> Generator[Uploaded, None, None]:
        """See `AsyncClient.upload_many`; ``on_sent`` is called in another thread."""
        return self._thread.iterate(self._client.upload_many(files, parallel=parallel, on_sent=on_sent))

    def file(self, file_id: int) -> File:
        """See `AsyncClient.file`."""
        return self._thread.run(self._client.file(file_id))

    def files(self, *, prefix: str | None = None, limit: int | None = None) -> Generator[File, None, None]:
        """See `AsyncClient.files`."""
        return self._thread.iterate(self._client.files(prefix=prefix, limit=limit))

    def delete_file(self, file_id: int) -> None:
        """See `AsyncClient.delete_file`."""
        self._thread.run(self._client.delete_file(file_id))

    def inspect(self, job: AnyJob) -> InspectedJob:
        """See `AsyncClient.inspect`."""
        return self._thread.run(self._client.inspect(job))

    def dead_letters(self, *, stream: str | None = None, limit: int | None = None) -> Generator[DeadLetter, None, None]:
        """See `AsyncClient.dead_letters`."""
        return self._thread.iterate(self._client.dead_letters(stream=stream, limit=limit))

    def dead_letter(self, sequence: int) -> DeadLetter:
        """See `AsyncClient.dead_letter`."""
        return self._thread.run(self._client.dead_letter(sequence))

    def replay_dead_letter(self, sequence: int) -> None:
        """See `AsyncClient.replay_dead_letter`."""
        self._thread.run(self._client.replay_dead_letter(sequence))

    def replay_dead_letters(self, *, stream: str | None = None) -> Replayed:
        """See `AsyncClient.replay_dead_letters`."""
        return self._thread.run(self._client.replay_dead_letters(stream=stream))

    def delete_dead_letter(self, sequence: int) -> None:
        """See `AsyncClient.delete_dead_letter`."""
        self._thread.run(self._client.delete_dead_letter(sequence))

    def purge_dead_letters(self, *, stream: str | None = None) -> int:
        """See `AsyncClient.purge_dead_letters`."""
        return self._thread.run(self._client.purge_dead_letters(stream=stream))
