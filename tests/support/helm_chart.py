"""The chart as tests want it: rendered with a profile and a few values more."""

import copy
import functools
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

pytest.importorskip("helm_python", reason="THE CHART IS NOT TESTED: helm-python-sdk has no wheel for this machine")
sys.path.insert(0, str(ROOT / "tools"))
import render_k8s  # noqa: E402 - not a package, and only there once its folder is on the path

__all__ = [
    "CHART",
    "OWN_SECRET",
    "PROFILES",
    "ROOT",
    "Manifest",
    "merged",
    "one",
    "pods",
    "render",
    "render_k8s",
    "values",
]

CHART = render_k8s.CHART
PROFILES = ("default", "small", "medium", "large", "everything")
Manifest = dict[str, Any]

BASE: dict[str, Any] = {
    "hosts": {"api": "api.example.com", "live": "live.example.com"},
    "config": {"shared": {"s3Endpoint": "https://s3.example.com"}},
    "secrets": {"existingSecret": "theirs"},
    "ingress": {"enabled": True},
}
"""The least that an installation says."""

OWN_SECRET: dict[str, Any] = {
    "secrets": {
        "existingSecret": "",
        "natsUrl": "nats://broker:4222",
        "postgresDsn": "postgresql://database/haulyard",
        "redisUrl": "redis://cache:6379/0",
        "s3AccessKey": "access",
        "s3SecretKey": "secret",
        "jwtSecret": "j" * 32,
        "ticketSecret": "t" * 32,
    }
}
"""Secrets among the values, instead of a Secret that is there already."""

_EVERYTHING: dict[str, Any] = {
    **OWN_SECRET,
    "config": {
        "shared": {
            "otlpEndpoint": "http://collector:4318",
            "sourceHosts": ["files.example.com"],
            "egressNetworks": ["10.1.0.0/16"],
        }
    },
    "image": {"registry": "registry.example.com", "tag": "1.2.3", "pullSecrets": [{"name": "pull"}]},
    "ingress": {"enabled": False},
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "public", "namespace": "gateways"}]},
    "networkPolicy": {
        "clients": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "gateways"}}}],
        "store": {"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [9000]},
        "extraEgress": [{"ports": [{"port": 9999, "protocol": "TCP"}]}],
    },
    "archiver": {
        "autoscaling": {"enabled": False},
        "keda": {"enabled": True},
        "image": {"digest": "sha256:" + "0" * 64},
        "nodeSelector": {"disk": "none"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "batch",
        "podLabels": {"team": "files"},
        "podAnnotations": {"note": "x"},
        "extraEnv": [{"name": "SSL_CERT_FILE", "value": "/ca/ca.pem"}],
        "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca"}],
    },
    "serviceAccount": {"annotations": {"note": "x"}},
    "metrics": {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}},
}


def merged(*many: Mapping[str, Any]) -> dict[str, Any]:
    """Return mappings laid over each other, the last on top."""
    result: dict[str, Any] = {}
    for mapping in many:
        for key, value in mapping.items():
            below = result.get(key)
            if isinstance(value, Mapping) and isinstance(below, Mapping):
                result[key] = merged(below, value)
            else:
                result[key] = copy.deepcopy(value)
    return result


def values(profile: str = "default", **more: Any) -> dict[str, Any]:
    """Return the values of an installation of one size."""
    if profile == "everything":
        return merged(BASE, _EVERYTHING, more)
    sizes = {} if profile == "default" else render_k8s.load_values(CHART / f"values-{profile}.yaml")
    return merged(BASE, sizes, more)


def render(profile: str = "default", **more: Any) -> list[Manifest]:
    """Return every manifest of an installation; the same ones for the same values, so nobody may change them."""
    return _render(json.dumps(values(profile, **more), sort_keys=True))


@functools.cache
def _render(text: str) -> list[Manifest]:
    return [manifest for found in render_k8s.manifests(json.loads(text)).values() for manifest in found]


def one(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """Return the manifest of a kind whose name ends with ``name``."""
    (found,) = [
        manifest for manifest in manifests if manifest["kind"] == kind and manifest["metadata"]["name"].endswith(name)
    ]
    return found


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Yield every pod that would run: what runs it, and its spec."""
    for manifest in manifests:
        if manifest["kind"] == "Pod":
            yield f"Pod {manifest['metadata']['name']}", manifest["spec"]
        elif manifest["kind"] in ("Deployment", "Job"):
            yield f"{manifest['kind']} {manifest['metadata']['name']}", manifest["spec"]["template"]["spec"]
