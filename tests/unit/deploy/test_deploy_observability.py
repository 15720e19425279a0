"""Dashboards, alerts and the autoscaler ask for what the services really export; each alert has its runbook."""

import json
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from haulyard_contracts import ErrorCode, FileStatus, JobStatus, Topology
from support.promql import Selected, selected
from support.queries import OBSERVABILITY, ROOT, Shipped, alerts, dashboards, rules, shipped

RUNBOOKS = ROOT / "docs/runbooks"
OF_PROMETHEUS = {"up": {"job", "instance", "namespace"}}
OF_SCRAPING = {"job", "instance", "namespace"}
"""Labels that Prometheus gives to everything."""

Metrics = dict[str, set[str]]


@pytest.fixture(scope="module")
def listed() -> list[dict[str, Any]]:
    """What the code declares; listed by a process of its own, since tests declare metrics, too."""
    found: list[dict[str, Any]] = json.loads(run("metrics_catalogue.py"))
    return found


@pytest.fixture(scope="module")
def metrics(listed: list[dict[str, Any]]) -> Metrics:
    """The labels of each series that a query may ask for."""
    known: Metrics = dict(OF_PROMETHEUS)
    for each in listed:
        labels = {*each["labels"], *OF_SCRAPING}
        if each["kind"] == "histogram":
            known[f"{each['name']}_bucket"] = labels | {"le"}
            known[f"{each['name']}_sum"] = known[f"{each['name']}_count"] = labels
        else:
            known[each["name"]] = labels
    return known


def run(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / script, *arguments], check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def recorded() -> Metrics:
    return {rule["record"]: set() for rule in rules() if "record" in rule}


@pytest.mark.parametrize("query", shipped(), ids=lambda query: query.place)
def test_a_query_asks_for_what_is_exported(query: Shipped, metrics: Metrics) -> None:
    known = metrics | recorded()
    found = selected(query.expr)
    assert found
    for each in found:
        assert each.name in known, f"no service exports {each.name}"
        assert each.labels <= known[each.name], f"{each.name} has no {each.labels - known[each.name]}"


def queues() -> set[str]:
    names = Topology("haulyard")
    orchestrators = (names.requests_consumer, names.control_consumer, names.results_consumer)
    return {each.durable for each in (*orchestrators, names.webhooks_consumer, *names.task_lanes)}


EVERYWHERE = "*"
VALUES: dict[tuple[str, str], set[str]] = {
    ("job", EVERYWHERE): {f"haulyard-{name}" for name in ("gateway", "orchestrator", "archiver", "notifier")},
    ("route", EVERYWHERE): set(json.loads((ROOT / "docs/openapi.json").read_text("utf-8"))["paths"]),
    ("method", EVERYWHERE): {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"},
    ("queue", EVERYWHERE): queues(),
    ("state", "haulyard_queue_messages"): {"waiting", "taken"},
    ("state", "haulyard_postgres_connections"): {"used", "idle", "most"},
    ("status", "haulyard_http_requests_total"): {"2xx", "3xx", "4xx", "5xx"},
    ("status", "haulyard_jobs_total"): set(JobStatus),
    ("status", "haulyard_job_duration_seconds"): set(JobStatus),
    ("code", "haulyard_jobs_total"): {*ErrorCode, ""},
    ("outcome", "haulyard_tasks_total"): {"done", *ErrorCode},
    ("outcome", "haulyard_webhook_attempts_total"): {"delivered", "retry", "dead"},
    ("outcome", "haulyard_trace_spans_total"): {"sent", "failed"},
    ("outcome", "haulyard_files_total"): set(FileStatus),
}
"""What a label of a metric can be."""
NOT_OURS = {"le", "namespace"}
"""Bounds are looked up in what a service answers, in tests/e2e/test_e2e_metrics.py."""


def branches(pattern: str, operator: str) -> list[str]:
    """Return what must each be there: of ``a|b`` both, so that none is a slip of the pen."""
    if operator in ("=", "!="):
        return [re.escape(pattern)]
    return re.split(r"\|(?![^(]*\))", pattern)


@pytest.mark.parametrize("query", shipped(), ids=lambda query: query.place)
def test_a_query_asks_for_values_that_can_be(query: Shipped) -> None:
    for each in selected(query.expr):
        name = re.sub("_(bucket|sum|count)$", "", each.name)
        for label, operator, value in each.matched:
            if label in NOT_OURS:
                continue
            known = VALUES.get((label, name)) or VALUES.get((label, EVERYWHERE))
            assert known, f"nobody knows what {label} of {name} can be"
            for branch in branches(value, operator):
                assert any(re.fullmatch(branch, one) for one in known), f"{label} of {name} is never {branch}"


def test_the_generated_files_are_as_the_code_says() -> None:
    run("generate_observability.py", "--check")


def of_jobs(found: list[Selected]) -> set[str]:
    return {
        value
        for each in found
        for label, _, value in each.matched
        if (each.name, label) == ("haulyard_jobs_total", "code")
    }


def test_dashboard_and_alerts_mean_the_same_by_a_fault_of_ours() -> None:
    codes = {value for query in shipped() for value in of_jobs(selected(query.expr))}
    assert len(codes) == 1


@pytest.mark.parametrize("name", dashboards())
def test_a_dashboard_is_one_that_grafana_takes(name: str) -> None:
    board = dashboards()[name]
    assert board["uid"] == f"haulyard-{name}"
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies over another"
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"]
            assert panel["targets"]


def test_grafana_finds_its_dashboards_and_sources() -> None:
    provisioning = OBSERVABILITY / "grafana/provisioning"
    provider = yaml.safe_load((provisioning / "dashboards/haulyard.yml").read_text("utf-8"))["providers"][0]
    sources = yaml.safe_load((provisioning / "datasources/haulyard.yml").read_text("utf-8"))["datasources"]
    compose = yaml.safe_load((ROOT / "deploy/compose/compose.yaml").read_text("utf-8"))["services"]
    mounts = dict(mount.split(":")[:2][::-1] for mount in compose["grafana"]["volumes"])
    assert mounts[provider["options"]["path"]] == "../observability/grafana/dashboards"
    assert mounts["/etc/grafana/provisioning"] == "../observability/grafana/provisioning"
    uids = {source["uid"] for source in sources}
    for source in sources:
        host = re.match(r"http://([a-z]+):", source["url"])
        assert host is not None
        assert host[1] in compose
        for destination in source.get("jsonData", {}).get("exemplarTraceIdDestinations", ()):
            assert destination["datasourceUid"] in uids


def test_prometheus_scrapes_every_service_of_compose() -> None:
    config = yaml.safe_load((OBSERVABILITY / "prometheus/prometheus.yml").read_text("utf-8"))
    compose = yaml.safe_load((ROOT / "deploy/compose/compose.yaml").read_text("utf-8"))["services"]
    targets = {
        scrape["job_name"]: (found["names"], found["port"])
        for scrape in config["scrape_configs"]
        for found in scrape.get("dns_sd_configs", ())
    }
    ours = {"gateway", "orchestrator", "archiver", "notifier"}
    assert targets == {f"haulyard-{name}": ([name], 8080) for name in ours}
    assert ours <= set(compose)
    manager = config["alerting"]["alertmanagers"][0]["dns_sd_configs"][0]
    assert set(manager["names"]) <= set(compose)


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    names = {rule["alert"] for rule in alerts()}
    assert {path.stem for path in RUNBOOKS.glob("Haulyard*.md")} == names
    for rule in alerts():
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{rule['alert']}.md"
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]
        assert rule["labels"]["severity"] in ("page", "ticket")


SECTIONS = ["What it means", "What users see", "How to look", "What to do"]


@pytest.mark.parametrize("path", sorted(RUNBOOKS.glob("Haulyard*.md")), ids=lambda path: path.stem)
def test_a_runbook_says_what_is_needed(path: Any, metrics: Metrics) -> None:
    text = path.read_text("utf-8")
    assert text.startswith(f"# {path.stem}\n")
    assert re.findall("^## (.+)$", text, flags=re.MULTILINE) == SECTIONS
    for block in re.findall("```promql\n(.*?)```", text, flags=re.DOTALL):
        for line in filter(None, block.splitlines()):
            for each in selected(line):
                assert each.name in metrics, f"no service exports {each.name}"
                assert each.labels <= metrics[each.name]


def test_the_page_on_monitoring_lists_every_alert_with_its_severities() -> None:
    text = (ROOT / "docs/monitoring.md").read_text("utf-8")
    listed = dict(re.findall(r"^\| \[(\w+)\]\(runbooks/\1\.md\) \| ([a-z, ]+) \|", text, flags=re.MULTILINE))
    severities = {
        rule["alert"]: {other["labels"]["severity"] for other in alerts() if other["alert"] == rule["alert"]}
        for rule in alerts()
    }
    assert {name: set(words.split(", ")) for name, words in listed.items()} == severities


def test_alertmanager_knows_the_alerts_by_their_names() -> None:
    text = (OBSERVABILITY / "alertmanager/alertmanager.yml").read_text("utf-8")
    assert set(re.findall(r"Haulyard\w+", text)) <= {rule["alert"] for rule in alerts()}


def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    tests = yaml.safe_load((OBSERVABILITY / "prometheus/haulyard.rules.test.yml").read_text("utf-8"))["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    names = {rule["alert"] for rule in alerts()}
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == names
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == names
