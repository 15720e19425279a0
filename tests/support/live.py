"""Clients of live updates, as strangers would write them."""

import asyncio
import json
from contextlib import suppress
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed


def ws_url(address: str, job_id: str, **query: object) -> str:
    return f"ws://{address}/ws/jobs/{job_id}?" + "&".join(f"{name}={value}" for name, value in query.items())


async def told(client: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(await asyncio.wait_for(client.recv(), 10))
    return message


async def close_code(client: ClientConnection) -> int | None:
    with suppress(ConnectionClosed):
        while True:
            await told(client)
    return client.close_code


class EventStream:
    """The events of a response, one at a time; comments among them as ``{"comment": …}``."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = aiter(response.aiter_lines())

    async def next(self) -> dict[str, str] | None:
        """Return the next event; None at the end of the stream."""
        event: dict[str, str] = {}
        async with asyncio.timeout(10):
            async for line in self._lines:
                if not line and event:
                    return event
                name, _, value = line.partition(": ")
                event[name or "comment"] = value or line[2:]
        return None

    async def next_message(self) -> dict[str, str]:
        """Return the next event that is no comment."""
        while True:
            event = await self.next()
            assert event is not None
            if "data" in event:
                return event
