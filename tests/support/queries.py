"""Every PromQL expression that we ship: of dashboards, rules and the autoscaler."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
OBSERVABILITY = ROOT / "deploy/observability"
DASHBOARDS = OBSERVABILITY / "grafana/dashboards"
RULES = OBSERVABILITY / "prometheus/haulyard.rules.yml"
KEDA = ROOT / "deploy/k8s/keda"


@dataclass(frozen=True)
class Shipped:
    """An expression and where it stands."""

    place: str
    expr: str


@cache
def rules() -> list[dict[str, Any]]:
    """Return all rules, recording and alerting."""
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """Return the alerting rules."""
    return [rule for rule in rules() if "alert" in rule]


def dashboards() -> dict[str, dict[str, Any]]:
    """Return Grafana's dashboards by the name of their file."""
    return {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(DASHBOARDS.glob("*.json"))}


@cache
def shipped() -> list[Shipped]:
    """Return all expressions."""
    return [*_of_dashboards(), *_of_rules(), *_of_autoscaler()]


def _of_dashboards() -> Iterator[Shipped]:
    for name, dashboard in dashboards().items():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                yield Shipped(f"{name}: {panel['title']}", target["expr"])


def _of_rules() -> Iterator[Shipped]:
    for rule in rules():
        yield Shipped(rule.get("alert") or rule["record"], rule["expr"])


def _of_autoscaler() -> Iterator[Shipped]:
    for path in sorted(KEDA.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text("utf-8")):
            for trigger in (document or {}).get("spec", {}).get("triggers", ()):
                if "query" in trigger["metadata"]:
                    yield Shipped(path.name, trigger["metadata"]["query"])
