"""Lists every metric that the services declare, from the code: as JSON on the standard output when it is run.

It is run in a process of its own, because all metrics of a process are in one registry, and what a test or another
service declares must not be taken for a service's own.
"""

import importlib
import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

SERVICES = ("gateway", "orchestrator", "archiver", "notifier")
EVERY_SERVICE = "every service"


@dataclass(frozen=True, kw_only=True)
class Described:
    """A metric as Prometheus reads it."""

    name: str
    kind: str
    """``counter``, ``gauge`` or ``histogram``."""
    labels: tuple[str, ...]
    help: str
    owner: str
    """The service that exports it, or `EVERY_SERVICE`: what the chassis counts wherever it happens."""

    @property
    def series(self) -> tuple[str, ...]:
        """The names by which queries find it."""
        if self.kind == "histogram":
            return (f"{self.name}_bucket", f"{self.name}_sum", f"{self.name}_count")
        return (self.name,)


def catalogue() -> list[Described]:
    """Return all metrics, sorted by owner and name; imports all services.

    Raises:
        RuntimeError: something was imported before, so that it cannot be told whose the metrics are.
    """
    if any(name.startswith("haulyard_") for name in sys.modules):
        raise RuntimeError("the metrics can be listed in a fresh process only")
    found: list[Described] = []
    known: set[Collector] = set()
    for package, owner in (
        ("haulyard_chassis", EVERY_SERVICE),
        *((f"haulyard_{name}", name) for name in SERVICES),
    ):
        _import_all(package)
        registry: CollectorRegistry = sys.modules["haulyard_chassis.metrics"].REGISTRY
        # The library has no public way to the names of labels that have no values yet.
        fresh = [collector for collector in registry._collector_to_names if collector not in known]
        known.update(fresh)
        found += sorted((each for one in fresh for each in _described(one, owner)), key=lambda each: each.name)
    return found


def _import_all(package: str) -> None:
    root = importlib.import_module(package)
    for module in pkgutil.walk_packages(root.__path__, f"{package}."):
        importlib.import_module(module.name)


def _described(collector: Collector, owner: str) -> Iterator[Described]:
    labels = tuple(getattr(collector, "_labelnames", ()))
    for family in collector.collect():
        yield Described(
            name=_full_name(family),
            kind=family.type,
            labels=labels or _sampled_labels(family),
            help=family.documentation,
            owner=owner,
        )


def _full_name(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name


def _sampled_labels(family: Metric) -> tuple[str, ...]:
    """Return the labels of what the library itself measures of the process."""
    return tuple(dict.fromkeys(label for sample in family.samples for label in sample.labels if label != "le"))


def read() -> list[Described]:
    """Return `catalogue` as a fresh process tells it."""
    out = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, str(Path(__file__))], check=True, capture_output=True, text=True
    ).stdout
    return [Described(**each | {"labels": tuple(each["labels"])}) for each in json.loads(out)]


if __name__ == "__main__":
    print(json.dumps([asdict(each) for each in catalogue()], indent=1))
