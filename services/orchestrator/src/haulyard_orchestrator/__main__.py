"""``haulyard-orchestrator``: run the service, or only bring the database up to date (``migrate``)."""

import argparse
import asyncio

from haulyard_chassis.database import connect_database, migrate
from haulyard_chassis.logs import configure_logging
from haulyard_chassis.serve import collect_garbage_seldom, serve
from haulyard_chassis.settings import load_settings_or_exit
from haulyard_chassis.tracing import start_tracing
from haulyard_orchestrator.app import create_app
from haulyard_orchestrator.settings import OrchestratorSettings


def main() -> None:
    """Run until SIGTERM, or migrate and exit."""
    parser = argparse.ArgumentParser(prog="haulyard-orchestrator", description=__doc__)
    parser.add_argument(
        "command", nargs="?", choices=["serve", "migrate"], default="serve", help="what to do (default: %(default)s)"
    )
    arguments = parser.parse_args()
    settings = load_settings_or_exit(OrchestratorSettings)
    configure_logging(settings, service="orchestrator")
    if arguments.command == "migrate":
        asyncio.run(_migrate(settings))
    else:
        start_tracing(settings, service="orchestrator")
        app = create_app(settings)
        collect_garbage_seldom()
        serve(app, settings)


async def _migrate(settings: OrchestratorSettings) -> None:
    pool = await connect_database(settings, name="haulyard-migrate")
    try:
        await migrate(pool)
    finally:
        await pool.close()


if __name__ == "__main__":
    main()
