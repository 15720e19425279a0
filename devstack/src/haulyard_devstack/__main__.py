"""The command line: `haulyard-devstack up|down|status|demo`."""

import argparse
import asyncio
import logging
import sys

from haulyard_devstack import supervisor
from haulyard_devstack.errors import DevstackError
from haulyard_devstack.stack import default_root

_INTERRUPTED = 130
"""As shells have it for a command that Ctrl-C ended: the demo did not show what it was asked to show."""


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = argparse.ArgumentParser(prog="haulyard-devstack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start everything and stay in the foreground; Ctrl-C stops it")
    commands.add_parser("down", help="stop what `up` started, or what a killed `up` left behind")
    status = commands.add_parser("status", help="say what runs and whether it answers")
    status.add_argument("--json", action="store_true", help="for programs")
    commands.add_parser("demo", help="start everything, make a real job, check its ZIP, stop")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    logging.getLogger("haulyard_devstack").setLevel(logging.INFO)
    root = default_root()
    try:
        match options.command:
            case "up":
                return supervisor.run_until_signal(lambda: supervisor.up(root))
            case "down":
                return supervisor.down(root)
            case "status":
                return asyncio.run(supervisor.status(root, as_json=options.json))
            case _:
                return supervisor.run_until_signal(supervisor.demo, stopped_code=_INTERRUPTED)
    except DevstackError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
