"""Starts the notifier: ``python -m haulyard_notifier``."""

from haulyard_chassis.logs import configure_logging
from haulyard_chassis.serve import serve
from haulyard_chassis.settings import load_settings_or_exit
from haulyard_notifier.app import create_app
from haulyard_notifier.settings import NotifierSettings


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    settings = load_settings_or_exit(NotifierSettings)
    configure_logging(settings, service="notifier")
    serve(create_app(settings), settings)


if __name__ == "__main__":
    main()
