"""Requests to the API: the token, the tries, and answers as values or typed errors."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from importlib import metadata
from typing import Any, TypeVar

import aiohttp
import msgspec
from yarl import URL

from haulyard.configuration import Configuration
from haulyard.errors import ApiError, ConnectionFailedError, UnexpectedAnswerError
from haulyard.retrying import Fault, Outcome, Refused, RetryPolicy, parse_retry_after

T = TypeVar("T")

USER_AGENT = f"haulyard-python/{metadata.version('haulyard')}"

_MAX_ANSWER = 64 * 1024 * 1024
"""Bytes; no answer of the API is nearly as large."""
_CHUNK = 1024 * 1024
"""Bytes that a connection reads ahead at most."""


FAULTS = (OSError, aiohttp.ClientError)
"""What a connection that fails raises; time-outs are among the first."""


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """How long the client waits, in seconds."""

    connect: float = 10.0
    read: float = 30.0
    """Without a byte from the other side."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A successful answer, read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def decode(self, kind: type[T]) -> T:
        """Return the body as a value.

        Raises:
            UnexpectedAnswerError: it is none of this kind.
        """
        try:
            return msgspec.json.decode(self.body, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise UnexpectedAnswerError(f"The answer is not what this API answers: {error}") from error


class Http:
    """Connections to the API and to the store. Used by one event loop; close it with `close`.

    Args:
        configuration: the server and the token.
        retries: when requests are tried again.
        timeouts: how long to wait.
    """

    def __init__(self, configuration: Configuration, *, retries: RetryPolicy, timeouts: Timeouts) -> None:
        self.configuration = configuration
        self.retries = retries
        self._timeouts = timeouts
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """Connections to anywhere, without the token; proxies are taken from the environment."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={"User-Agent": USER_AGENT},
                timeout=self.timeout(),
                trust_env=True,
                read_bufsize=_CHUNK,
                # Links are signed as they are: nothing may write them anew. Cookies are not part of this API.
                requote_redirect_url=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=True,
                connector=aiohttp.TCPConnector(limit=0),
            )
        return self._session

    def timeout(self, *, extra: float = 0.0) -> aiohttp.ClientTimeout:
        """Return time-outs of a request, for the answer to which ``extra`` seconds more are waited."""
        return aiohttp.ClientTimeout(
            total=None, sock_connect=self._timeouts.connect, sock_read=self._timeouts.read + extra
        )

    @property
    def authorization(self) -> dict[str, str]:
        """The header that says who is asking; for the API's own address only."""
        return {"Authorization": f"Bearer {self.configuration.token}"}

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = True,
        hold: float = 0.0,
    ) -> Answer:
        """Ask the API, several times if need be.

        Args:
            method: of HTTP.
            path: below the base URL.
            query: parameters.
            body: what becomes the JSON body; None for none.
            headers: more headers.
            repeatable: whether it does no harm if the server gets the request twice.
            hold: seconds for which the server may hold the answer back.

        Raises:
            ApiError: the answer is an error.
            ConnectionFailedError: there was none.
        """
        attempt = 0
        while True:
            attempt += 1
            error: Exception
            try:
                return await self._once(method, path, query=query, body=body, headers=headers or {}, hold=hold)
            except ApiError as refused:
                error = refused
                outcome: Outcome = Refused(status=refused.status, retry_after=refused.retry_after)
            except FAULTS as broken:
                error = connection_failed(self.configuration.url, broken)
                if isinstance(broken, aiohttp.ClientConnectorCertificateError | aiohttp.InvalidURL):
                    raise error from broken
                outcome = fault_of(broken)
            pause = self.retries.delay(attempt, outcome, repeatable=repeatable, chance=random.random())  # noqa: S311
            if pause is None:
                raise error
            await asyncio.sleep(pause)

    async def _once(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None,
        body: Any,
        headers: Mapping[str, str],
        hold: float,
    ) -> Answer:
        sent = {"Accept": "application/json, application/problem+json", **self.authorization, **headers}
        data = None
        if body is not None:
            data = msgspec.json.encode(body)
            sent["Content-Type"] = "application/json"
        async with self.session.request(
            method,
            self.configuration.url + path,
            params=query,
            data=data,
            headers=sent,
            # Whoever redirects us is not the API, and would see the token.
            allow_redirects=False,
            timeout=self.timeout(extra=hold),
        ) as answer:
            content = await _read(answer)
            if answer.status >= HTTPStatus.BAD_REQUEST:
                raise api_error(answer, content)
            if answer.status >= HTTPStatus.MULTIPLE_CHOICES and answer.status != HTTPStatus.NOT_MODIFIED:
                where = answer.headers.get("Location", "somewhere else")
                raise UnexpectedAnswerError(f"{self.configuration.url} sends us to {where}; is the address right?")
            return Answer(status=answer.status, headers=answer.headers, body=content)

    @asynccontextmanager
    async def store_request(
        self, method: str, url: str, *, data: Any = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask the object store, once, with nothing of ours in it but the link."""
        # A signed link must arrive byte for byte, and a range of it must not be compressed on the way.
        async with self.session.request(
            method, URL(url, encoded=True), data=data, headers={"Accept-Encoding": "identity", **(headers or {})}
        ) as answer:
            yield answer


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in answer.content.iter_any():
        content += chunk
        if len(content) > _MAX_ANSWER:
            raise UnexpectedAnswerError("The answer is larger than any answer of this API.")
    return bytes(content)


def api_error(answer: aiohttp.ClientResponse, content: bytes) -> ApiError:
    """Return the error that an answer is."""
    return ApiError.from_answer(
        answer.status,
        answer.headers.get("Content-Type", ""),
        content,
        retry_after=parse_retry_after(answer.headers.get("Retry-After"), now=datetime.now(UTC)),
    )


def fault_of(error: Exception) -> Fault:
    """Return how far a request got that ended with ``error``."""
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return Fault.NOT_SENT
    return Fault.CUT


def connection_failed(url: str, error: Exception) -> ConnectionFailedError:
    """Return our error for one of the connection's."""
    reason = str(error) or type(error).__name__
    failed = ConnectionFailedError(f"{url} cannot be reached: {reason}")
    failed.__cause__ = error
    return failed
