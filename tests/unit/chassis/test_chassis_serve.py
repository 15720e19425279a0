"""The socket that services listen on."""

import socket
import sys
from typing import Any

import pytest

from haulyard_chassis.serve import listen, make_server
from haulyard_chassis.settings import ServiceSettings


@pytest.mark.skipif(sys.platform != "linux", reason="options of Linux")
async def test_connections_have_the_options_of_the_socket_that_listens() -> None:
    """Clients that read nothing are let go by the kernel, and little waits there for those that read slowly."""
    values: dict[str, Any] = {
        "http_port": 0,
        "nats_url": "nats://x",
        "postgres_dsn": "x",
        "redis_url": "x",
        "s3_endpoint": "http://x",
        "s3_access_key": "k",
        "s3_secret_key": "s",
    }
    with listen(make_server(None, ServiceSettings(**values))) as listening:
        listening.listen()
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 16_384
