"""How a service's ASGI application is run: uvicorn, one process, graceful on SIGTERM."""

import asyncio
import gc
import socket
from typing import Any

import uvicorn

from haulyard_chassis.logs import get_logger
from haulyard_chassis.settings import ServiceSettings
from haulyard_chassis.tasks import cancel_and_wait
from haulyard_chassis.tracing import stop_tracing

log = get_logger(__name__)

SILENCE = 20.0
"""Seconds between two pings to a WebSocket, and for its answer; proxies cut what is silent for 60 or 100 s."""
_IDLE = 75
"""Seconds that a connection on which nothing is asked is kept: longer than proxies in front keep it (60 s), so that
none of them sends a request on one that we are just closing."""
_UNREAD = 60_000
"""Milliseconds after which a connection ends whose client takes nothing, also when we have closed it (RFC 5482)."""
_UNSENT = 16_384
"""Bytes that the kernel takes before it can send them: what waits there for a slow client is old when it is read."""
_LOOK = 0.1
"""Seconds between two looks whether we are told to stop while we start."""


class _Server(uvicorn.Server):
    """Also stops when it is told to while it starts: a service that waits for a dependency may wait for ever."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, unless it is to stop before it has started."""
        starting = asyncio.create_task(super().startup(sockets), name="startup")
        while not starting.done():
            if self.should_exit:
                log.info("told to stop before it was ready")
                break
            await asyncio.wait({starting}, timeout=_LOOK)
        await cancel_and_wait(starting)  # it has taken nothing on; what it has opened ends with the process
        if not starting.cancelled():
            starting.result()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop the application, and send the spans of its last work."""
        await super().shutdown(sockets)
        # Here, because what comes after is never reached: uvicorn ends with the signal that it got.
        await stop_tracing()


def make_server(app: Any, settings: ServiceSettings, *, ws: type[asyncio.Protocol] | None = None) -> uvicorn.Server:
    """Return a server for ``app`` that stops at SIGTERM or SIGINT.

    Args:
        app: ASGI.
        settings: where it listens.
        ws: serves WebSockets; one of uvicorn's if not given.
    """
    return _Server(
        uvicorn.Config(
            app,
            host=settings.http_host,
            port=settings.http_port,
            loop="uvloop",
            http="httptools",
            ws=ws or "websockets-sansio",
            ws_per_message_deflate=False,  # 20 instead of 54 KiB a socket; progress messages are small
            ws_ping_interval=SILENCE,
            ws_ping_timeout=SILENCE,
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_IDLE,
            timeout_graceful_shutdown=int(settings.shutdown_grace),
        )
    )


def listen(server: uvicorn.Server) -> socket.socket:
    """Return the socket on which ``server`` is to listen; connections have the options that are set on it."""
    listening = server.config.bind_socket()
    for name, value in (("TCP_USER_TIMEOUT", _UNREAD), ("TCP_NOTSENT_LOWAT", _UNSENT)):
        if hasattr(socket, name):  # elsewhere than on Linux a client that reads nothing is kept for longer
            listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return listening


def collect_garbage_seldom() -> None:
    """Keep the collector of cycles from stopping a service that makes many small things, for nothing.

    With ten thousand sockets a look at everything takes half a second, in which nobody is told anything; with
    many requests under way it is what the slowest wait for. What is there before the first stays for good, and what a
    request or a message needs is gone after it: neither is worth a look. For a service that holds large buffers it is.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def serve(app: Any, settings: ServiceSettings, *, ws: type[asyncio.Protocol] | None = None) -> None:
    """Run ``app`` until SIGTERM or SIGINT, then let requests and handlers finish within the grace period."""
    server = make_server(app, settings, ws=ws)
    server.run(sockets=[listen(server)])
