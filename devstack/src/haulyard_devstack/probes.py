"""Questions asked of a starting server: one short connection each, no client library."""

import asyncio
import contextlib
from urllib.parse import urlsplit

from haulyard_devstack.ports import LOOPBACK


async def http_status(url: str) -> int:
    """Return the status of a GET."""
    parts = urlsplit(url)
    port = parts.port or 80
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    reader, writer = await asyncio.open_connection(parts.hostname, port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {parts.hostname}:{port}\r\nConnection: close\r\n\r\n".encode())
        line = await reader.readline()
        await reader.read()  # hanging up in the middle of a body makes some servers log an error
        words = line.split()
        return int(words[1]) if len(words) > 1 and words[0].startswith(b"HTTP/") else 0
    finally:
        await _close(writer)


async def http_ok(url: str) -> bool:
    """Say whether a GET answers 200."""
    return await http_status(url) == 200  # noqa: PLR2004


async def redis_pong(port: int, password: str) -> bool:
    """Say whether a Redis-like server takes this password and has its data loaded."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    try:
        writer.write(f"AUTH {password}\r\nPING\r\n".encode())
        return [await reader.readline(), await reader.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
    finally:
        await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):  # the server hung up first
        await writer.wait_closed()
