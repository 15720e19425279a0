"""A receiver of webhooks, of the simplest kind."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Hooks:
    """What was heard."""

    url: str = ""
    heard: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    """By path: the ids of the messages about each job."""
    requests: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one request."""
        with suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = head.split("\r\n")
            path = lines[0].split(" ")[1].strip("/")
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            body = json.loads(await reader.readexactly(int(fields["content-length"])))
            self.requests += 1
            self.heard.setdefault(path, {}).setdefault(body["job_id"], set()).add(fields["webhook-id"])
            writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            await writer.drain()
        writer.close()


@asynccontextmanager
async def hooks() -> AsyncIterator[Hooks]:
    """Listen on a free port."""
    found = Hooks()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield found
    finally:
        server.close()
