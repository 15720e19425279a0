"""``haulyard-gateway``: run the gateway."""

from haulyard_chassis.logs import configure_logging
from haulyard_chassis.serve import collect_garbage_seldom, serve
from haulyard_chassis.settings import load_settings_or_exit
from haulyard_chassis.tracing import start_tracing
from haulyard_gateway.app import create_app
from haulyard_gateway.settings import GatewaySettings


def main() -> None:
    """Run until told to stop."""
    settings = load_settings_or_exit(GatewaySettings)
    configure_logging(settings, service="gateway")
    start_tracing(settings, service="gateway")
    app = create_app(settings)
    collect_garbage_seldom()
    serve(app, settings)


if __name__ == "__main__":
    main()
