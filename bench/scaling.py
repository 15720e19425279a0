"""The tables of docs/scaling.md: prints them; ``--write`` puts them there, ``--count`` counts anew what jobs use up.

``--count`` starts an installation of its own, runs a few jobs of each kind and prints what one of them used up; the
model's constants (`scaling_model.MEASURED`) are from there and are changed by hand.
"""

import argparse
import shutil
from pathlib import Path

import uvloop

from scaling_tables import CHART, PAGE, TABLES, picture, table, with_tables

DATA = Path(__file__).parents[1] / ".haulyard" / "scaling"


def main() -> None:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/scaling.md, and write the chart")
    parser.add_argument("--count", action="store_true", help="count what jobs use up; two minutes, 2 GB of disk")
    arguments = parser.parse_args()
    if arguments.count:
        count()
    elif arguments.write:
        PAGE.write_text(with_tables(PAGE.read_text("utf-8")), "utf-8")
        CHART.write_text(picture(), "utf-8")
    else:
        for make in TABLES.values():
            print(make(), end="\n\n")


def count() -> None:
    """Count what jobs use up, and print it."""
    from scaling_counts import measure  # noqa: PLC0415 - the tables need no servers

    shutil.rmtree(DATA, ignore_errors=True)
    try:
        found = uvloop.run(measure(DATA))
    finally:
        shutil.rmtree(DATA, ignore_errors=True)
    names = list(dict.fromkeys(name for used in found.values() for name in used))
    rows = [[name, *(f"{used.get(name, 0.0):,.1f}" for used in found.values())] for name in names]
    print(table(["of one job", *found], rows))


if __name__ == "__main__":
    main()
