"""Prometheus' own tools take our configuration, and the alerts fire when they should."""

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from support import prometheus
from support.promql import GRAFANA
from support.queries import OBSERVABILITY, RULES, shipped

PATIENCE = 500.0
"""Seconds for a tool that needs ten of a processor's, on a machine that has much else to do."""


@pytest.fixture(scope="module")
async def tools() -> dict[str, str]:
    """Paths of promtool and amtool."""
    return await prometheus.programs()


async def run(*command: str | Path, cwd: Path = OBSERVABILITY) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(PATIENCE):
        out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


async def test_prometheus_takes_its_configuration_and_the_rules(tools: dict[str, str]) -> None:
    said = await run(tools["promtool"], "check", "config", "prometheus/prometheus.yml")
    assert "1 rule files found" in said


@pytest.mark.timeout(600)
async def test_alerts_fire_when_they_should_and_not_else(tools: dict[str, str]) -> None:
    await run(tools["promtool"], "test", "rules", "haulyard.rules.test.yml", cwd=RULES.parent)


async def test_prometheus_understands_what_dashboards_and_autoscaler_ask(tools: dict[str, str], tmp_path: Path) -> None:
    asked = [{"record": f"asked:{number}", "expr": concrete(query.expr)} for number, query in enumerate(shipped())]
    rules = tmp_path / "rules.yml"
    rules.write_text(json.dumps({"groups": [{"name": "all", "rules": asked}]}), "utf-8")  # which is YAML, too
    said = await run(tools["promtool"], "check", "rules", rules)
    assert f"{len(asked)} rules found" in said


def concrete(expression: str) -> str:
    for variable, value in GRAFANA.items():
        expression = expression.replace(variable, value)
    return expression


@pytest.mark.parametrize(
    ("labels", "receiver"), [(["severity=page"], "pager"), (["severity=ticket"], "tickets"), ([], "tickets")]
)
async def test_alertmanager_tells_the_right_people(tools: dict[str, str], labels: Iterable[str], receiver: str) -> None:
    config = "alertmanager/alertmanager.yml"
    await run(tools["amtool"], "check-config", config)
    said = await run(tools["amtool"], "config", "routes", "test", f"--config.file={config}", *labels)
    assert said.splitlines()[-1] == receiver  # before it may be a warning that options win over a file
