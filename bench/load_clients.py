"""Clients of the load tests, as lean as there can be: they share the machine with what they measure."""

import asyncio
import json
import random
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from urllib.parse import SplitResult, urlsplit

import msgspec

_ENDS = frozenset({"completed", "error"})
_ENDED = frozenset({"cancelled", "expired"})
_PAUSE = 1.0
"""Seconds before a connection that was lost is made again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for a request."""

    status: int
    body: bytes
    seconds: float
    """From the first byte sent to the last one received."""
    to_first_byte: float

    def json(self) -> Any:
        """Return the body."""
        return json.loads(self.body)


class Lane:
    """One HTTP/1.1 connection that is kept, and one request at a time on it.

    Args:
        base_url: scheme, host and port.
        headers: sent with each request.
    """

    def __init__(self, base_url: str, headers: dict[str, str] | None = None) -> None:
        self._place = urlsplit(base_url)
        lines = {"Host": self._place.netloc, **(headers or {})}
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in lines.items()).encode()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(self, method: str, target: str, body: bytes = b"") -> Answer:
        """Send a request and take the answer in.

        Raises:
            OSError, EOFError: the connection broke; the next request makes a new one.
        """
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._place.hostname, self._place.port)
        reader, writer = self._streams
        head = f"{method} {target} HTTP/1.1\r\n".encode() + self._headers
        if body:
            head += b"Content-Type: application/json\r\n"
        started = time.perf_counter()
        try:
            writer.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            first = time.perf_counter()
            status, length = _head_of(answer)
            content = await reader.readexactly(length)
        except BaseException:
            self.close()
            raise
        return Answer(status, content, time.perf_counter() - started, first - started)

    def close(self) -> None:
        """Drop the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def _head_of(head: bytes) -> tuple[int, int]:
    """Return the status and the length of the body; all our servers, and the store, tell it."""
    first, *lines = head.split(b"\r\n")
    lengths = [line.partition(b":")[2] for line in lines if line[:15].lower() == b"content-length:"]
    status = int(first.split(b" ", 2)[1])
    return status, int(lengths[0]) if lengths else 0


class _Told(msgspec.Struct):
    type: str
    timestamp: datetime
    status: str | None = None


@dataclass
class Watched:
    """What all watchers together were told."""

    latencies: list[float]
    """Seconds from a change in the record to the message that tells of it; first messages, which tell how it was
    before somebody watched, left out."""
    messages: int = 0
    broken: int = 0
    """Connections that had to be made again."""


class _Socket(asyncio.Protocol):
    """A WebSocket (RFC 6455): text from the server, pongs to it, nothing else."""

    def __init__(self, request: bytes, is_last: Callable[[bytes], bool]) -> None:
        self._request = request
        self._is_last = is_last
        self._buffer = b""
        self._is_open = False
        self._transport: asyncio.Transport | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._is_open:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            if b" 101 " not in head.partition(b"\r\n")[0]:
                self.close()
                return
            self._is_open, self._buffer = True, rest
        while (frame := self._frame()) is not None:
            opcode, payload = frame
            if opcode == 8 or (opcode == 1 and self._is_last(payload)):
                self.close()
            elif opcode == 9 and self._transport is not None:  # a pong, with a mask of zeroes
                self._transport.write(bytes((0x8A, 0x80 | len(payload))) + bytes(4) + payload)

    def _frame(self) -> tuple[int, bytes] | None:
        """Take the next frame, if all of it is there; servers do not mask them, and ours does not split them."""
        if len(self._buffer) < 2:
            return None
        length, start = self._buffer[1], 2
        if length == 126:
            length, start = int.from_bytes(self._buffer[2:4], "big"), 4
        if length == 127:
            raise ValueError("a message of 64 KiB")
        if len(self._buffer) < start + length:
            return None
        frame = self._buffer[0] & 15, self._buffer[start : start + length]
        self._buffer = self._buffer[start + length :]
        return frame

    def connection_lost(self, _: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def watch(url: str, watched: Watched, connecting: asyncio.Semaphore, told: asyncio.Event) -> str:
    """Watch a job until it is over, connecting again when the connection is lost; return how it ended.

    Args:
        url: of the WebSocket, with its ticket.
        watched: takes what is seen.
        connecting: keeps handshakes to so many at a time.
        told: set with the first message.
    """
    place = urlsplit(url)
    request = _upgrade(place)
    ended: list[str] = []

    def is_last(payload: bytes) -> bool:
        message = msgspec.json.decode(payload, type=_Told)
        watched.messages += 1
        if told.is_set():
            watched.latencies.append(time.time() - message.timestamp.timestamp())
        told.set()
        if message.type in _ENDS or message.status in _ENDED:
            ended.append("failed" if message.type == "error" else message.status or message.type)
        return bool(ended)

    while True:
        with suppress(OSError):
            async with connecting:
                _, socket = await asyncio.get_running_loop().create_connection(
                    lambda: _Socket(request, is_last), place.hostname or "", place.port or 80
                )
            await socket.closed
        if ended:
            return ended[0]
        watched.broken += 1
        await asyncio.sleep(_PAUSE * random.uniform(0.5, 1.5))


def _upgrade(place: SplitResult) -> bytes:
    key = b64encode(random.randbytes(16)).decode()
    return (
        f"GET {place.path}?{place.query} HTTP/1.1\r\nHost: {place.netloc}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ).encode()
