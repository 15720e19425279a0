"""What the services really export is what the documentation lists, and what dashboards and alerts ask for."""

import asyncio
import json
import re
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from haulyard_devstack import Stack, ports
from support import prometheus
from support.client import ApiClient
from support.promql import GRAFANA, selected
from support.queries import OBSERVABILITY, ROOT, shipped

PATIENCE = 90.0
EVERY_SERVICE = "every service"


@pytest.fixture(scope="module")
async def worked(stack: Stack) -> Stack:
    """The services after a job of each kind: stored and failed, watched by WebSocket and by an event stream."""
    async with ApiClient(stack.api_url, stack.token(f"user-{secrets.token_hex(4)}")) as api:
        file = await api.upload("a.txt", secrets.token_bytes(100_000))
        job = await api.initiate(file)
        await api.watch(job["websocket_url"])
        assert (await api.wait(job["job_id"]))["status"] == "completed"
        failed = await api.initiate(999_999_999)
        async for _ in api.server_sent_events(failed["events_url"]):
            pass
        assert (await api.wait(failed["job_id"]))["status"] == "failed"
    return stack


@pytest.fixture(scope="module")
async def listed() -> dict[str, dict[str, Any]]:
    """What the code declares, by name."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, ROOT / "tools/metrics_catalogue.py", stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE):
        out, _ = await process.communicate()
    return {each["name"]: each for each in json.loads(out)}


async def exported(url: str) -> dict[str, Metric]:
    """Return what a service answers, by the names that queries use."""
    async with httpx.AsyncClient(trust_env=False) as http:
        text = (await http.get(f"{url}/metrics")).text
    families = text_string_to_metric_families(text)
    return {f"{each.name}_total" if each.type == "counter" else each.name: each for each in families}


def owner(process: str) -> str:
    """Return the service of a process: ``archiver`` of ``archiver-2``."""
    return process.split("-", maxsplit=1)[0]


async def test_each_service_exports_what_is_listed_as_its_own(worked: Stack, listed: dict[str, dict[str, Any]]) -> None:
    for process, url in worked.urls.items():
        found = await exported(url)
        ours = {name for name in found if name.startswith("haulyard_") and not name.endswith("_created")}
        allowed = {name for name, each in listed.items() if each["owner"] in (owner(process), EVERY_SERVICE)}
        assert ours <= allowed, f"{process} exports what is not listed as its own"
        own = {name for name, each in listed.items() if each["owner"] == owner(process)}
        assert own <= ours, f"{process} does not export what is listed"
        for name in ours:
            for sample in found[name].samples:
                assert set(sample.labels) - {"le"} == set(listed[name]["labels"]), sample


async def test_queries_ask_for_bounds_and_routes_that_there_are(worked: Stack) -> None:
    seen: dict[str, dict[str, set[str]]] = {}
    for url in worked.urls.values():
        for family in (await exported(url)).values():
            for sample in family.samples:
                for label, value in sample.labels.items():
                    seen.setdefault(sample.name, {}).setdefault(label, set()).add(value)
    bounds = 0
    for query in shipped():
        for each in selected(query.expr):
            for label, _, value in each.matched:
                if label == "le":
                    assert value in seen[each.name]["le"], f"{each.name} has no bound {value}"
                    bounds += 1
    assert bounds
    routes = seen["haulyard_http_requests_total"]["route"]
    api = {route for route in routes if re.fullmatch("/v1/.*", route)}
    assert {"/v1/download/initiate", "/v1/jobs/{job_id}/status"} <= api
    assert "/health/ready" in routes


@asynccontextmanager
async def scraping(stack: Stack, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Run Prometheus by our configuration, looking at these services each second."""
    programs = await prometheus.programs()
    config = yaml.safe_load((OBSERVABILITY / "prometheus/prometheus.yml").read_text("utf-8"))
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(OBSERVABILITY / "prometheus/haulyard.rules.yml")]
    del config["alerting"]
    config["scrape_configs"] = [each for each in config["scrape_configs"] if each["job_name"].startswith("haulyard-")]
    for each in config["scrape_configs"]:
        del each["dns_sd_configs"]
        service = each["job_name"].removeprefix("haulyard-")
        targets = [url.removeprefix("http://") for name, url in stack.urls.items() if owner(name) == service]
        each["static_configs"] = [{"targets": targets}]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config), "utf-8")
    address = f"127.0.0.1:{ports.choose()}"
    process = await asyncio.create_subprocess_exec(
        programs["prometheus"],
        f"--config.file={path}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://{address}/api/v1", trust_env=False) as http:
            yield http
    finally:
        process.terminate()
        await process.wait()


async def answer(http: httpx.AsyncClient, path: str, **query: str) -> Any:
    """Return the data of an answer, when Prometheus is there."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                got = await http.get(path, params=query)
            except httpx.TransportError:
                await asyncio.sleep(0.1)
                continue
            if got.status_code != 503:  # it is not ready
                break
            await asyncio.sleep(0.1)
    body = got.json()
    assert body["status"] == "success", body
    return body["data"]


async def value(http: httpx.AsyncClient, expr: str, least: float) -> None:
    """Wait until an expression is at least so much."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = (await answer(http, "/query", query=expr))["result"]
            if found and float(found[0]["value"][1]) >= least:
                return
            await asyncio.sleep(0.2)


@pytest.mark.timeout(400)
async def test_prometheus_gets_all_that_dashboards_and_alerts_ask_for(worked: Stack, tmp_path: Path) -> None:
    async with scraping(worked, tmp_path) as http:
        await value(http, 'sum(up{job=~"haulyard-.+"})', len(worked.urls))
        await value(http, 'sum(haulyard_jobs_total{status="completed"})', 1)
        await value(http, 'count(haulyard_queue_messages{queue=~"archiver-lane-.+"})', 20)
        await value(http, "max(haulyard_cache_memory_bytes)", 1)
        for query in shipped():
            expr = query.expr
            for variable, window in GRAFANA.items():
                expr = expr.replace(variable, window)
            await answer(http, "/query", query=expr)
        async with asyncio.timeout(PATIENCE):
            while True:
                groups = (await answer(http, "/rules"))["groups"]
                told = [rule for group in groups for rule in group["rules"]]
                if told and all(rule["health"] != "unknown" for rule in told):
                    break
                await asyncio.sleep(0.5)
        assert {rule["health"] for rule in told} == {"ok"}
