"""Files that other servers hold: what they are, and their bytes, exactly or not at all.

A read is only ever of the file that was looked at: each range carries ``If-Range`` with a strong validator, so that an
origin whose file has changed answers with all of it (200), and that is an error here. Lengths are counted. Bodies are
asked for as they are, without a content coding, and an origin that sends one anyway is refused. Redirects are not
followed: where they lead, nobody has allowed.

Source: RFC 9110, sections 8.8 (validators), 13.1.5 (If-Range), 14 (ranges).
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

import aiohttp

from haulyard_chassis.client_spans import to_origin
from haulyard_chassis.egress import Networks, UnsafeUrlError, egress_session
from haulyard_chassis.source_urls import check_source_url

__all__ = [
    "Origin",
    "OriginChangedError",
    "OriginDeniedError",
    "OriginError",
    "OriginInfo",
    "OriginNotFoundError",
    "OriginUnavailableError",
    "UnsafeUrlError",
    "check_source_url",
    "origin_session",
]

CHUNK = 256 * 1024
"""Bytes that are read at a time, at most."""

_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=15.0, sock_connect=10.0, sock_read=30.0)
"""A file may take as long as it takes, as long as something comes."""
_LOOK = 30.0
"""Seconds that looking at a file may take."""
_STRONG_AFTER = 60.0
"""Seconds that a modification must be past before its time tells two versions apart (RFC 9110, section 8.8.2.2)."""

_CONTENT_RANGE = re.compile(r"bytes (?:(?P<first>\d{1,19})-(?P<last>\d{1,19})|\*)/(?P<size>\d{1,19}|\*)")
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')
_IDENTITY = {"Accept-Encoding": "identity", "User-Agent": "Haulyard"}
_ONE_BYTE = {"Range": "bytes=0-0"}

_OK, _PARTIAL = 200, 206
_REDIRECTS = range(300, 400)
_DENIED = (401, 403, 407, 451)
_GONE = (404, 410)
_NO_SUCH_RANGE = 416
_HEAD_REFUSED = frozenset({400, 403, 405, 406, 500, 501})
"""Answers to HEAD that say nothing of GET: links that are signed for GET only, servers that do not know HEAD."""
_NETWORK = (aiohttp.ClientError, TimeoutError, OSError)


class OriginError(Exception):
    """The file cannot be had from its origin."""


class OriginNotFoundError(OriginError):
    """The origin has no such file (404, 410); trying again is no use."""


class OriginDeniedError(OriginError):
    """The origin does not give it to us (401, 403), or not as plain bytes; trying again is no use.

    Also: by a redirect, in a content coding, without saying where it ends.
    """


class OriginChangedError(OriginError):
    """It is not the file any more that was looked at."""


class OriginUnavailableError(OriginError):
    """The origin is away, overloaded or broke off; trying again may help.

    Args:
        message: what happened.
        retry_after: seconds that the origin asks to wait.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginInfo:
    """A file at its origin."""

    size: int | None
    """Bytes; None: the origin does not say."""
    validator: str | None
    """A strong ETag or a time of modification, to be given back as it is; None: two versions cannot be told apart."""
    ranges: bool
    """Whether parts of it can be read, and be told to be of this version; None of it is true without a validator."""
    modified: int | None
    """Unix time of the last modification."""
    content_type: str | None


def origin_session(networks: Networks = ()) -> aiohttp.ClientSession:
    """Return a session for an `Origin`; ``networks`` may be reached although they are not public."""
    return egress_session(networks=networks, timeout=_TIMEOUT, keep_alive=True)


def _unix_time(value: str | None) -> int | None:
    try:
        parsed = parsedate_to_datetime(value) if value else None
    except (ValueError, OverflowError):
        return None
    if parsed is None:
        return None
    return int((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp())


def validator_of(headers: Mapping[str, str]) -> str | None:
    """Return what tells this version of a file from every other, or None if nothing does for sure."""
    etag = headers.get("ETag", "")
    if _STRONG_ETAG.fullmatch(etag):
        return etag
    if etag:
        return None  # a weak one: the origin itself says that different bytes may look the same
    modified, now = _unix_time(headers.get("Last-Modified")), _unix_time(headers.get("Date"))
    if modified is None or now is None or now - modified < _STRONG_AFTER:
        return None
    return headers["Last-Modified"]


def _content_range(headers: Mapping[str, str]) -> tuple[int | None, int | None, int | None]:
    """Return first and last byte, and the size of the whole; None for what is not said."""
    match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if match is None:
        return None, None, None
    first, last, size = (int(text) if text and text != "*" else None for text in match.group("first", "last", "size"))
    return first, last, size


def _retry_after(headers: Mapping[str, str]) -> float | None:
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit() and len(value) < 10:  # noqa: PLR2004 - more digits than any wait
        return float(value)
    at = _unix_time(value)
    return None if at is None else max(0.0, at - datetime.now(UTC).timestamp())


def _length(headers: Mapping[str, str]) -> int | None:
    value = headers.get("Content-Length", "")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 20 else None  # noqa: PLR2004 - 64 bits


def _refuse(status: int, headers: Mapping[str, str]) -> NoReturn:
    """Raise what an answer without the file means."""
    if status in _GONE:
        raise OriginNotFoundError(f"the origin has no such file ({status})")
    if status in _DENIED:
        raise OriginDeniedError(f"the origin does not give it to us ({status})")
    if status in _REDIRECTS:
        raise OriginDeniedError(f"the origin redirects ({status}), which is not followed")
    if status >= 500 or status in (408, 425, 429):  # noqa: PLR2004 - server errors, and those that ask to wait
        raise OriginUnavailableError(f"the origin answered {status}", retry_after=_retry_after(headers))
    raise OriginDeniedError(f"the origin answered {status}")


def _check_plain(headers: Mapping[str, str]) -> None:
    coding = headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise OriginDeniedError("the origin sends it in a content coding that was not asked for")


def _info(headers: Mapping[str, str], *, size: int | None, ranges: bool) -> OriginInfo:
    validator = validator_of(headers)
    return OriginInfo(
        size=size,
        validator=validator,
        ranges=ranges and validator is not None and size is not None,
        modified=_unix_time(headers.get("Last-Modified")),
        content_type=headers.get("Content-Type"),
    )


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    """Turn the HTTP client's errors into ours; those are not for the file's owner to read."""
    try:
        yield
    except aiohttp.InvalidURL as error:
        raise UnsafeUrlError("is not a URL") from error
    except _NETWORK as error:
        raise OriginUnavailableError(f"the origin cannot be read: {type(error).__name__}") from error


class Origin:
    """Reads files at their origins.

    Args:
        session: made by `origin_session`; it is the caller's to close. Each URL was checked by `check_source_url`.
    """

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def head(self, url: str) -> OriginInfo:
        """Look at a file: by HEAD, and by asking for its first byte to see whether ranges can be had.

        Raises:
            OriginNotFoundError
            OriginDeniedError
            OriginUnavailableError
            UnsafeUrlError
        """
        async with _translated(), asyncio.timeout(_LOOK):
            async with self._request("HEAD", url, _IDENTITY) as response:
                headers = response.headers
                if response.status == _OK:
                    _check_plain(headers)
                    info = _info(headers, size=_length(headers), ranges=False)
                    no_use = headers.get("Accept-Ranges", "").strip().lower() == "none" or info.size == 0
                    if no_use:
                        return info
                elif response.status not in _HEAD_REFUSED:
                    _refuse(response.status, headers)
            return await self._first_byte(url)

    async def _first_byte(self, url: str) -> OriginInfo:
        """Look at a file by GET; whatever this answer says counts, as it is what reads will get."""
        async with self._request("GET", url, _IDENTITY | _ONE_BYTE) as response:
            headers = response.headers
            first, last, size = _content_range(headers)
            if response.status == _NO_SUCH_RANGE and size == 0:
                return _info(headers, size=0, ranges=False)
            if response.status == _PARTIAL:
                _check_plain(headers)
                whole = (first, last) == (0, 0) and len(await response.content.read(2)) == 1
                return _info(headers, size=size, ranges=whole)
            if response.status != _OK:
                _refuse(response.status, headers)
            _check_plain(headers)
            # All of it is on its way: leaving the block without reading it closes the connection.
            response.close()
            return _info(headers, size=_length(headers), ranges=False)

    @asynccontextmanager
    async def read(
        self, url: str, *, validator: str, offset: int, length: int, size: int | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Read ``length`` bytes from ``offset`` on, of the version that ``validator`` names.

        What is iterated over has exactly that many bytes, or raises.

        Args:
            url: the file.
            validator: of the version that is wanted.
            offset: of the first byte.
            length: how many bytes.
            size: of the whole file, if it is known: one more thing by which to notice a change.

        Raises:
            OriginChangedError: there is another version now.
            OriginNotFoundError
            OriginDeniedError
            OriginUnavailableError: also when the bytes end too early.
            UnsafeUrlError
        """
        if length == 0:
            yield _nothing()
            return
        last = offset + length - 1
        headers = _IDENTITY | {"Range": f"bytes={offset}-{last}", "If-Range": validator}
        async with self._get(url, headers) as response:
            if response.status in (_OK, _NO_SUCH_RANGE):
                raise OriginChangedError("the file has changed at its origin")
            if response.status != _PARTIAL:
                _refuse(response.status, response.headers)
            _check_plain(response.headers)
            found = validator_of(response.headers)
            if found is not None and found != validator:
                raise OriginChangedError("the file has changed at its origin")
            first, end, whole = _content_range(response.headers)
            if size is not None and whole not in (None, size):
                raise OriginChangedError("the file has another size at its origin")
            if (first, end) != (offset, last):
                raise OriginUnavailableError("the origin sends another range than was asked for")
            yield _exactly(response, length)

    @asynccontextmanager
    async def read_all(self, url: str, *, validator: str | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        """Read a whole file, for origins that have no ranges.

        What is iterated over is all of it, or raises: an origin that does not say where its file ends is refused,
        because then a file that was cut off looks like a whole one.

        Args:
            url: the file.
            validator: of the version that is wanted; None: whichever it is.

        Raises:
            OriginChangedError: there is another version now.
            OriginNotFoundError
            OriginDeniedError
            OriginUnavailableError: also when the bytes end too early.
            UnsafeUrlError
        """
        async with self._get(url, _IDENTITY) as response:
            if response.status != _OK:
                _refuse(response.status, response.headers)
            _check_plain(response.headers)
            if validator is not None and validator_of(response.headers) != validator:
                raise OriginChangedError("the file has changed at its origin")
            length = _length(response.headers)
            if length is None and "chunked" not in response.headers.get("Transfer-Encoding", "").lower():
                raise OriginDeniedError("the origin does not say where the file ends")
            yield _exactly(response, length)

    @asynccontextmanager
    async def _get(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        async with AsyncExitStack() as opened:
            async with _translated():
                response = await opened.enter_async_context(self._request("GET", url, headers))
            try:
                yield response
            finally:
                # What was not read to its end cannot be read by the next one: only a finished connection is kept.
                response.close() if not response.content.is_eof() else response.release()

    def _request(self, method: str, url: str, headers: Mapping[str, str]) -> Any:  # its manager has no public name
        return to_origin(self._session.request(method, url, headers=headers, allow_redirects=False), method, url)


async def _nothing() -> AsyncIterator[bytes]:
    none: tuple[bytes, ...] = ()
    for chunk in none:
        yield chunk


async def _exactly(response: aiohttp.ClientResponse, length: int | None) -> AsyncIterator[bytes]:
    """Yield a body, and raise if it has another length than it should; None: as long as the chunked coding says."""
    seen = 0
    while True:
        async with _translated():
            chunk = await response.content.read(CHUNK)
        if not chunk:
            break
        seen += len(chunk)
        if length is not None and seen > length:
            raise OriginUnavailableError(f"the origin sends more than the {length} bytes that it announced")
        yield chunk
    if length is not None and seen != length:
        raise OriginUnavailableError(f"the origin broke off after {seen} of {length} bytes")
