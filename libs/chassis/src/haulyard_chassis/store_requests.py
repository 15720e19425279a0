"""Requests to the object store: signed, sent, tried again, and translated when they fail.

They go through one aiohttp session of our own, because the S3 libraries' own uploads buffer, reorder and, after an
exception, complete truncated objects. Bodies stream in both directions with a known length; nothing here holds more
than one chunk.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from haulyard_chassis.client_spans import to_store
from haulyard_chassis.outgoing import Outgoing
from haulyard_chassis.settings import ServiceSettings
from haulyard_chassis.store_errors import StoreUnavailableError, error_of
from haulyard_chassis.store_signing import UNSIGNED, Signer
from haulyard_chassis.store_wire import path_of, query_of, tells_an_error, url_of
from haulyard_chassis.store_xml import NotXmlError

CHUNK = 256 * 1024
"""Bytes that a body is read and written in."""

Body = bytes | AsyncIterator[bytes | memoryview]
"""What is written: bytes, or chunks whose total length is given beside them."""

BROKEN = (aiohttp.ClientError, TimeoutError, OSError)
"""What the HTTP client raises when the store does not answer, or not to the end."""

Result = TypeVar("Result")

_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_CONNECT = 10
_SILENCE = 60
"""Seconds without a byte after which an answer is given up."""
TRIES = 4
FIRST_PAUSE = 0.2
"""Seconds before the second try; doubled for each further one."""


class StoreRequests:
    """Sends requests to one store.

    Args:
        settings: endpoint, region and credentials.
        connections: most requests that are under way at the same time.
    """

    def __init__(self, settings: ServiceSettings, *, connections: int) -> None:
        self._endpoint = settings.s3_endpoint.rstrip("/")
        self._host = urlsplit(self._endpoint).netloc
        self._public_endpoint = (settings.s3_public_endpoint or settings.s3_endpoint).rstrip("/")
        keys = settings.s3_access_key.get_secret_value(), settings.s3_secret_key.get_secret_value()
        self._signer = Signer(*keys, settings.s3_region)
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the session; nothing connects yet."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=30),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_SILENCE),
            auto_decompress=False,  # an object stored with Content-Encoding is archived as it is
            read_bufsize=CHUNK,
            # Not among the signed headers: proxies on the way may change it.
            headers={"Accept-Encoding": "identity"},
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def send(
        self,
        method: str,
        bucket: str,
        key: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body = b"",
        patience: float | None = None,
    ) -> Any:  # aiohttp's request context manager has no public name
        """Send a request once; enter what is returned for the response, whatever its status.

        Raises:
            what is in `BROKEN`
        """
        if self._session is None:
            raise RuntimeError("the store is not open")
        path, encoded = path_of(bucket, key), query_of(query) if query else ""
        if not isinstance(body, bytes):
            digest = UNSIGNED
        elif body:
            digest = hashlib.sha256(body).hexdigest()
        else:
            digest = _EMPTY_SHA256
        signed = self._signer.signed(
            method, path, encoded, {**(headers or {}), "Host": self._host}, digest=digest, now=datetime.now(UTC)
        )
        options: dict[str, Any] = {}
        if patience is not None:
            options["timeout"] = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=patience)
        request = self._session.request(
            method,
            URL(url_of(self._endpoint, path, encoded), encoded=True),
            headers=signed,
            data=body or None,
            allow_redirects=False,
            **options,
        )
        return to_store(request, method, bucket, key, query=query, headers=headers or {})

    async def call(
        self,
        method: str,
        bucket: str,
        key: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        patience: float | None = None,
        fails_late: bool = False,
    ) -> tuple[bytes, Mapping[str, str]]:
        """Send a short request that may be sent twice, and return the answer's body and headers.

        It is tried again while the store is unavailable. ``patience`` is how many seconds the store may be silent;
        ``fails_late`` says that its answer may begin with 200 and tell of an error then.
        """
        what = f"{method} {bucket}/{key}"

        async def once() -> tuple[bytes, Mapping[str, str]]:
            try:
                async with self.send(
                    method, bucket, key, query=query, headers=headers, body=body, patience=patience
                ) as response:
                    answer = await response.read()
            except BROKEN as broken:
                raise StoreUnavailableError(f"{what}: {broken!r}") from broken
            if response.status >= 300:  # noqa: PLR2004
                raise error_of(response.status, answer, what)
            if fails_late and self._told(answer, tells_an_error):
                raise error_of(500, answer, what)
            return answer, response.headers

        return await tried(once)

    async def ask(self, read: Callable[[bytes], Result], method: str, bucket: str, key: str, **request: Any) -> Result:
        """Do as `call`, and return what ``read`` makes of the answer."""
        answer, _ = await self.call(method, bucket, key, **request)
        return self._told(answer, read)

    @staticmethod
    def _told(answer: bytes, read: Callable[[bytes], Result]) -> Result:
        try:
            return read(answer)
        except NotXmlError as error:  # something else than the store, in front of it
            raise StoreUnavailableError(f"the store's answer is {error}") from error

    async def upload(
        self,
        bucket: str,
        key: str,
        body: Body,
        *,
        size: int,
        query: Mapping[str, str],
        headers: Mapping[str, str],
    ) -> str:
        """Send a body of ``size`` bytes once and return the ETag."""
        what = f"PUT {bucket}/{key}"
        source = in_chunks(body) if isinstance(body, bytes) else body
        outgoing: Outgoing | None = None
        try:
            async with asyncio.timeout(None) as deadline:
                outgoing = Outgoing(source, size, deadline)
                async with (
                    aclosing(outgoing),
                    self.send(
                        "PUT", bucket, key, query=query, body=outgoing, headers={**headers, "Content-Length": str(size)}
                    ) as response,
                ):
                    # Not response.read(): it would wait until the rest of the body is sent, and a store that refuses
                    # it may never take it.
                    answer = await response.content.read()
                    if not outgoing.finished:
                        response.close()
        except BROKEN as error:
            if outgoing is not None and outgoing.error is not None:
                raise outgoing.error from error
            raise StoreUnavailableError(f"{what}: {error!r}") from error
        if outgoing.error is not None:
            raise outgoing.error
        if response.status != 200:  # noqa: PLR2004
            raise error_of(response.status, answer, what)
        if not outgoing.finished or "ETag" not in response.headers:
            raise StoreUnavailableError(f"{what}: the store answered before it had the whole body")
        return str(response.headers["ETag"])

    def presign(self, method: str, bucket: str, key: str, *, expires: int, query: Mapping[str, str]) -> str:
        """Return a link that lets anyone do this for ``expires`` seconds."""
        host, path = urlsplit(self._public_endpoint).netloc, path_of(bucket, key)
        signed = self._signer.presigned(method, host, path, query, expires=expires, now=datetime.now(UTC))
        return url_of(self._public_endpoint, path, signed)


async def tried(attempt: Callable[[], Awaitable[Result]]) -> Result:
    """Do what may be done twice, again and again while the store is unavailable."""
    for number in range(TRIES - 1):
        try:
            return await attempt()
        except StoreUnavailableError:
            await asyncio.sleep(FIRST_PAUSE * 2**number)
    return await attempt()


async def in_chunks(data: bytes | bytearray | memoryview) -> AsyncIterator[memoryview]:
    """Yield ``data`` in pieces that do not hold the event loop up."""
    view = memoryview(data)
    for start in range(0, len(view), CHUNK):
        yield view[start : start + CHUNK]
