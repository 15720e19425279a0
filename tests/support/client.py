"""A plain client of the public API, with nothing of ours in it: what a stranger would write."""

import asyncio
import hashlib
import io
import json
import ssl
import zipfile
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import httpx
from websockets.asyncio.client import connect

JOB_DEADLINE = 120.0
"""Seconds after which a job that is not over counts as stuck."""


class ApiClient:
    """Talks to the gateway and the notifier as one user.

    Args:
        base_url: of the API.
        token: of the user.
        trust: says which certificates are good; the usual ones by default.
    """

    def __init__(self, base_url: str, token: str, *, trust: ssl.SSLContext | bool = True) -> None:
        self.http = httpx.AsyncClient(
            base_url=base_url, headers={"Authorization": f"Bearer {token}"}, timeout=30, trust_env=False, verify=trust
        )
        self.plain = httpx.AsyncClient(timeout=60, trust_env=False, verify=trust)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.http.aclose()
        await self.plain.aclose()

    async def upload(self, name: str, data: bytes) -> int:
        """Upload a file by a presigned link and return its id."""
        answer = await self.http.post("/v1/files", json={"name": name})
        assert answer.status_code == 201, answer.text
        body = answer.json()
        stored = await self.plain.put(body["upload"]["url"], content=data)
        assert stored.status_code == 200, stored.text
        return int(body["file_id"])

    async def initiate(self, *file_ids: int, **options: Any) -> dict[str, Any]:
        """Ask for an archive."""
        answer = await self.http.post("/v1/download/initiate", json={"file_ids": list(file_ids), **options})
        assert answer.status_code == 202, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def status(self, job_id: str) -> dict[str, Any]:
        answer = await self.http.get(f"/v1/jobs/{job_id}/status")
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def wait(self, job_id: str) -> dict[str, Any]:
        """Poll until the job is over, and return its last status."""
        async with asyncio.timeout(JOB_DEADLINE):
            while True:
                status = await self.status(job_id)
                if status["status"] not in ("queued", "processing"):
                    return status
                await asyncio.sleep(0.1)

    async def wait_for_bytes(self, job_id: str, bytes_done: int) -> dict[str, Any]:
        """Poll until so much is done, and return the status."""
        async with asyncio.timeout(JOB_DEADLINE):
            while True:
                status = await self.status(job_id)
                if status["progress"]["bytes_current"] >= bytes_done or status["status"] == "failed":
                    return status
                await asyncio.sleep(0.02)

    async def watch(self, websocket_url: str) -> list[dict[str, Any]]:
        """Follow a job over WebSocket until the server says that it is over."""
        async with asyncio.timeout(JOB_DEADLINE), connect(websocket_url, proxy=None) as socket:
            return [json.loads(text) async for text in socket]

    async def server_sent_events(self, url: str, *, last_event_id: str | None = None) -> AsyncIterator[dict[str, str]]:
        """Follow a job over server-sent events."""
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        async with self.plain.stream("GET", url, headers=headers) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            event: dict[str, str] = {}
            async for line in answer.aiter_lines():
                if line:
                    field, _, value = line.partition(": ")
                    event[field] = value
                elif "data" in event:
                    yield event
                    event = {}

    async def download(self, job_id: str) -> bytes:
        """Get the archive by its presigned link."""
        answer = await self.http.get(f"/v1/jobs/{job_id}/download")
        assert answer.status_code == 200, answer.text
        archive = await self.plain.get(answer.json()["download_url"])
        assert archive.status_code == 200
        assert len(archive.content) == answer.json()["size_bytes"]
        return archive.content


def members(archive: bytes) -> dict[str, str]:
    """Return the SHA-256 of each member, after checking that the archive is whole."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.testzip() is None
        return {name: hashlib.sha256(opened.read(name)).hexdigest() for name in opened.namelist()}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
