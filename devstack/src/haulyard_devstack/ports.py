"""Choosing TCP ports on the loopback address.

Fixed ports collide with what else runs on a developer's machine; asking the kernel for any free one gives a port out of
the range of outgoing connections, which a stranger's connection may take before our next start. So ports come from
below that range, and are remembered by the data directory they belong to.
"""

import random
import socket
from collections.abc import Callable, Collection

LOOPBACK = "127.0.0.1"
RANGE = range(20_000, 30_000)
"""Below the ranges of outgoing connections on Linux (from 32768) and of Ceph's messengers (`MESSENGER_RANGE`)."""
MESSENGER_RANGE = range(30_000, 32_600)

_ATTEMPTS = 500


def is_free(port: int) -> bool:
    """Say whether a server could listen on this port of the loopback address now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Connections of an earlier server in TIME_WAIT do not matter to the next one; a listener does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def choose(
    preferred: Collection[int] = (),
    taken: Collection[int] = (),
    *,
    free: Callable[[int], bool] = is_free,
    draw: Callable[[range], int] = random.choice,
) -> int:
    """Return the first preferred port that is free and not in `taken`, else any other.

    Args:
        preferred: Ports to try first, in order: the remembered one, then a well-known one.
        taken: Ports promised to others that may not listen yet.
        free: Tells whether nobody listens on a port.
        draw: Draws one port out of a range.

    Raises:
        OSError: No free port was found.
    """
    for port in preferred:
        if port not in taken and free(port):
            return port
    for _ in range(_ATTEMPTS):
        port = draw(RANGE)
        if port not in taken and free(port):
            return port
    raise OSError(f"no free port on {LOOPBACK} between {RANGE.start} and {RANGE.stop}")
