"""Sending an archive: as fast as the client takes it, until it has gone or all of it is sent.

When the rest cannot be had, the answer ends before its ``Content-Length`` is reached and the connection is closed:
that is how HTTP/1.1 tells a client that what it has is not all (RFC 9112, section 8). It can then go on from there, if
the archive is still the same.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from litestar import Response
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

from haulyard_chassis.logs import get_logger
from haulyard_chassis.problems import JobNotReadyError, ProblemError, UnavailableError
from haulyard_chassis.store import StoreUnavailableError
from haulyard_chassis.tasks import cancel_and_wait
from haulyard_gateway.archive_bytes import BrokenOffError
from haulyard_gateway.headers import RETRY_AFTER, retry_after

log = get_logger(__name__)

OpenContent = Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]
"""Opens the content; when that is entered, the first of it is there."""


class ArchiveResponse(Response[bytes]):
    """An answer whose content is opened when it is sent.

    Args:
        content: opens what is sent.
        status: of the answer.
        headers: of the answer, ``Content-Length`` among them.
        stall: seconds that the client may take for one chunk.
    """

    __slots__ = ("_open", "_stall")

    def __init__(self, content: OpenContent, *, status: int, headers: Mapping[str, str], stall: float) -> None:
        super().__init__(b"", status_code=status, headers=headers)
        self._open = content
        self._stall = stall

    def to_asgi_response(self, app: Any, request: Any, **_: Any) -> ASGIResponse:  # noqa: ARG002 - the framework's
        """Return what sends it."""
        return _Sending(self._open, status=self.status_code or 200, headers=self.headers, stall=self._stall)


class _Sending(ASGIResponse):
    __slots__ = ("_begun", "_open", "_stall")

    def __init__(self, content: OpenContent, *, status: int, headers: dict[str, str], stall: float) -> None:
        super().__init__(status_code=status, headers=headers, media_type=headers["Content-Type"])
        self._open = content
        self._stall = stall
        self._begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's
        """Send it, unless the client goes away."""
        sending = asyncio.create_task(self._send(send), name="archive stream")
        gone = asyncio.create_task(_disconnected(receive), name="archive stream's client")
        try:
            await asyncio.wait((sending, gone), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            await cancel_and_wait(sending, gone)

    async def _send(self, send: Send) -> None:
        try:
            async with self._open() as chunks:
                async for chunk in chunks:
                    if not self._begun:
                        await self.start_response(send)
                        self._begun = True
                    await self._put(chunk, send)
        except BrokenOffError as error:
            log.warning("archive stream broken off", error=str(error))
            if not self._begun:
                raise _problem(error) from error
        except _StalledError:
            log.info("archive stream broken off", error=f"the client took nothing for {self._stall:.0f} s")
        else:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _put(self, chunk: bytes, send: Send) -> None:
        try:
            # The server waits here while the client does not take what it was sent before.
            async with asyncio.timeout(self._stall):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except TimeoutError as error:
            raise _StalledError from error


class _StalledError(Exception):
    """The client takes nothing."""


def _problem(error: BrokenOffError) -> ProblemError:
    """Return what a client is told when not even the first bytes can be had."""
    if isinstance(error.__cause__, StoreUnavailableError):
        return UnavailableError("The object store cannot be reached at the moment. Try again.")
    return JobNotReadyError(
        f"A file cannot be read as it was; ask again in {RETRY_AFTER} seconds.", headers=retry_after()
    )


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
