"""A real job followed on two notifiers, of which one is killed in the middle."""

import asyncio
import json
import random
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from haulyard_devstack import Stack
from support.client import ApiClient

pytestmark = pytest.mark.timeout(180)

MIB = 1024 * 1024


@asynccontextmanager
async def another_notifier(stack: Stack) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Run one more notifier of the same installation; yield its process and ``host:port``."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        address = f"127.0.0.1:{found.getsockname()[1]}"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "haulyard_notifier",
        env={**stack.processes["notifier"].command.env, "HAULYARD_HTTP_PORT": address.rpartition(":")[2]},
    )
    try:
        async with httpx.AsyncClient(timeout=5, trust_env=False) as http, asyncio.timeout(30):
            while True:
                try:
                    if (await http.get(f"http://{address}/health/ready")).status_code == 200:
                        break
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
        yield process, address
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@dataclass
class Seen:
    """What a client was told."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    first: asyncio.Event = field(default_factory=asyncio.Event)

    async def follow(self, urls: list[str]) -> None:
        """Follow on the first of ``urls`` until it breaks, then on the next."""
        for url in urls:
            after = self.messages[-1]["sequence"] if self.messages else 0
            try:
                async with connect(f"{url}&last_event_id={after}", proxy=None) as client:
                    async for text in client:
                        self.messages.append(json.loads(text))
                        self.first.set()
            except ConnectionClosed:
                continue


@pytest.mark.fault
async def test_a_client_of_a_killed_notifier_goes_on_at_another(stack: Stack, api: ApiClient) -> None:
    ids = [await api.upload(f"{number}.bin", random.Random(number).randbytes(24 * MIB)) for number in range(3)]
    async with another_notifier(stack) as (victim, address):
        job = await api.initiate(*ids)
        here = job["websocket_url"]
        there = f"ws://{address}{here[here.index('/ws/') :]}"
        moving, staying = Seen(), Seen()
        following = asyncio.gather(moving.follow([there, here]), staying.follow([here]))
        await asyncio.wait_for(moving.first.wait(), 30)
        victim.kill()
        await asyncio.wait_for(following, 120)
    for seen in (moving, staying):
        sequences = [message["sequence"] for message in seen.messages]
        assert sequences == sorted(set(sequences)), "nothing twice, nothing older after something newer"
        assert seen.messages[-1]["type"] == "completed"
        link = seen.messages[-1]["download_url"]
        assert (await api.plain.get(link)).status_code == 200
