"""``haulyard-archiver``: run the service with the settings of the environment."""

from haulyard_archiver.app import create_app
from haulyard_archiver.settings import ArchiverSettings
from haulyard_chassis.logs import configure_logging
from haulyard_chassis.serve import serve
from haulyard_chassis.settings import load_settings_or_exit
from haulyard_chassis.tracing import start_tracing


def main() -> None:
    """Run until SIGTERM."""
    settings = load_settings_or_exit(ArchiverSettings)
    configure_logging(settings, service="archiver")
    start_tracing(settings, service="archiver")
    serve(create_app(settings), settings)


if __name__ == "__main__":
    main()
