"""A client of the public API, as anybody could write one: it knows nothing but HTTP, WebSocket and a token."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar

import httpx
import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from haulyard_devstack.demo_errors import DemoError
from haulyard_devstack.ports import LOOPBACK

_CHUNK = 1024 * 1024
_TIMEOUT = httpx.Timeout(60.0)
_TRIES = 5
_TOO_MANY_REQUESTS = 429


class Upload(msgspec.Struct):
    """Where to send a file's bytes."""

    method: str
    url: str


class AddedFile(msgspec.Struct):
    """A file that is to be uploaded."""

    file_id: int
    upload: Upload


class AddedFiles(msgspec.Struct):
    """The answer to `POST /v1/files` for many."""

    files: list[AddedFile]


class AcceptedJob(msgspec.Struct):
    """The answer to `POST /v1/download/initiate`."""

    job_id: str
    websocket_url: str


class JobFile(msgspec.Struct):
    """One file of a job."""

    file_id: int
    status: str
    name: str | None = None


class Transfer(msgspec.Struct):
    """Which way the bytes of a job went."""

    bytes_through: int


class Job(msgspec.Struct):
    """The answer to `GET /v1/jobs/{id}/status`."""

    status: str
    files: list[JobFile]
    transfer: Transfer


class ArchiveLink(msgspec.Struct):
    """The answer to `GET /v1/jobs/{id}/download`."""

    download_url: str
    filename: str
    size_bytes: int


class Progress(msgspec.Struct):
    """How far a job is."""

    current: int
    total: int
    bytes_current: int = 0
    bytes_total: int = 0


class StatusUpdate(msgspec.Struct, tag_field="type", tag="status_update"):
    """The job is on its way, or was stopped."""

    status: str
    progress: Progress


class Completed(msgspec.Struct, tag_field="type", tag="completed"):
    """The archive is ready."""

    download_url: str


class Problem(msgspec.Struct):
    """Why a job failed."""

    code: str
    message: str


class Failed(msgspec.Struct, tag_field="type", tag="error"):
    """There will be no archive."""

    error: Problem


T = TypeVar("T")


class DemoClient:
    """Adds files, asks for archives, follows jobs. An async context manager.

    Args:
        api_url: The base URL of the API.
        token: A bearer token.
    """

    def __init__(self, api_url: str, token: str) -> None:
        self._opened = AsyncExitStack()
        # What runs on this machine is never asked through a proxy.
        direct: dict[str, httpx.AsyncBaseTransport | None] = {f"all://{LOOPBACK}": None}
        authorization = {"Authorization": f"Bearer {token}"}
        self._api = httpx.AsyncClient(base_url=api_url, headers=authorization, mounts=direct, timeout=_TIMEOUT)
        # Presigned links carry their own permission: the token is nothing that the store should see.
        self._store = httpx.AsyncClient(mounts=direct, timeout=_TIMEOUT)

    async def __aenter__(self) -> Self:
        await self._opened.enter_async_context(self._api)
        await self._opened.enter_async_context(self._store)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.aclose()

    async def add_files(self, names: Sequence[str]) -> list[AddedFile]:
        """Add files to the catalogue, at most 1,000, and get a link to upload each."""
        body = {"files": [{"name": name} for name in names]}
        return (await self._call("POST", "/v1/files", AddedFiles, body)).files

    async def upload(self, link: Upload, path: Path, size: int, on_bytes: Callable[[int], None]) -> str:
        """Send a file straight to the store; return the SHA-256 of what was sent."""
        digest = hashlib.sha256()

        def read(source: BinaryIO) -> bytes:
            chunk = source.read(_CHUNK)
            digest.update(chunk)
            return chunk

        async def content() -> AsyncIterator[bytes]:
            with await asyncio.to_thread(path.open, "rb") as source:
                while chunk := await asyncio.to_thread(read, source):
                    yield chunk
                    on_bytes(len(chunk))

        answer = await self._store.request(
            link.method, link.url, content=content(), headers={"Content-Length": str(size)}
        )
        if not answer.is_success:
            raise DemoError(f"the store refused {path}: {answer.status_code} {answer.text[:500]}")
        return digest.hexdigest()

    async def start_job(self, file_ids: Sequence[int]) -> AcceptedJob:
        """Ask for an archive."""
        return await self._call("POST", "/v1/download/initiate", AcceptedJob, {"file_ids": file_ids})

    async def follow(self, websocket_url: str, on_progress: Callable[[Progress], None]) -> None:
        """Return when the archive is ready.

        Raises:
            DemoError: It never will be, or nobody tells.
        """
        problem = ""
        for _ in range(_TRIES):
            try:
                async with connect(websocket_url, proxy=None) as socket:
                    async for message in socket:
                        if _is_ready(message, on_progress):
                            return
            except (OSError, WebSocketException) as error:
                problem = f": {error}"
            await asyncio.sleep(1)  # a new connection starts with the state as it is then
        raise DemoError(f"the live updates broke off {_TRIES} times{problem}")

    async def status(self, job_id: str) -> Job:
        """Ask how a job is."""
        return await self._call("GET", f"/v1/jobs/{job_id}/status", Job)

    async def archive_link(self, job_id: str) -> ArchiveLink:
        """Ask for a link to a job's archive."""
        return await self._call("GET", f"/v1/jobs/{job_id}/download", ArchiveLink)

    async def download(self, url: str, target: Path, on_bytes: Callable[[int], None]) -> None:
        """Fetch an archive straight from the store."""
        async with self._store.stream("GET", url) as answer:
            if not answer.is_success:
                text = (await answer.aread()).decode(errors="replace")
                raise DemoError(f"the store refused the download: {answer.status_code} {text[:500]}")
            with await asyncio.to_thread(target.open, "wb") as file:
                async for chunk in answer.aiter_bytes(_CHUNK):
                    await asyncio.to_thread(file.write, chunk)
                    on_bytes(len(chunk))

    async def _call(self, method: str, path: str, kind: type[T], body: dict[str, Any] | None = None) -> T:
        for _ in range(_TRIES):
            answer = await self._api.request(method, path, json=body)
            if answer.status_code != _TOO_MANY_REQUESTS:
                break
            await asyncio.sleep(float(answer.headers.get("Retry-After", "1")))
        if not answer.is_success:
            raise DemoError(f"{method} {path} was answered {answer.status_code}: {answer.text[:500]}")
        return msgspec.json.decode(answer.content, type=kind)


def _is_ready(message: str | bytes, on_progress: Callable[[Progress], None]) -> bool:
    match msgspec.json.decode(message, type=StatusUpdate | Completed | Failed):
        case Completed():
            return True
        case Failed(error=problem):
            raise DemoError(f"the job failed: {problem.code}: {problem.message}")
        case StatusUpdate(status=status, progress=progress):
            if status in ("cancelled", "expired"):
                raise DemoError(f"the job was {status}")
            on_progress(progress)
    return False
