"""A TCP proxy that makes the way to a server rough: slow, standing still, or breaking off."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

_CHUNK = 64 * 1024


@dataclass
class RoughProxy:
    """One way to one server. What is changed holds for open connections, too."""

    host: str
    port: int
    """Where the server listens."""
    delay: float = 0.0
    """Seconds by which whatever passes is late, in each direction."""
    address: str = ""
    """Where clients connect: host and port."""
    passed: int = 0
    """Bytes."""
    _going: asyncio.Event = field(default_factory=asyncio.Event)
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def stall(self) -> None:
        """Let nothing pass; connections stay open, and new ones are taken and say nothing."""
        self._going.clear()

    def go_on(self) -> None:
        """Let everything pass again, also what was held back."""
        self._going.set()

    def reset_all(self) -> int:
        """Break all connections; return how many there were."""
        broken = list(self._open)
        for writer in broken:
            writer.transport.abort()
        return len(broken)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        self._open.add(writer)
        try:
            with suppress(OSError):
                await self._going.wait()
                upstream, to_upstream = await asyncio.open_connection(self.host, self.port)
                self._open.add(to_upstream)
                try:
                    there = asyncio.create_task(self._pipe(reader, to_upstream))
                    back = asyncio.create_task(self._pipe(upstream, writer))
                    try:
                        await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        there.cancel()
                        back.cancel()
                        await asyncio.gather(there, back, return_exceptions=True)
                finally:
                    self._open.discard(to_upstream)
                    to_upstream.transport.abort()
        except asyncio.CancelledError:
            pass  # the end of the test; asyncio's streams would complain of a cancelled handler
        finally:
            self._open.discard(writer)
            writer.transport.abort()
            if task is not None:
                self._tasks.discard(task)

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self._going.wait()
                writer.write(data)
                self.passed += len(data)
                await writer.drain()

    async def stop(self) -> None:
        """Break everything off."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def rough_proxy(host: str, port: int) -> AsyncIterator[RoughProxy]:
    """Run a proxy on a free port."""
    proxy = RoughProxy(host, port)
    proxy.go_on()
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.stop()
