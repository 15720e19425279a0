"""How a service's ASGI application is run: uvicorn, one process, graceful on SIGTERM."""

from typing import Any

import uvicorn

from haulyard_chassis.settings import ServiceSettings


def serve(app: Any, settings: ServiceSettings) -> None:
    """Run ``app`` until SIGTERM or SIGINT, then let requests and handlers finish within the grace period."""
    uvicorn.run(
        app,
        host=settings.http_host,
        port=settings.http_port,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        ws_per_message_deflate=False,  # 20 instead of 54 KiB a socket; progress messages are small
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.shutdown_grace),
    )
