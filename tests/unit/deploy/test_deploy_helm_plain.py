"""The manifests for people without Helm: fresh, complete, and an example that fits them."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.helm_chart import ROOT, render_k8s

_PLAIN = render_k8s.PLAIN
_FOLDERS = ("base", "keda", "migrate", "monitoring", "example")


def _documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.load_all(path.read_text("utf-8"), Loader=yaml.CSafeLoader))


def test_nothing_is_stale(capsys: pytest.CaptureFixture[str]) -> None:
    assert render_k8s.main(["--check"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("folder", _FOLDERS)
def test_kustomizations_name_every_file_and_only_those(folder: str) -> None:
    (kustomization,) = _documents(_PLAIN / folder / "kustomization.yaml")
    resources = {name for name in kustomization["resources"] if name.endswith(".yaml")}

    assert resources == {path.name for path in (_PLAIN / folder).glob("*.yaml")} - {"kustomization.yaml"}
    for other in (*kustomization.get("components", []), *set(kustomization["resources"]) - resources):
        assert (_PLAIN / folder / other / "kustomization.yaml").exists()


def test_nothing_of_helm_is_left() -> None:
    for folder in _FOLDERS:
        for path in (_PLAIN / folder).glob("*.yaml"):
            assert not re.search(r"helm\.sh|managed-by: Helm", path.read_text("utf-8")), path


def test_the_components_patch_what_is_in_the_base() -> None:
    (kustomization,) = _documents(_PLAIN / "keda" / "kustomization.yaml")
    (patch,) = [yaml.safe_load(one["patch"]) for one in kustomization["patches"]]

    assert (patch["kind"], patch["metadata"]["name"]) in {
        (manifest["kind"], manifest["metadata"]["name"]) for manifest in _documents(_PLAIN / "base" / "archiver.yaml")
    }


def test_the_example_patches_what_is_there() -> None:
    """Each of its JSON patches replaces something; kustomize would refuse it otherwise."""
    base = [one for path in (_PLAIN / "base").glob("*.yaml") for one in _documents(path)]
    (example,) = _documents(_PLAIN / "example" / "kustomization.yaml")
    for patch in example["patches"]:
        target = patch["target"]
        found = [
            manifest
            for manifest in base
            if manifest["kind"] == target["kind"]
            and re.fullmatch(target.get("name", ".*"), manifest["metadata"]["name"])
        ]
        assert found, target
        for operation in yaml.safe_load(patch["patch"]):
            for manifest in found:
                node: Any = manifest
                for step in operation["path"].split("/")[1:]:
                    node = node[int(step)] if isinstance(node, list) else node[step]
    images = {
        container["image"].partition(":")[0]
        for manifest in base
        if manifest["kind"] == "Deployment"
        for container in manifest["spec"]["template"]["spec"]["containers"]
    }
    assert images == {image["name"] for image in example["images"]}


def test_the_example_has_every_secret_that_must_be_set() -> None:
    lines = (_PLAIN / "example" / "secrets.env.example").read_text("utf-8").splitlines()
    names = {line.partition("=")[0] for line in lines}
    needed = {
        variable["name"]
        for path in (_PLAIN / "base").glob("*.yaml")
        for manifest in _documents(path)
        if manifest["kind"] == "Deployment"
        for variable in manifest["spec"]["template"]["spec"]["containers"][0]["env"]
        if "valueFrom" in variable and not variable["valueFrom"]["secretKeyRef"].get("optional")
    }

    assert names == needed | {"HAULYARD_JWT_SECRET"}


def test_alert_rules_are_those_of_prometheus() -> None:
    copy = render_k8s.CHART / "files" / "haulyard.rules.yml"
    rules = ROOT / "deploy" / "observability" / "prometheus" / "haulyard.rules.yml"

    assert copy.read_text("utf-8") == rules.read_text("utf-8")
    (rule,) = [one for one in _documents(_PLAIN / "monitoring" / "monitoring.yaml") if one["kind"] == "PrometheusRule"]
    assert rule["spec"] == yaml.safe_load(rules.read_text("utf-8"))
