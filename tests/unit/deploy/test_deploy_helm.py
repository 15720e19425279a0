"""The chart, rendered for every size: valid for Kubernetes, KEDA and the Prometheus operator, and safe to run."""

import functools
import http.server
import importlib
import json
import re
import subprocess
import sys
import threading
from importlib.metadata import version
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # it has no types
import pytest
import yaml
from litestar import Litestar

from haulyard_gateway.app import create_app as create_gateway
from haulyard_gateway.settings import GatewaySettings
from haulyard_notifier.app import create_app as create_notifier
from haulyard_notifier.settings import NotifierSettings
from support.helm_chart import (
    CHART,
    OWN_SECRET,
    PROFILES,
    ROOT,
    Manifest,
    merged,
    one,
    pods,
    render,
    render_k8s,
    values,
)

helm_python = pytest.importorskip("helm_python")

_KUBERNETES = "1.34.0"
_SERVICES = tuple(render_k8s.SERVICES)
_NO_SUBCHART = "chart directory is missing these dependencies: nats"
"""It is fetched by whoever wants it."""
_MODELS = {
    "keda.sh/v1alpha1": "cloudcoil.models.keda.v1alpha1",
    "monitoring.coreos.com/v1": "cloudcoil.models.prometheus_operator.v1",
}
"""Where the models of what is not Kubernetes' own are; imported when they are needed, because it takes seconds."""


def _config(**sections: Any) -> dict[str, Any]:
    config: dict[str, Any] = merged(values(), {"config": sections})["config"]
    return config


# Valid


@pytest.mark.parametrize("profile", PROFILES)
def test_lint_finds_nothing(profile: str) -> None:
    report = helm_python.lint(CHART, values(profile), strict=True, kube_version=f"v{_KUBERNETES}")

    # Without an icon the chart works as well.
    messages = [message["error"] for message in report["messages"] if "icon is recommended" not in message["error"]]
    assert [message for message in messages if _NO_SUBCHART not in message] == []


@pytest.mark.parametrize("profile", PROFILES)
def test_every_manifest_is_valid(profile: str) -> None:
    for manifest in render(profile):
        _validate(json.dumps(manifest, sort_keys=True))


@functools.cache
def _validate(text: str) -> None:
    """Raise an error if a manifest is not valid; equal ones are looked at once."""
    manifest = json.loads(text)
    if manifest["apiVersion"] in _MODELS:
        models = importlib.import_module(_MODELS[manifest["apiVersion"]])
        model = getattr(models, manifest["kind"]).model_validate(manifest)
        # The models ignore what they do not know: it would be missing here.
        assert model.model_dump(mode="json", by_alias=True, exclude_unset=True) == manifest
    elif manifest["apiVersion"] == "gateway.networking.k8s.io/v1":
        _check_route(manifest)
    else:
        kubernetes_validate.validate(manifest, _KUBERNETES, strict=True)


def _check_route(manifest: Manifest) -> None:
    """There is no package with the schema of the Gateway API: check the fields against its page, v1 HTTPRoute."""
    assert set(manifest["spec"]) == {"parentRefs", "hostnames", "rules"}
    for rule in manifest["spec"]["rules"]:
        assert set(rule) == {"matches", "backendRefs", "timeouts"}
        assert re.fullmatch(r"([0-9]{1,5}(h|m|s|ms)){1,4}", rule["timeouts"]["request"])
        assert all(match["path"]["type"] in ("Exact", "PathPrefix") for match in rule["matches"])
        assert all(set(backend) == {"name", "port"} for backend in rule["backendRefs"])


@pytest.mark.parametrize("profile", PROFILES)
def test_names_are_unique_and_references_lead_somewhere(profile: str) -> None:
    manifests = render(profile)
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
    assert len(names) == len(set(names))
    theirs = {("Secret", "theirs"), ("ConfigMap", "ca"), ("Secret", "pull")}
    known = {*names, *theirs}
    for _, pod in pods(manifests):
        for container in pod["containers"]:
            for source in container.get("envFrom", []):
                assert ("ConfigMap", source["configMapRef"]["name"]) in known
            for variable in container.get("env", []):
                if "valueFrom" in variable:
                    assert ("Secret", variable["valueFrom"]["secretKeyRef"]["name"]) in known
    for manifest in manifests:
        if manifest["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"):
            assert ("Deployment", manifest["spec"]["scaleTargetRef"]["name"]) in known
        if manifest["kind"] in ("Service", "PodDisruptionBudget"):
            selector = manifest["spec"]["selector"]
            deployment = one(manifests, "Deployment", manifest["metadata"]["name"])
            labels = deployment["spec"]["template"]["metadata"]["labels"]
            assert (selector.get("matchLabels") or selector).items() <= labels.items()


def test_the_chart_is_of_the_version_of_the_services() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))

    assert {chart["appVersion"]} == {version(f"haulyard-{service}") for service in _SERVICES}


# Safe


@pytest.mark.parametrize("profile", PROFILES)
def test_no_pod_can_do_more_than_it_must(profile: str) -> None:
    """What the profile "restricted" of the Pod Security Standards asks, and a root that cannot be written to."""
    found = list(pods(render(profile)))
    assert len(found) == len(_SERVICES) + 2  # the migrations and the test
    for who, pod in found:
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True, who
        assert security["runAsUser"] > 0, who
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, who
        assert pod["automountServiceAccountToken"] is False, who
        # Kubernetes would add HAULYARD_…_PORT for each Service, and a Service may be called haulyard-http.
        assert pod["enableServiceLinks"] is False, who
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), who
        assert all({"emptyDir", "configMap"} & set(volume) for volume in pod.get("volumes", [])), who
        for container in pod["containers"]:
            limits = container["securityContext"]
            assert limits == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, who
            assert {"cpu", "memory"} <= set(container["resources"]["limits"]), who
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), who


@pytest.mark.parametrize("profile", PROFILES)
def test_images_stay_what_they_are(profile: str) -> None:
    for who, pod in pods(render(profile)):
        for container in pod["containers"]:
            assert re.search(r"(:[0-9][^:/]*|@sha256:[0-9a-f]{64})$", container["image"]), who


def test_an_image_has_the_registry_the_tag_or_the_digest_that_are_given() -> None:
    manifests = render("everything")

    def image(service: str) -> str:
        deployment = one(manifests, "Deployment", f"-{service}")
        return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])

    assert image("gateway") == "registry.example.com/haulyard/gateway:1.2.3"
    assert image("archiver") == "registry.example.com/haulyard/archiver@sha256:" + "0" * 64


@pytest.mark.parametrize("profile", PROFILES)
def test_probes_ask_for_what_there_is(profile: str) -> None:
    for service in _SERVICES:
        (container,) = one(render(profile), "Deployment", f"-{service}")["spec"]["template"]["spec"]["containers"]
        assert container["livenessProbe"]["httpGet"] == {"path": "/health/live", "port": "http"}
        assert container["readinessProbe"]["httpGet"] == {"path": "/health/ready", "port": "http"}
        startup = container["startupProbe"]
        # A start waits for NATS and PostgreSQL: minutes, not seconds.
        assert startup["periodSeconds"] * startup["failureThreshold"] >= 300
        # Each of the checks behind it may take two seconds, all at once.
        assert container["readinessProbe"]["timeoutSeconds"] > 2


@pytest.mark.parametrize("grace", [1, 25, 25.5, 300])
@pytest.mark.parametrize("drain", [0, 5, 60])
def test_nothing_is_killed_before_it_has_stopped(grace: float, drain: float) -> None:
    manifests = render(config=_config(shared={"shutdownGrace": grace}, notifier={"drain": drain}))

    for service in _SERVICES:
        pod = one(manifests, "Deployment", f"-{service}")["spec"]["template"]["spec"]
        asleep = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        # Ten seconds to leave the servers: docs/reliability.md.
        needed = asleep + grace + 10 + (drain if service == "notifier" else 0)
        assert pod["terminationGracePeriodSeconds"] >= max(40, needed)


def test_who_takes_connections_is_out_of_its_service_before_it_stops() -> None:
    for service in ("gateway", "notifier"):
        (container,) = one(render("default"), "Deployment", f"-{service}")["spec"]["template"]["spec"]["containers"]
        assert container["lifecycle"]["preStop"]["sleep"]["seconds"] >= 5


@pytest.mark.parametrize("profile", PROFILES)
def test_services_are_spread_and_never_all_evicted(profile: str) -> None:
    manifests = render(profile)
    for service in _SERVICES:
        budget = one(manifests, "PodDisruptionBudget", f"-{service}")["spec"]
        assert budget["maxUnavailable"] in (1, "25%")
        pod = one(manifests, "Deployment", f"-{service}")["spec"]["template"]["spec"]
        keys = [constraint["topologyKey"] for constraint in pod["topologySpreadConstraints"]]
        assert keys == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]


# Sizes


@pytest.mark.parametrize("profile", PROFILES)
def test_replicas_have_one_master(profile: str) -> None:
    """An autoscaler, or a number in the Deployment: with both, each upgrade undoes what the autoscaler did."""
    manifests = render(profile)
    targets = [
        manifest["spec"]["scaleTargetRef"]["name"]
        for manifest in manifests
        if manifest["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")
    ]
    assert len(targets) == len(set(targets))
    for service in _SERVICES:
        deployment = one(manifests, "Deployment", f"-{service}")
        assert ("replicas" in deployment["spec"]) is (deployment["metadata"]["name"] not in targets)


def test_the_sizes_are_those_of_the_requirement() -> None:
    """The least and the most of gateways and archivers; the original says 2 and 3, 5 and 10, 10 and 30."""
    small, medium, large = (render(profile) for profile in ("small", "medium", "large"))

    assert one(small, "Deployment", "-gateway")["spec"]["replicas"] == 2
    assert one(small, "Deployment", "-archiver")["spec"]["replicas"] == 3
    assert one(medium, "HorizontalPodAutoscaler", "-gateway")["spec"]["maxReplicas"] == 5
    assert one(medium, "HorizontalPodAutoscaler", "-archiver")["spec"]["maxReplicas"] == 10
    assert one(large, "HorizontalPodAutoscaler", "-gateway")["spec"]["maxReplicas"] == 10
    assert one(large, "ScaledObject", "-archiver")["spec"]["maxReplicaCount"] == 30


@pytest.mark.parametrize("profile", PROFILES)
def test_an_archiver_may_fill_the_memory_that_it_was_promised(profile: str) -> None:
    pod = one(render(profile), "Deployment", "-archiver")["spec"]["template"]["spec"]
    said = one(render(profile), "ConfigMap", "-archiver")["data"].get("HAULYARD_ARCHIVER_MEMORY_BYTES")
    budget = int(said) if said else render_k8s.SERVICES["archiver"].model_fields["archiver_memory_bytes"].default

    # 76 MiB of code (docs/performance.md), twice the budget for what is on its way through sockets.
    assert _bytes(pod["containers"][0]["resources"]["limits"]["memory"]) >= 76 * 2**20 + 2 * budget


def _bytes(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", quantity).groups()  # type: ignore[union-attr]  # else the test fails
    return int(number) * {"Mi": 2**20, "Gi": 2**30}[unit]


# The network


def _ports(rules: list[Manifest]) -> set[int]:
    return {port["port"] for rule in rules for port in rule.get("ports", [])}


def test_an_archiver_reaches_the_broker_and_the_store_and_nothing_else() -> None:
    egress = one(render("default"), "NetworkPolicy", "-archiver")["spec"]["egress"]

    assert _ports(egress) == {53, 4222, 443}
    ingress = one(render("default"), "NetworkPolicy", "-archiver")["spec"]["ingress"]
    assert [rule["from"] for rule in ingress] == [[{"namespaceSelector": {}}]]  # whoever reads metrics


def test_an_archiver_reaches_what_it_was_told_of_besides() -> None:
    egress = one(render("everything"), "NetworkPolicy", "-archiver")["spec"]["egress"]

    assert _ports(egress) == {53, 4222, 9000, 4318, 443, 9999}
    assert {"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}]} in egress
    (store,) = [rule for rule in egress if _ports([rule]) == {9000}]
    assert store["to"] == [{"ipBlock": {"cidr": "192.0.2.0/24"}}]


def test_the_internet_does_not_include_the_cluster() -> None:
    for service in ("gateway", "notifier"):
        rules = one(render("everything"), "NetworkPolicy", f"-{service}")["spec"]["egress"]
        blocks = [peer["ipBlock"] for rule in rules for peer in rule.get("to", []) if "ipBlock" in peer]
        (everywhere,) = [block for block in blocks if block["cidr"] == "0.0.0.0/0"]
        # Cloud providers answer with credentials at 169.254.169.254.
        assert {"10.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"} <= set(everywhere["except"])


@pytest.mark.parametrize("service", [*_SERVICES, "migrate"])
def test_every_pod_has_its_policy(service: str) -> None:
    policy = one(render("default"), "NetworkPolicy", f"-{service}")["spec"]

    assert policy["policyTypes"] == ["Ingress", "Egress"]
    kind = "Job" if service == "migrate" else "Deployment"
    labels = one(render("default"), kind, f"-{service}")["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()


# What leads in


def _apps() -> dict[str, Litestar]:
    needed = {
        "nats_url": "-",
        "postgres_dsn": "-",
        "redis_url": "redis://cache",
        "s3_endpoint": "https://s3.example.com",
        "s3_access_key": "-",
        "s3_secret_key": "-",
        "jwt_secret": "j" * 32,
        "ticket_secret": "t" * 32,
        "public_api_url": "https://api.example.com",
        "public_notifier_url": "https://live.example.com",
    }
    return {
        "gateway": create_gateway(GatewaySettings.model_validate(needed)),
        "notifier": create_notifier(NotifierSettings.model_validate(needed)),
    }


def _ingress_paths(manifests: list[Manifest]) -> dict[str, list[tuple[str, str]]]:
    """Return the paths that lead to each service, with their types."""
    return {
        path["backend"]["service"]["name"].rpartition("-")[2]: [
            (other["path"], other["pathType"]) for other in rule["http"]["paths"]
        ]
        for rule in one(manifests, "Ingress", "")["spec"]["rules"]
        for path in rule["http"]["paths"]
    }


def _leads_in(path: str, rules: list[tuple[str, str]]) -> bool:
    return any(path == start or (kind == "Prefix" and path.startswith(f"{start}/")) for start, kind in rules)


def test_clients_reach_every_endpoint_but_health_and_metrics() -> None:
    rules = _ingress_paths(render())

    for service, app in _apps().items():
        paths = {route.path for route in app.routes} | ({"/ws/jobs/{job_id}"} if service == "notifier" else set())
        for path in paths:
            assert _leads_in(path, rules[service]) is not path.startswith(("/health/", "/metrics")), path


def test_a_route_of_the_gateway_api_leads_where_an_ingress_does() -> None:
    rules = _ingress_paths(render())
    types = {"Exact": "Exact", "PathPrefix": "Prefix"}
    for service in ("gateway", "notifier"):
        (rule,) = one(render("everything"), "HTTPRoute", f"-{service}")["spec"]["rules"]
        paths = [match["path"] for match in rule["matches"]]
        assert [(path["value"], types[path["type"]]) for path in paths] == rules[service]


# Hooks


def test_migrations_run_before_anything_else_is_there() -> None:
    """Before an installation there is neither a Secret of ours nor an account: the hook brings or needs none."""
    manifests = render(**OWN_SECRET)
    job, secret = one(manifests, "Job", "-migrate"), one(manifests, "Secret", "-migrate")

    for hook in (job, secret):
        assert hook["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    weights = [int(hook["metadata"]["annotations"]["helm.sh/hook-weight"]) for hook in (secret, job)]
    assert weights == sorted(set(weights))
    pod = job["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "default"
    assert pod["containers"][0]["command"] == ["haulyard-orchestrator", "migrate"]
    assert secret["stringData"] == {"HAULYARD_POSTGRES_DSN": "postgresql://database/haulyard"}


def test_migrations_can_go_around_a_pooler() -> None:
    job = one(render(migrations={"dsnKey": "DIRECT_DSN"}), "Job", "-migrate")

    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["env"][0] == {
        "name": "HAULYARD_POSTGRES_DSN",
        "valueFrom": {"secretKeyRef": {"name": "theirs", "key": "DIRECT_DSN"}},
    }


class _Service(http.server.BaseHTTPRequestHandler):
    statuses: dict[str, int]

    def do_GET(self) -> None:
        self.send_response(self.statuses.get(self.path, 401))
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing: what is printed is the check's."""


@pytest.mark.parametrize(("ready", "expected"), [(200, 0), (503, 1)])
def test_helm_test_asks_both_services(ready: int, expected: int) -> None:
    (container,) = one(render("default"), "Pod", "-test")["spec"]["containers"]
    handler = type("Handler", (_Service,), {"statuses": {"/health/ready": ready}})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            assert container["command"] == ["python", "-c"]
            ran = subprocess.run(
                [sys.executable, "-c", container["args"][0], address, address],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        finally:
            server.shutdown()
            thread.join()

    assert ran.returncode == expected, ran.stdout + ran.stderr
    assert ran.stdout.count("ok: ") == (4 if ready == 200 else 2)


# What is refused


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"gatway": {}}, "gatway"),
        ({"gateway": {"replica": 3}}, "replica"),
        ({"gateway": {"replicas": "3"}}, "replicas"),
        ({"image": {"tag": "latest"}}, "tag"),
        ({"gateway": {"image": {"repository": "haulyard/gateway:latest"}}}, "repository"),
        ({"gateway": {"image": {"digest": "sha256:0"}}}, "digest"),
        ({"gateway": {"resources": {"limits": {"memory": None}}}}, "memory"),
        ({"podSecurity": {"runAsUser": 0}}, "runAsUser"),
        ({"config": {"shared": {"natsReplicas": 7}}}, "natsReplicas"),
        ({"config": {"shared": {"nats_replicas": 3}}}, "nats_replicas"),
        ({"config": {"shared": {"postgresDsn": "postgresql://x"}}}, "postgresDsn"),
        ({"config": {"archiver": {"maxFilesPerJob": 3}}}, "maxFilesPerJob"),
        ({"config": {"notifier": {"drain": 61}}}, "drain"),
        ({"config": {"shared": {"logLevel": "loud"}}}, "logLevel"),
        ({"config": {"orchestrator": {"storeCorsOrigins": "*"}}}, "storeCorsOrigins"),
        ({"secrets": {"s3Secret": "x"}}, "s3Secret"),
        ({"networkPolicy": {"store": {"ports": []}}}, "ports"),
        ({"archiver": {"keda": {"prometheus": "prometheus:9090"}}}, "prometheus"),
        ({"hosts": {"api": "https://api.example.com"}}, "api"),
    ],
)
def test_the_schema_refuses(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(helm_python.HelmError, match=named):
        render(**wrong)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"config": {"shared": {"s3Endpoint": ""}}}, r"config\.shared\.s3Endpoint"),
        ({"hosts": {"api": "", "live": ""}}, r"hosts\.live"),
        ({"secrets": {"existingSecret": ""}}, r"secrets\.postgresDsn"),
        ({"httpRoute": {"enabled": True}}, r"not both"),
        ({"archiver": {"keda": {"enabled": True}}}, r"not both"),
        (merged(OWN_SECRET, {"secrets": {"jwtSecret": ""}}), r"jwksUrl"),
        (merged(OWN_SECRET, {"secrets": {"natsUrl": ""}}), r"nats\.enabled"),
    ],
)
def test_what_is_missing_is_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(helm_python.HelmError, match=named):
        render(**wrong)


def test_all_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(helm_python.HelmError) as refused:
        render_k8s.manifests({})

    assert str(refused.value).count("\n  - ") == 10


def test_the_official_chart_is_where_the_services_look_for_it() -> None:
    manifests = render(**merged(OWN_SECRET, {"secrets": {"natsUrl": ""}, "nats": {"enabled": True}}))

    for service in _SERVICES:
        assert one(manifests, "ConfigMap", f"-{service}")["data"]["HAULYARD_NATS_URL"] == "nats://haulyard-nats:4222"
        (container,) = one(manifests, "Deployment", f"-{service}")["spec"]["template"]["spec"]["containers"]
        assert "HAULYARD_NATS_URL" not in [variable["name"] for variable in container["env"]]


# What people read


@pytest.mark.parametrize("profile", PROFILES)
def test_the_notes_say_what_to_do_next(profile: str) -> None:
    with helm_python.Chart.load(CHART) as chart:
        notes = chart.render(values(profile), name="haulyard", namespace="files")["haulyard/templates/NOTES.txt"]

    assert "helm -n files test haulyard" in notes
    assert "https://api.example.com" in notes
    assert "<no value>" not in notes
    assert ("port-forward" in notes) is False
    assert ("natsReplicas" in notes) is (profile == "small")


def test_the_documentation_names_files_and_values_that_there_are() -> None:
    text = (ROOT / "docs" / "kubernetes.md").read_text("utf-8")
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))

    for path in re.findall(r"`((?:helm|deploy|tools)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path
    sections = "|".join(schema["properties"])
    for dotted in re.findall(rf"`((?:{sections})(?:\.\w+)+)(?::[^`]*)?`", text):
        assert _is_value(schema, schema, dotted.split(".")), dotted


def test_what_the_documentation_says_to_write_can_be_installed() -> None:
    text = (ROOT / "docs" / "kubernetes.md").read_text("utf-8")
    least, *others = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]

    assert len(others) == 3
    for more in ({}, *others):
        made = render_k8s.manifests(merged(least, more))
        assert {"gateway.yaml", "ingress.yaml", "networkpolicy.yaml"} <= set(made)


def _is_value(schema: Manifest, node: Manifest, steps: list[str]) -> bool:
    if "$ref" in node:
        node = schema["definitions"][node["$ref"].rpartition("/")[2]]
    if not steps:
        return True
    if not node.get("properties") or node.get("additionalProperties") is not False:
        return True  # another chart's
    return steps[0] in node["properties"] and _is_value(schema, node["properties"][steps[0]], steps[1:])
