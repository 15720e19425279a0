"""Writes Grafana's dashboards and the list of metrics in ``docs/monitoring.md`` from the code.

With ``--check`` it changes nothing and says what is stale.
"""

import json
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import metrics_catalogue
from dashboards import DASHBOARDS
from generated import ROOT, is_check, refresh
from metrics_catalogue import Described

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
    check = is_check(__doc__)
    every, stale = refresh(pages(), check=check)
    stray = [path for path in DASHBOARD_FOLDER.glob("*.json") if path not in every]
    for path in stray:
        print(f"of no dashboard: {path.relative_to(ROOT)}")
    if check and stale:
        print("run `make docs`")
    return 1 if stray or (check and stale) else 0


if __name__ == "__main__":
    sys.exit(main())
