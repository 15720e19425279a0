"""An HTTP proxy that breaks or stops connections in the middle of answers; clients come to it by ``HTTP_PROXY``.

As a forward proxy it leaves the address of the request as it is, so signed links stay good.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_HEAD = 64 * 1024


@dataclass
class CuttingProxy:
    """What the proxy does."""

    url: str = ""
    cut_after: deque[int] = field(default_factory=deque)
    """Bytes of its answer after which each of the next connections breaks; then none does."""
    stop_after: int | None = None
    """Bytes of its answer after which a connection stands still."""
    connections: int = 0
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a connection stands still."""
    open: set[asyncio.StreamWriter] = field(default_factory=set)

    def cut_all(self) -> None:
        """Break what is open now."""
        for writer in self.open:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one request to where it wants to go."""
        self.connections += 1
        limit = self.cut_after.popleft() if self.cut_after else None
        self.open.add(writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._carry(reader, writer, limit)
        finally:
            self.open.discard(writer)
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, url, rest = head.split(b" ", 2)
        target = urlsplit(url.decode())
        path = url.decode().partition(target.netloc)[2] or "/"
        upstream, to_upstream = await asyncio.open_connection(target.hostname, target.port)
        first, _, fields = rest.partition(b"\r\n")
        if b"upgrade: websocket" not in fields.lower():
            # One request a connection, so that each answer can be cut by itself.
            kept = [line for line in fields.split(b"\r\n") if line and not line.lower().startswith(b"connection:")]
            fields = b"\r\n".join([*kept, b"Connection: close", b"", b""])
        to_upstream.write(b" ".join([method, path.encode(), first]) + b"\r\n" + fields)
        back = asyncio.create_task(_pipe(reader, to_upstream))
        try:
            sent = 0
            while data := await upstream.read(16 * 1024):
                if limit is not None and sent + len(data) >= limit:
                    writer.write(data[: limit - sent])
                    await writer.drain()
                    return
                if self.stop_after is not None and sent + len(data) > self.stop_after:
                    self.stopped.set()
                    await asyncio.Event().wait()
                writer.write(data)
                sent += len(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()
        finally:
            back.cancel()
            to_upstream.transport.abort()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(64 * 1024):
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def cutting_proxy() -> AsyncIterator[CuttingProxy]:
    """Run a proxy on a free port."""
    proxy = CuttingProxy()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await proxy.serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()  # the end of the test; asyncio's streams would complain of a cancelled handler
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=_HEAD)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
