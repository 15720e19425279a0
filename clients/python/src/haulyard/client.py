"""The asynchronous client: the API's endpoints as methods. `haulyard.sync` has the same for code without a loop."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote

import msgspec

from haulyard.configuration import load_configuration
from haulyard.errors import (
    ApiError,
    ConnectionFailedError,
    JobEndedBadlyError,
    UnexpectedAnswerError,
    UploadError,
    WaitTimeoutError,
)
from haulyard.http import Http, Timeouts
from haulyard.live.follow import EVERY_WAY, Follower
from haulyard.live.poll import read_status
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
from haulyard.transfer.download import OnBytes, download_archive, stream_archive
from haulyard.transfer.naming import LocalFile
from haulyard.transfer.upload import OnSent, upload_file

_PAGE = 100
"""Items of a list that are asked for at once; the API gives no more."""
_BATCH = 50
"""Files that are announced at once: their links are good for 15 minutes, and each must be used in that time."""

_LETTERS = "/v1/admin/dead-letters"

AnyJob = AcceptedJob | Job | str
"""A job, or its id."""
Compression = Literal["store", "deflate"]
OnMissing = Literal["skip", "fail"]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Uploaded:
    """What became of one file that was to be uploaded."""

    local: LocalFile
    file: File | None
    """The file of the catalogue; None if it was not uploaded."""
    error: UploadError | None = None


class _JobPage(msgspec.Struct, frozen=True, kw_only=True):
    jobs: tuple[Job, ...]
    next_cursor: str | None = None


class _FilePage(msgspec.Struct, frozen=True, kw_only=True):
    files: tuple[File, ...]
    next_cursor: str | None = None


class _LetterPage(msgspec.Struct, frozen=True, kw_only=True):
    dead_letters: tuple[DeadLetter, ...]
    next_cursor: str | None = None


class _ReplayedPage(msgspec.Struct, frozen=True, kw_only=True):
    replayed: int
    kept: int = 0
    next_cursor: str | None = None


class _Purged(msgspec.Struct, frozen=True, kw_only=True):
    deleted: int


class _Created(msgspec.Struct, frozen=True, kw_only=True):
    files: tuple[File, ...]


class AsyncClient:
    """A client of one server, as one user, for one event loop; close it: ``async with AsyncClient() as client``.

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
        configuration = load_configuration(url=base_url, token=token)
        self._http = Http(configuration, retries=retries or RetryPolicy(), timeouts=timeouts or Timeouts())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()

    # Jobs

    async def initiate(
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
        """Ask for an archive. However often the request has to be sent, it makes one job.

        Args:
            file_ids: 1 to 100 files; the archive has this order.
            filename: the archive's name.
            priority: 1 to 10, 10 is served first.
            compression: how data is kept in the archive.
            on_missing: whether a file that cannot be archived is left out, or makes the job fail.
            webhook_url: is told when the job ends.
            idempotency_key: a request with the same key is the same job, also from another process; one of our own
                making if it is None.

        Raises:
            InvalidRequestError: something is wrong with the arguments; its ``errors`` say what.
            ApiError, ConnectionFailedError
        """
        options = {
            "filename": filename,
            "priority": priority,
            "compression": compression,
            "on_missing": on_missing,
            "webhook_url": webhook_url,
        }
        body = {"file_ids": list(file_ids)} | {name: value for name, value in options.items() if value is not None}
        answer = await self._http.request(
            "POST",
            "/v1/download/initiate",
            body=body,
            headers={"Idempotency-Key": idempotency_key or uuid.uuid4().hex},
        )
        return answer.decode(AcceptedJob)

    async def status(self, job: AnyJob) -> Job:
        """Return how a job is.

        Raises:
            NotFoundError: this user has no such job.
            ApiError, ConnectionFailedError
        """
        polled = await read_status(self._http, _id_of(job))
        if polled.job is None:
            raise UnexpectedAnswerError("The server answered 304 to a question without condition")
        return polled.job

    async def watch(
        self,
        job: AnyJob,
        *,
        after: int = 0,
        ways: Sequence[Way] = EVERY_WAY,
        poll_interval: float = 2.0,
    ) -> AsyncGenerator[Update, None]:
        """Yield each state of a job that is news, the last one when it is over.

        By WebSocket, or by server-sent events where that is blocked, or by polling where that is blocked, too. Cut
        connections are resumed; no state is told twice, and none of an end is missed.

        Args:
            job: what to watch; as `initiate` returned it, it can be followed without asking for links first.
            after: the sequence of the last state that is known.
            ways: how to listen, best first; polling is always the last resort.
            poll_interval: seconds between two polls, of a server that does not hold its answers back.

        Raises:
            NotFoundError: this user has no such job.
            ApiError, ConnectionFailedError
        """
        follower = Follower(self._http, job, after=after, ways=ways, interval=poll_interval)
        async with contextlib.aclosing(follower.updates()) as updates:
            async for update in updates:
                yield update

    async def wait(self, job: AnyJob, *, timeout: float | None = None) -> Job:  # noqa: ASYNC109 - part of the interface
        """Wait until a job is over, and return how it ended.

        Args:
            job: what to wait for.
            timeout: seconds.

        Raises:
            WaitTimeoutError: it is not over in time; it goes on.
            NotFoundError: this user has no such job.
            ApiError, ConnectionFailedError
        """
        try:
            async with asyncio.timeout(timeout), contextlib.aclosing(self.watch(job)) as updates:
                async for _ in updates:
                    pass
        except TimeoutError:
            raise WaitTimeoutError(f"{_id_of(job)} is not over after {timeout} s") from None
        return await self.status(job)

    async def cancel(self, job: AnyJob) -> None:
        """Stop a job; nothing of it is left in the store.

        Raises:
            ConflictError: it is over already.
            ApiError, ConnectionFailedError
        """
        await self._http.request("POST", f"{_path_of(job)}/cancel")

    async def retry(self, job: AnyJob, *, idempotency_key: str | None = None) -> AcceptedJob:
        """Start a new job for those files of a job that failed.

        Raises:
            ConflictError: it is not over yet, or there is nothing to do again.
            ApiError, ConnectionFailedError
        """
        answer = await self._http.request(
            "POST", f"{_path_of(job)}/retry", headers={"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        )
        return answer.decode(AcceptedJob)

    async def delete(self, job: AnyJob) -> None:
        """Delete a job and its archive; stop it first if need be.

        Raises:
            ApiError, ConnectionFailedError
        """
        await self._http.request("DELETE", _path_of(job))

    async def jobs(self, *, status: JobStatus | None = None, limit: int | None = None) -> AsyncGenerator[Job, None]:
        """Yield the user's jobs, the newest first.

        Args:
            status: only those in this state.
            limit: how many at most.

        Raises:
            ApiError, ConnectionFailedError
        """
        query = {} if status is None else {"status": str(status)}
        async with contextlib.aclosing(self._pages("/v1/jobs", query, limit, _job_page)) as jobs:
            async for job in jobs:
                yield job

    # Archives

    async def link(self, job: AnyJob) -> ArchiveLink:
        """Return a link to a job's archive, good for 15 minutes for whoever has it.

        Raises:
            JobNotReadyError: there is no archive yet.
            JobFailedError: there will be none.
            ArchiveExpiredError: it was deleted after its time.
            ApiError, ConnectionFailedError
        """
        return (await self._http.request("GET", f"{_path_of(job)}/download")).decode(ArchiveLink)

    async def download(
        self,
        job: AnyJob,
        target: str | Path = ".",
        *,
        connections: int = 4,
        overwrite: bool = False,
        verify: bool = False,
        on_bytes: OnBytes | None = None,
    ) -> Path:
        """Bring a job's archive to disk and return where it is.

        While it is incomplete it is called ``….part``; a download that was cut short, even by a crash, goes on where
        it was when it is called again.

        Args:
            job: a completed job.
            target: a file's name, or a folder, in which the archive has the name that its job gave it.
            connections: how many ranges are fetched side by side.
            overwrite: whether a file of this name may be replaced.
            verify: whether to read it all again and check each member's CRC-32.
            on_bytes: is called with the bytes that are here and the bytes of all.

        Raises:
            JobNotReadyError, JobFailedError, ArchiveExpiredError: see `link`.
            DownloadError: it cannot be done; what has arrived is kept.
            ApiError, ConnectionFailedError
        """
        if connections < 1:
            raise ValueError("at least one connection is needed")
        return await download_archive(
            self._http,
            lambda: self.link(job),
            Path(target),
            connections=connections,
            overwrite=overwrite,
            verify=verify,
            on_bytes=on_bytes,
        )

    async def stream(self, job: AnyJob) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a job's archive in order; cut connections are resumed.

        Raises:
            JobNotReadyError, JobFailedError, ArchiveExpiredError: see `link`.
            DownloadError: it cannot be done.
            ApiError, ConnectionFailedError
        """
        async with contextlib.aclosing(stream_archive(self._http, lambda: self.link(job))) as blocks:
            async for block in blocks:
                yield block

    async def get(
        self,
        file_ids: Iterable[int],
        target: str | Path = ".",
        *,
        filename: str | None = None,
        on_update: Callable[[Update], None] | None = None,
        on_bytes: OnBytes | None = None,
    ) -> Path:
        """Ask for an archive, wait for it, and bring it to disk: the three in one.

        Raises:
            JobEndedBadlyError: the job failed, or somebody cancelled it.
            DownloadError, ApiError, ConnectionFailedError
        """
        job = await self.initiate(file_ids, filename=filename)
        async with contextlib.aclosing(self.watch(job)) as updates:
            async for update in updates:
                if on_update is not None:
                    on_update(update)
                raise_for_end(update)
        return await self.download(job, target, on_bytes=on_bytes)

    # Files

    async def add_file(self, source: str, *, name: str | None = None) -> File:
        """Add what is there already to the catalogue.

        Args:
            source: ``s3://bucket/key``, or a URL that the server may archive from.
            name: its path inside archives; else the last step of the source.

        Raises:
            InvalidRequestError: there is no such object, or it may not be registered.
            ApiError, ConnectionFailedError
        """
        body = {"source": source} | ({} if name is None else {"name": name})
        return (await self._http.request("POST", "/v1/files", body=body, repeatable=False)).decode(File)

    async def add_files(self, sources: Iterable[str]) -> list[File]:
        """Add many things that are there to the catalogue, all or none of a thousand.

        Raises:
            InvalidRequestError: one of them cannot be added; ``errors`` says which.
            ApiError, ConnectionFailedError
        """
        return await self._create([{"source": source} for source in sources])

    async def upload(self, path: str | Path, *, name: str | None = None, on_sent: OnSent | None = None) -> File:
        """Upload a file of this machine.

        Args:
            path: the file.
            name: its path inside archives; else its own name.
            on_sent: is called with bytes that were sent.

        Raises:
            UploadError: it cannot be read, or the store does not take it.
            ApiError, ConnectionFailedError
        """
        path = Path(path)
        try:
            local = LocalFile(path=path, name=name or path.name, size=path.stat().st_size)
        except OSError as error:
            raise UploadError(f"{path}: {error.strerror}") from error
        async with contextlib.aclosing(self.upload_many([local], on_sent=on_sent)) as results:
            async for result in results:
                if result.error is not None:
                    raise result.error
                if result.file is not None:
                    return result.file
        raise UnexpectedAnswerError("The server announced no file")

    async def upload_many(
        self, files: Iterable[LocalFile], *, parallel: int = 4, on_sent: OnSent | None = None
    ) -> AsyncGenerator[Uploaded, None]:
        """Upload files of this machine side by side; yield what became of each, in the order of the files.

        One that fails does not stop the others. See `haulyard.local_files` for all files below a folder.

        Args:
            files: what to upload.
            parallel: how many at the same time.
            on_sent: is called with bytes that were sent; with a negative number when some are to be sent again.

        Raises:
            ApiError, ConnectionFailedError: the API does not take the files.
        """
        slots = asyncio.Semaphore(parallel)

        async def one(local: LocalFile, file: File) -> Uploaded:
            async with slots:
                return await self._upload(local, file, on_sent)

        for batch in _batches(files, _BATCH):
            created = await self._create([{"name": local.name} for local in batch])
            tasks = [asyncio.create_task(one(local, file)) for local, file in zip(batch, created, strict=True)]
            try:
                for task in tasks:
                    yield await task
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _upload(self, local: LocalFile, file: File, on_sent: OnSent | None) -> Uploaded:
        try:
            if file.upload is None:
                raise UploadError(f"{local.path}: the server gave no link")  # noqa: TRY301 - as every other reason
            await upload_file(self._http, file.upload, local.path, size=local.size, on_sent=on_sent)
        except UploadError as error:
            with contextlib.suppress(ApiError, ConnectionFailedError):  # it is of no use, and does no harm either
                await self.delete_file(file.file_id)
            return Uploaded(local=local, file=None, error=error)
        return Uploaded(
            local=local, file=msgspec.structs.replace(file, upload=None, status="available", size_bytes=local.size)
        )

    async def _create(self, wanted: Sequence[dict[str, str]]) -> list[File]:
        created: list[File] = []
        for batch in _batches(wanted, 1_000):
            answer = await self._http.request("POST", "/v1/files", body={"files": batch}, repeatable=False)
            files = answer.decode(_Created).files
            if len(files) != len(batch):
                raise UnexpectedAnswerError(f"The server took {len(files)} of {len(batch)} files")
            created += files
        return created

    async def file(self, file_id: int) -> File:
        """Return what the catalogue has of a file.

        Raises:
            NotFoundError: this user has no such file.
            ApiError, ConnectionFailedError
        """
        return (await self._http.request("GET", f"/v1/files/{file_id:d}")).decode(File)

    async def files(self, *, prefix: str | None = None, limit: int | None = None) -> AsyncGenerator[File, None]:
        """Yield the user's files, the newest first.

        Args:
            prefix: only those whose name begins so.
            limit: how many at most.

        Raises:
            ApiError, ConnectionFailedError
        """
        query = {} if prefix is None else {"prefix": prefix}
        async with contextlib.aclosing(self._pages("/v1/files", query, limit, _file_page)) as files:
            async for file in files:
                yield file

    async def delete_file(self, file_id: int) -> None:
        """Take a file out of the catalogue; if it was uploaded, its bytes go, too.

        Raises:
            NotFoundError: this user has no such file.
            ApiError, ConnectionFailedError
        """
        await self._http.request("DELETE", f"/v1/files/{file_id:d}")

    # What operators do; their tokens have the scope ``admin``

    async def inspect(self, job: AnyJob) -> InspectedJob:
        """Return anybody's job, with its tasks and their attempts.

        Raises:
            ForbiddenError: the token is no operator's.
            NotFoundError: there is no such job.
            ApiError, ConnectionFailedError
        """
        path = f"/v1/admin/jobs/{quote(_id_of(job), safe='')}"
        return (await self._http.request("GET", path)).decode(InspectedJob)

    async def dead_letters(
        self, *, stream: str | None = None, limit: int | None = None
    ) -> AsyncGenerator[DeadLetter, None]:
        """Yield messages that were given up, the oldest first.

        Args:
            stream: only those from ``jobs``, ``tasks``, ``results`` or ``events``.
            limit: how many at most.

        Raises:
            ForbiddenError: the token is no operator's.
            ApiError, ConnectionFailedError
        """
        async with contextlib.aclosing(self._pages(_LETTERS, _from(stream), limit, _letter_page)) as letters:
            async for letter in letters:
                yield letter

    async def dead_letter(self, sequence: int) -> DeadLetter:
        """Return a message that was given up, with what it says.

        Raises:
            NotFoundError: it is not there, or not any more.
            ApiError, ConnectionFailedError
        """
        return (await self._http.request("GET", f"{_LETTERS}/{sequence:d}")).decode(DeadLetter)

    async def replay_dead_letter(self, sequence: int) -> None:
        """Send a message that was given up again; asked several times, it is sent once.

        Raises:
            NotFoundError: it is not there, or not any more.
            ConflictError: it is not known where it came from.
            ApiError, ConnectionFailedError
        """
        # Not tried again by itself: when the answer is lost, the next one is that it is not there any more.
        await self._http.request("POST", f"{_LETTERS}/{sequence:d}/replay", repeatable=False)

    async def replay_dead_letters(self, *, stream: str | None = None) -> Replayed:
        """Send all messages that were given up again, or those from one stream; return how many.

        Raises:
            ForbiddenError: the token is no operator's.
            ApiError, ConnectionFailedError
        """
        replayed = kept = 0
        cursor: str | None = None
        while True:
            query = _from(stream) | ({} if cursor is None else {"cursor": cursor})
            page = (await self._http.request("POST", f"{_LETTERS}/replay", query=query)).decode(_ReplayedPage)
            replayed, kept, cursor = replayed + page.replayed, kept + page.kept, page.next_cursor
            if cursor is None:
                return Replayed(replayed=replayed, kept=kept)

    async def delete_dead_letter(self, sequence: int) -> None:
        """Delete a message that was given up.

        Raises:
            NotFoundError: it is not there, or not any more.
            ApiError, ConnectionFailedError
        """
        await self._http.request("DELETE", f"{_LETTERS}/{sequence:d}", repeatable=False)

    async def purge_dead_letters(self, *, stream: str | None = None) -> int:
        """Delete all messages that were given up, or those from one stream; return how many.

        Raises:
            ForbiddenError: the token is no operator's.
            ApiError, ConnectionFailedError
        """
        return (await self._http.request("DELETE", _LETTERS, query=_from(stream))).decode(_Purged).deleted

    async def _pages(
        self,
        path: str,
        query: dict[str, str],
        limit: int | None,
        read: Callable[[Any], tuple[Sequence[T], str | None]],
    ) -> AsyncGenerator[T, None]:
        left = limit
        cursor: str | None = None
        while left is None or left > 0:
            size = _PAGE if left is None else min(left, _PAGE)
            asked = {**query, "limit": str(size)} | ({} if cursor is None else {"cursor": cursor})
            items, cursor = read(await self._http.request("GET", path, query=asked))
            for item in items:
                yield item
            left = None if left is None else left - len(items)
            if cursor is None:
                return


def raise_for_end(state: Update | Job) -> None:
    """Do nothing as long as a job can have an archive or has one.

    Raises:
        JobEndedBadlyError: it is over and there is none.
    """
    if state.status.is_over and state.status is not JobStatus.COMPLETED:
        error = state.error
        raise JobEndedBadlyError(
            state.job_id,
            state.status,
            code=error.code if error else None,
            message=error.message if error else None,
        )


def _id_of(job: AnyJob) -> str:
    return job if isinstance(job, str) else job.job_id


def _path_of(job: AnyJob) -> str:
    return f"/v1/jobs/{quote(_id_of(job), safe='')}"


def _job_page(answer: Any) -> tuple[Sequence[Job], str | None]:
    page = answer.decode(_JobPage)
    return page.jobs, page.next_cursor


def _file_page(answer: Any) -> tuple[Sequence[File], str | None]:
    page = answer.decode(_FilePage)
    return page.files, page.next_cursor


def _letter_page(answer: Any) -> tuple[Sequence[DeadLetter], str | None]:
    page = answer.decode(_LetterPage)
    return page.dead_letters, page.next_cursor


def _from(stream: str | None) -> dict[str, str]:
    return {} if stream is None else {"stream": stream}


def _batches(items: Iterable[T], size: int) -> Iterable[list[T]]:
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
