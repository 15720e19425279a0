"""Ceph's S3 gateway with VersityGW's manners: ``posix <directory>``, ``ROOT_ACCESS_KEY``, ``VGW_HEALTH``, port 7070."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

from haulyard_devstack.ceph import CephServer
from haulyard_devstack.ceph_config import GIB, CephOptions
from haulyard_devstack.server import Place

PORT = 7070
CACHE = Path("/opt/cache")
"""Says that Ceph needs not be fetched: it is installed."""
CHUNK = 256 * 1024
HEALTHY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK"


class Store(CephServer):
    """Ceph, with the keys of the environment."""

    def environment(self) -> dict[str, str]:
        return super().environment() | {
            "HAULYARD_S3_ACCESS_KEY": os.environ["ROOT_ACCESS_KEY"],
            "HAULYARD_S3_SECRET_KEY": os.environ["ROOT_SECRET_KEY"],
        }


async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """Answer a health check; hand every other connection through to Ceph, which listens on loopback only."""
    health = os.environ.get("VGW_HEALTH", "")
    first = await reader.read(CHUNK)
    if health and first.startswith(f"GET {health} ".encode()):
        writer.write(HEALTHY)
        await writer.drain()
        return
    onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        onward_writer.write(first)
        await asyncio.gather(pump(reader, onward_writer), pump(onward_reader, writer))
    finally:
        onward_writer.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def main() -> None:
    data = Path(sys.argv[2])
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    store = Store(Place(data / "ceph", CACHE), CephOptions(osd_bytes=8 * GIB))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            try:
                await forward(reader, writer, int(store.address.rpartition(":")[2]))
            finally:
                writer.close()

    await store.start()
    try:
        async with await asyncio.start_server(serve, "0.0.0.0", PORT):
            await told.wait()
    finally:
        await store.stop()


asyncio.run(main())
