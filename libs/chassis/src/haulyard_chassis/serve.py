"""How a service's ASGI application is run: uvicorn, one process, graceful on SIGTERM."""

import asyncio
import socket
from typing import Any

import uvicorn

from haulyard_chassis.settings import ServiceSettings

SILENCE = 20.0
"""Seconds between two pings to a WebSocket, and for its answer; proxies cut what is silent for 60 or 100 s."""
_UNREAD = 60_000
"""Milliseconds after which a connection ends whose client takes nothing, also when we have closed it (RFC 5482)."""
_UNSENT = 16_384
"""Bytes that the kernel takes before it can send them: what waits there for a slow client is old when it is read."""


def make_server(app: Any, settings: ServiceSettings, *, ws: type[asyncio.Protocol] | None = None) -> uvicorn.Server:
    """Return a server for ``app`` that stops at SIGTERM or SIGINT.

    Args:
        app: ASGI.
        settings: where it listens.
        ws: serves WebSockets; one of uvicorn's if not given.
    """
    return uvicorn.Server(
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


def serve(app: Any, settings: ServiceSettings, *, ws: type[asyncio.Protocol] | None = None) -> None:
    """Run ``app`` until SIGTERM or SIGINT, then let requests and handlers finish within the grace period."""
    server = make_server(app, settings, ws=ws)
    server.run(sockets=[listen(server)])
