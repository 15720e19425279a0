"""``haulyard-gateway``: run the gateway."""

from haulyard_chassis.logs import configure_logging
from haulyard_chassis.serve import serve
from haulyard_chassis.settings import load_settings_or_exit
from haulyard_gateway.app import create_app
from haulyard_gateway.settings import GatewaySettings


def main() -> None:
    """Run until told to stop."""
    settings = load_settings_or_exit(GatewaySettings)
    configure_logging(settings, service="gateway")
    serve(create_app(settings), settings)


if __name__ == "__main__":
    main()
