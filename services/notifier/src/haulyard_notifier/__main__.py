"""Starts the notifier: ``python -m haulyard_notifier``."""

import resource

from haulyard_chassis.logs import configure_logging
from haulyard_chassis.serve import collect_garbage_seldom, serve
from haulyard_chassis.settings import load_settings_or_exit
from haulyard_chassis.tracing import start_tracing
from haulyard_notifier.app import create_app
from haulyard_notifier.live.lean_socket import LeanSocket
from haulyard_notifier.settings import NotifierSettings


def allow_many_connections() -> None:
    """Raise the number of files that may be open as far as the system lets us: each client is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    settings = load_settings_or_exit(NotifierSettings)
    configure_logging(settings, service="notifier")
    start_tracing(settings, service="notifier")
    allow_many_connections()
    collect_garbage_seldom()
    serve(create_app(settings), settings, ws=LeanSocket)


if __name__ == "__main__":
    main()
