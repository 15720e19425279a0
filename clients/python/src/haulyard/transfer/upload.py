"""Files of this machine to the store, by the links that the API gives."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

from haulyard.errors import UploadError
from haulyard.http import FAULTS, Http, fault_of
from haulyard.models import UploadLink
from haulyard.retrying import Outcome, Refused, parse_retry_after

_BLOCK = 1024 * 1024

OnSent = Callable[[int], None]
"""Is called with bytes that were sent; a negative number takes back what is to be sent again."""


async def upload_file(http: Http, link: UploadLink, path: Path, *, size: int, on_sent: OnSent | None) -> None:
    """Send a file with one request, and again if it does not arrive.

    Args:
        http: connections.
        link: where to.
        path: the file.
        size: its bytes; a file that turns out to be shorter is refused.
        on_sent: is told how far it is.

    Raises:
        UploadError: the store does not take it, or the file cannot be read.
    """
    attempt = 0
    while True:
        attempt += 1
        body = _Body(path, size=size, on_sent=on_sent)
        refusal = await _send(http, link, body)
        if refusal is None:
            return
        outcome, reason = refusal
        pause = http.retries.delay(attempt, outcome, repeatable=True, chance=random.random())  # noqa: S311 - jitter
        if pause is None:
            raise UploadError(f"{path} was not uploaded: {reason}")
        body.take_back()
        await asyncio.sleep(pause)


class _Body:
    """The bytes of one try."""

    def __init__(self, path: Path, *, size: int, on_sent: OnSent | None) -> None:
        self._path = path
        self.size = size
        self._on_sent = on_sent
        self._sent = 0
        self.unreadable: UploadError | None = None
        """Why the file cannot be read; what aiohttp makes of an error in a body does not say so."""

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        try:
            with self._path.open("rb") as file:
                while self._sent < self.size:
                    block = await asyncio.to_thread(file.read, min(_BLOCK, self.size - self._sent))
                    if not block:
                        raise UploadError(f"{self._path} became shorter while it was read")  # noqa: TRY301 - see below
                    yield block
                    self._told(len(block))
        except UploadError as error:
            self.unreadable = error
            raise
        except OSError as error:
            self.unreadable = UploadError(f"{self._path}: {error.strerror}")
            raise

    def _told(self, count: int) -> None:
        self._sent += count
        if self._on_sent is not None:
            self._on_sent(count)

    def take_back(self) -> None:
        """What was sent is sent again."""
        self._told(-self._sent)


async def _send(http: Http, link: UploadLink, body: _Body) -> tuple[Outcome, str] | None:
    """Send it once; return what went wrong."""
    headers = {"Content-Length": str(body.size), "Content-Type": "application/octet-stream"}
    data = body.blocks() if body.size else b""
    try:
        async with http.store_request(link.method, link.url, data=data, headers=headers) as answer:
            if answer.status < HTTPStatus.MULTIPLE_CHOICES:
                return None
            retry_after = parse_retry_after(answer.headers.get("Retry-After"), now=datetime.now(UTC))
            return Refused(status=answer.status, retry_after=retry_after), f"the store answered {answer.status}"
    except FAULTS as error:
        if body.unreadable is not None:
            raise body.unreadable from error
        return fault_of(error), str(error) or type(error).__name__
