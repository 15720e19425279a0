"""An archive in the store, read by ranges: a cut connection goes on where it was, a link that expires is renewed."""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

import aiohttp

from haulyard.errors import DownloadError
from haulyard.http import FAULTS, Http, fault_of
from haulyard.models import ArchiveLink
from haulyard.retrying import Fault, Outcome, Refused, RetryPolicy, parse_retry_after
from haulyard.transfer.partial import Identity
from haulyard.transfer.ranges import parse_content_range

_EARLY = timedelta(seconds=30)
"""How long before its end a link is renewed; a request that begins in time is served to its end."""
_LINK_REFUSED = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.GONE}
)
"""How stores answer when a link has expired or its object is gone; the API knows which it is."""
_BLOCK = 1024 * 1024
"""Bytes that are handed on at once at least, but for the last ones of a connection."""

GetLink = Callable[[], Awaitable[ArchiveLink]]


class ArchiveChangedError(Exception):
    """The store has another archive now than the one of which we have bytes: begin anew."""


class _TryFailed(Exception):  # noqa: N818 - never leaves this module
    """One request gave not all that was asked for."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome


class _Patience:
    """Counts failures since the last success, and waits between them."""

    def __init__(self, retries: RetryPolicy) -> None:
        self._retries = retries
        self._failures = 0
        self._renewed = False

    def worked(self) -> None:
        self._failures, self._renewed = 0, False

    async def failed(self, failure: _TryFailed) -> bool:
        """Wait before the next try; return whether that needs another link.

        Raises:
            DownloadError: there is no use in trying again.
        """
        outcome = failure.outcome
        if isinstance(outcome, Refused) and outcome.status in _LINK_REFUSED and not self._renewed:
            self._renewed = True
            return True
        self._failures += 1
        pause = self._retries.delay(self._failures, outcome, repeatable=True, chance=random.random())  # noqa: S311
        if pause is None:
            raise DownloadError(f"The object store: {failure}") from failure
        await asyncio.sleep(pause)
        return False


class RemoteArchive:
    """The archive of one job, in the store.

    Args:
        http: connections.
        get_link: asks the API for a link.
    """

    def __init__(self, http: Http, get_link: GetLink) -> None:
        self._http = http
        self._get_link = get_link
        self._link: ArchiveLink | None = None
        self._asking = asyncio.Lock()
        self.has_ranges = True
        """Whether the store gives parts of the archive; known once it was identified."""

    async def link(self, *, instead_of: ArchiveLink | None = None) -> ArchiveLink:
        """Return a link that is good for a while.

        Args:
            instead_of: a link that was refused.

        Raises:
            ApiError: there is nothing to download, or not any more.
        """
        async with self._asking:  # many connections notice the end of a link at once; one asks
            link = self._link
            if link is None or link is instead_of or link.expires_at - _EARLY <= datetime.now(UTC):
                link = self._link = await self._get_link()
            return link

    async def identify(self) -> Identity:
        """Return which archive it is: ask the store for its first byte, which comes with size and ETag.

        Raises:
            ApiError, ConnectionFailedError: the API gives no link.
            DownloadError: the store does not have what the API says.
        """
        patience, refused = _Patience(self._http.retries), None
        while True:
            link = await self.link(instead_of=refused)
            try:
                identity = await self._probe(link)
            except _TryFailed as failure:
                refused = link if await patience.failed(failure) else None
                continue
            if link.size_bytes is not None and identity.size != link.size_bytes:
                raise DownloadError(
                    f"The store has {identity.size} bytes for {link.job_id}, and there should be {link.size_bytes}"
                )
            return identity

    async def _probe(self, link: ArchiveLink) -> Identity:
        try:
            async with self._http.store_request("GET", link.download_url, headers={"Range": "bytes=0-0"}) as answer:
                _check(answer)
                found = parse_content_range(answer.headers.get("Content-Range"))
                self.has_ranges = answer.status == HTTPStatus.PARTIAL_CONTENT and found is not None
                size = found[1] if self.has_ranges and found is not None else answer.content_length
                if size is None:
                    raise DownloadError("The object store does not say how large the archive is")
                return Identity(job_id=link.job_id, size=size, etag=answer.headers.get("ETag", ""))
        except FAULTS as error:
            raise _TryFailed(fault_of(error), str(error) or type(error).__name__) from error

    async def read(self, identity: Identity, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from ``start`` to before ``end``, in order, over as many connections as it takes.

        Raises:
            ArchiveChangedError: the store has another archive now.
            ApiError, ConnectionFailedError: the API gives no link any more.
            DownloadError: the store does not give the bytes.
        """
        patience, refused = _Patience(self._http.retries), None
        while start < end:
            link = await self.link(instead_of=refused)
            refused = None
            try:
                async for block in self._blocks(link, identity, start, end):
                    start += len(block)
                    patience.worked()
                    yield block
            except _TryFailed as failure:
                refused = link if await patience.failed(failure) else None

    async def _blocks(self, link: ArchiveLink, identity: Identity, start: int, end: int) -> AsyncGenerator[bytes, None]:
        headers = {"Range": f"bytes={start}-{end - 1}"}
        if identity.etag.startswith('"'):  # weak tags are not allowed here (RFC 9110 section 13.1.5)
            headers["If-Range"] = identity.etag
        block = bytearray()
        left = end - start
        broken: Exception | None = None
        try:
            async with self._http.store_request("GET", link.download_url, headers=headers) as answer:
                _check(answer)
                _check_same(answer, identity, start, end)
                async for chunk in answer.content.iter_any():
                    block += chunk[: left - len(block)]
                    if len(block) >= min(_BLOCK, left):
                        yield bytes(block)
                        left -= len(block)
                        block.clear()
        except FAULTS as error:
            broken = error
        if block:
            yield bytes(block)
            left -= len(block)
        if broken is not None:
            raise _TryFailed(fault_of(broken), str(broken) or type(broken).__name__) from broken
        if left:
            raise _TryFailed(Fault.CUT, "the answer ended too early")


def _check(answer: aiohttp.ClientResponse) -> None:
    if answer.status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        return
    if answer.status in (HTTPStatus.PRECONDITION_FAILED, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
        raise ArchiveChangedError
    retry_after = parse_retry_after(answer.headers.get("Retry-After"), now=datetime.now(UTC))
    raise _TryFailed(
        Refused(status=answer.status, retry_after=retry_after), f"it answered {answer.status} {answer.reason or ''}"
    )


def _check_same(answer: aiohttp.ClientResponse, identity: Identity, start: int, end: int) -> None:
    """Make sure that what comes are the bytes that were asked for, of the same archive."""
    if answer.headers.get("ETag", "") != identity.etag:
        raise ArchiveChangedError
    if answer.status == HTTPStatus.OK:
        if (start, end) != (0, answer.content_length):
            raise ArchiveChangedError
    elif parse_content_range(answer.headers.get("Content-Range")) != ((start, end), identity.size):
        raise ArchiveChangedError
