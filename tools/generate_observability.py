"""Writes Grafana's dashboards and the list of metrics in ``docs/monitoring.md`` from the code.

With ``--check`` it changes nothing and says what is stale.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import metrics_catalogue
from dashboards import DASHBOARDS
from metrics_catalogue import Described

ROOT = Path(__file__).parents[1]
DASHBOARD_FOLDER = ROOT / "deploy/observability/grafana/dashboards"
MONITORING = ROOT / "docs/monitoring.md"

_BEGIN, _END = "<!-- Metrics: made by tools/generate_observability.py; do not edit. -->", "<!-- End of metrics. -->"


def pages() -> Iterator[tuple[Path, str]]:
    """Return each generated file with what it should hold."""
    for name, dashboard in DASHBOARDS.items():
        yield DASHBOARD_FOLDER / f"{name}.json", json.dumps(dashboard.to_json(), indent=2, ensure_ascii=False) + "\n"
    before, _, rest = MONITORING.read_text("utf-8").partition(_BEGIN)
    _, found, after = rest.partition(_END)
    if not found:
        raise ValueError(f"{MONITORING} has no place for the list of metrics")
    yield MONITORING, f"{before}{_BEGIN}\n\n{metrics_tables(metrics_catalogue.read())}\n{_END}{after}"


def metrics_tables(metrics: list[Described]) -> str:
    """Return a table of metrics for each owner."""
    lines: list[str] = []
    for owner, owned in groupby(metrics, key=lambda each: each.owner):
        lines += [f"### {owner.capitalize()}", "", "| metric | kind | labels | |", "|---|---|---|---|"]
        for each in owned:
            labels = ", ".join(f"`{label}`" for label in each.labels)
            lines.append(f"| `{each.name}` | {each.kind} | {labels} | {each.help.rstrip('.')} |")
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    """Write what is stale, or only name it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a file is stale")
    check = parser.parse_args().check
    expected = dict(pages())
    stale = [path for path, text in expected.items() if not path.exists() or path.read_text("utf-8") != text]
    stray = [path for path in DASHBOARD_FOLDER.glob("*.json") if path not in expected]
    for path in stale:
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(expected[path], "utf-8")
        print(f"{'stale' if check else 'written'}: {path.relative_to(ROOT)}")
    for path in stray:
        print(f"of no dashboard: {path.relative_to(ROOT)}")
    if check and stale:
        print("run `make docs`")
    return 1 if stray or (check and stale) else 0


if __name__ == "__main__":
    sys.exit(main())
