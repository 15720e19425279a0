"""Starts the notifier: ``python -m haulyard_notifier``."""

import gc
import resource

from haulyard_chassis.logs import configure_logging
from haulyard_chassis.serve import serve
from haulyard_chassis.settings import load_settings_or_exit
from haulyard_notifier.app import create_app
from haulyard_notifier.live.lean_socket import LeanSocket
from haulyard_notifier.settings import NotifierSettings


def allow_many_connections() -> None:
    """Raise the number of files that may be open as far as the system lets us: each client is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def collect_garbage_seldom() -> None:
    """Keep the collector of cycles from looking at everything because many were told something at once.

    With ten thousand sockets that look takes half a second, in which nobody is told anything. What is there before the
    first of them stays for good, and what a message needs is gone after it: that is not worth a look.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    settings = load_settings_or_exit(NotifierSettings)
    configure_logging(settings, service="notifier")
    allow_many_connections()
    collect_garbage_seldom()
    serve(create_app(settings), settings, ws=LeanSocket)


if __name__ == "__main__":
    main()
