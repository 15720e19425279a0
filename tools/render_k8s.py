"""Writes what is derived for Kubernetes, or checks that it is fresh (``--check``).

- ``helm/haulyard/values.schema.json``: its sections ``config`` and ``secrets`` are the services' settings, so that the
  chart takes every setting there is, with the bounds that the service will hold it to, and no other;
- ``helm/haulyard/files/haulyard.rules.yml``: the alert rules, because a chart cannot read files outside of itself;
- ``deploy/k8s``: the chart rendered with ``deploy/k8s/values.yaml``, for people without Helm.
"""

import copy
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import helm_python
import yaml
from generated import ROOT, is_check, refresh

from haulyard_archiver.settings import ArchiverSettings
from haulyard_chassis.settings import ClientFacingSettings, ServiceSettings
from haulyard_gateway.settings import GatewaySettings
from haulyard_notifier.settings import NotifierSettings
from haulyard_orchestrator.settings import OrchestratorSettings

CHART = ROOT / "helm" / "haulyard"
PLAIN = ROOT / "deploy" / "k8s"
RULES = ROOT / "deploy" / "observability" / "prometheus" / "haulyard.rules.yml"

SERVICES: Mapping[str, type[ServiceSettings]] = {
    "gateway": GatewaySettings,
    "orchestrator": OrchestratorSettings,
    "archiver": ArchiverSettings,
    "notifier": NotifierSettings,
}
SECTIONS: Mapping[str, type[ServiceSettings]] = {"shared": ServiceSettings, "clients": ClientFacingSettings, **SERVICES}
"""Sections of the chart's ``config``, and the settings that each may have."""

NOTE = "# Made by tools/render_k8s.py from helm/haulyard; do not edit.\n"

Manifest = dict[str, Any]


# What the schema says of settings


def camel(name: str) -> str:
    """Return a setting's name as the chart's values have it: ``nats_replicas`` is ``natsReplicas``."""
    return re.sub(r"_(.)", lambda match: match[1].upper(), name)


def _is_secret(schema: Mapping[str, Any]) -> bool:
    return any(kind.get("writeOnly", False) for kind in (schema, *schema.get("anyOf", ())))


def _value_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the chart's schema says of one setting; what is null or empty is left to the service's default."""
    kept = {
        key: value for key, value in schema.items() if key not in ("anyOf", "default", "format", "title", "writeOnly")
    }
    for kind in schema.get("anyOf", ()):
        if kind["type"] != "null":
            kept |= {key: value for key, value in kind.items() if key not in ("format", "title", "writeOnly")}
    return kept


def settings_of(kind: type[ServiceSettings], *, secret: bool) -> dict[str, dict[str, Any]]:
    """Return the settings of one kind that are secrets, or those that are not, with what the schema says of each."""
    properties = kind.model_json_schema()["properties"]
    return {camel(name): _value_schema(prop) for name, prop in properties.items() if _is_secret(prop) is secret}


def schema() -> str:
    """Return the chart's schema with the sections that follow from the settings."""
    document = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    document["properties"]["config"] = _closed(
        {
            section: _closed({name: {**prop} for name, prop in settings_of(kind, secret=False).items()})
            for section, kind in SECTIONS.items()
        }
    )
    secrets: dict[str, dict[str, Any]] = {"existingSecret": {"type": "string", "description": "Name of a Secret."}}
    for kind in SERVICES.values():
        secrets |= settings_of(kind, secret=True)
    document["properties"]["secrets"] = _closed(secrets)
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


# The chart without Helm


def load_values(path: Path) -> dict[str, Any]:
    """Return a file of values."""
    values: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    return values


def manifests(
    values: Mapping[str, Any], *, name: str = "haulyard", namespace: str = "haulyard", chart: Path = CHART
) -> dict[str, list[Manifest]]:
    """Return what the chart makes of ``values``: the manifests of each template that made any.

    Raises:
        helm_python.HelmError: the chart or the values are wrong.
    """
    with helm_python.Chart.load(chart) as loaded:
        loaded.validate_schema(dict(values))
        rendered = loaded.render(dict(values), name=name, namespace=namespace, is_install=True)
    made: dict[str, list[Manifest]] = {}
    for template, text in sorted(rendered.items()):
        if template.endswith(".txt"):
            continue
        made[template.removeprefix("haulyard/templates/")] = [
            one for one in yaml.load_all(text, Loader=yaml.CSafeLoader) if one
        ]
    return {template: found for template, found in made.items() if found}


def plain(node: Any) -> Any:
    """Return a manifest without what only Helm reads, and without checksums of what people are to change."""
    if isinstance(node, list):
        return [plain(one) for one in node]
    if not isinstance(node, dict):
        return node
    kept = {
        key: plain(value)
        for key, value in node.items()
        if not key.startswith(("helm.sh/", "checksum/")) and (key, value) != ("app.kubernetes.io/managed-by", "Helm")
    }
    return {key: value for key, value in kept.items() if not (key == "annotations" and not value)}


_FOLDERS = {"migrate.yaml": "migrate", "archiver-keda.yaml": "keda", "monitoring.yaml": "monitoring"}
"""Where a template's manifests go that not everyone applies; the others go to ``base``."""
_LEFT_OUT = ("tests/check.yaml",)


def plain_files() -> Iterator[tuple[Path, str]]:
    """Yield the files of ``deploy/k8s`` that follow from the chart."""
    folders: dict[str, list[str]] = {"base": []}
    values = load_values(PLAIN / "values.yaml")
    by_queue = copy.deepcopy(values)
    by_queue["archiver"] = {"autoscaling": {"enabled": False}, "keda": {"enabled": True}}
    scaled_object = "archiver-keda.yaml"
    rendered = manifests(values) | {scaled_object: manifests(by_queue)[scaled_object]}
    for template, found in rendered.items():
        if template in _LEFT_OUT:
            continue
        folder = _FOLDERS.get(template, "base")
        folders.setdefault(folder, []).append(template)
        yield PLAIN / folder / template, NOTE + yaml.safe_dump_all(map(plain, found), sort_keys=False, width=120)
    for folder, files in folders.items():
        # What is applied beside the base is a component: it is put into an overlay together with it.
        is_component = folder in ("keda", "monitoring")
        kustomization: Manifest = {
            "apiVersion": f"kustomize.config.k8s.io/{'v1alpha1' if is_component else 'v1beta1'}",
            "kind": "Component" if is_component else "Kustomization",
            "resources": sorted(files),
        }
        if folder == "keda":
            # Two autoscalers would undo each other's work.
            gone = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler"}
            patch = {"$patch": "delete", **gone, "metadata": {"name": "haulyard-archiver"}}
            kustomization["patches"] = [{"patch": yaml.safe_dump(patch, sort_keys=False)}]
        yield PLAIN / folder / "kustomization.yaml", NOTE + yaml.safe_dump(kustomization, sort_keys=False)


# Fresh or stale


def derived() -> Iterator[tuple[Path, str]]:
    """Yield every derived file with what is to be in it; the chart's own first, because the others follow from them."""
    yield CHART / "values.schema.json", schema()
    if RULES.exists():
        yield CHART / "files" / RULES.name, RULES.read_text("utf-8")
    yield from plain_files()


def _strangers(expected: Iterable[Path]) -> list[Path]:
    """Return what is in the derived folders and follows from nothing any more."""
    folders = [PLAIN / folder for folder in ("base", *_FOLDERS.values())]
    return sorted({path for folder in folders for path in folder.rglob("*.yaml")} - set(expected))


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or check them; return the exit status."""
    check = is_check(__doc__.partition("\n")[0], arguments)
    every, stale = refresh(derived(), check=check)
    strangers = _strangers(every)
    for path in strangers:
        print(f"{'stale' if check else 'removed'}: {path.relative_to(ROOT)}")
        if not check:
            path.unlink()
    if check and (stale or strangers):
        print("run `.venv/bin/python tools/render_k8s.py`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
