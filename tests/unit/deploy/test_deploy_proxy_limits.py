"""The three proxies and the services agree: on how long what may take, on sizes, and on what clients may ask for."""

import re
import tomllib
from pathlib import Path

import pytest

from haulyard_chassis import app, serve
from haulyard_chassis.settings import ServiceSettings
from haulyard_gateway.settings import LONGEST_WAIT, GatewaySettings
from haulyard_notifier.settings import NotifierSettings

PROXY = Path(__file__).parents[3] / "deploy/proxy"
NGINX = (PROXY / "nginx/haulyard.conf").read_text()
WORKER = (PROXY / "cloudflare/worker.js").read_text()
ALB = "\n".join(path.read_text() for path in sorted((PROXY / "alb").glob("*.tf")))

MARGIN = 4
"""Seconds that an answer may need beside what it waits for."""


def default(settings: type[GatewaySettings] | type[NotifierSettings], name: str) -> float:
    return float(settings.model_fields[name].default)


LONGEST_ANSWER = max(LONGEST_WAIT, default(GatewaySettings, "start_wait"))
LONGEST_SILENCE = max(serve.SILENCE, default(NotifierSettings, "heartbeat"))
LONGEST_STALL = default(GatewaySettings, "archive_stall")


def location(beginning: str) -> str:
    """Return what nginx does with some paths."""
    begin = NGINX.index(f"    location {beginning}")
    return NGINX[begin : NGINX.index("\n    }\n", begin)]


def seconds(directive: str, text: str) -> int:
    found: list[str] = re.findall(rf"^ *{directive} (\d+)s;", text, re.MULTILINE)
    assert len(found) == 1, f"{directive} is there {len(found)} times"
    return int(found[0])


API, ARCHIVE, LIVE = location("/v1/ {"), location("~ ^/v1/jobs/[^/]+/archive$"), location("~ ^(/ws/")


def test_nginx_waits_for_what_waits() -> None:
    before_locations = NGINX[NGINX.index("listen 443") : NGINX.index("    location / {")]
    assert seconds("proxy_read_timeout", before_locations) >= LONGEST_ANSWER + MARGIN
    assert "proxy_read_timeout" not in API


def test_nginx_lets_live_updates_be_silent_and_holds_none_back() -> None:
    for direction in ("read", "send"):
        assert seconds(f"proxy_{direction}_timeout", LIVE) >= 2 * LONGEST_SILENCE
    assert "proxy_buffering off;" in LIVE
    assert "gzip off;" in LIVE
    assert "text/event-stream" not in NGINX


def test_nginx_cuts_no_archive_off_before_the_gateway_does() -> None:
    assert seconds("send_timeout", ARCHIVE) > LONGEST_STALL
    assert seconds("proxy_read_timeout", ARCHIVE) > LONGEST_STALL
    assert "proxy_buffering off;" in ARCHIVE


def test_nginx_lets_every_valid_body_in() -> None:
    (megabytes,) = re.findall(r"client_max_body_size (\d+)m;", NGINX)
    assert int(megabytes) * 1024 * 1024 >= app._MAX_BODY


def test_no_proxy_keeps_a_connection_for_longer_than_the_services() -> None:
    kept = [int(value) for value in re.findall(r"keepalive_timeout (\d+)s;", NGINX)]
    assert len(kept) == 2
    (most_at_alb,) = re.findall(r"var\.idle_timeout <= (\d+)", ALB)
    servers = {"nats_url": "nats://x", "postgres_dsn": "x", "redis_url": "x", "s3_endpoint": "http://x"}
    settings = ServiceSettings.model_validate(servers | {"s3_access_key": "k", "s3_secret_key": "s"})
    assert max(*kept, int(most_at_alb)) < serve.make_server(None, settings).config.timeout_keep_alive


def test_the_load_balancer_takes_nothing_that_waits_for_dead() -> None:
    (least,) = re.findall(r"var\.idle_timeout >= (\d+)", ALB)
    assert int(least) >= max(LONGEST_ANSWER, LONGEST_SILENCE) + MARGIN


def test_the_load_balancer_waits_for_what_a_target_has_begun() -> None:
    ((delay, ends),) = re.findall(r'"deregistration_delay" \{.*?default\s*= (\d+)(\n\})', ALB, re.DOTALL)
    assert ends
    assert int(delay) >= default(GatewaySettings, "shutdown_grace") + default(NotifierSettings, "drain")


@pytest.mark.parametrize("kind", ["api", "archive", "live"])
def test_the_worker_waits_for_what_waits_and_answers_before_cloudflare_does(kind: str) -> None:
    (patience,) = re.findall(rf"^  {kind}: ([\d_]+),", WORKER, re.MULTILINE)
    assert (LONGEST_ANSWER + MARGIN) * 1000 <= int(patience) <= 95_000


def test_the_limits_of_nginx_are_the_gateways() -> None:
    assert f"rate={GatewaySettings.model_fields['rate_limit_per_minute'].default}r/m;" in NGINX
    for place in (API, ARCHIVE, LIVE):
        assert f"burst={GatewaySettings.model_fields['rate_limit_burst'].default} nodelay;" in place


def test_the_worker_is_the_one_that_is_deployed() -> None:
    configuration = tomllib.loads((PROXY / "cloudflare/wrangler.toml").read_text())
    assert (PROXY / "cloudflare" / configuration["main"]).is_file()
    used = set(re.findall(r"\benv\.([A-Z_]+)", WORKER))
    assert used == {"ORIGIN", "LIVE_ORIGIN"}
    assert set(configuration["vars"]) <= used
    # From this date on, `cache: "no-store"` is known to the runtime.
    assert configuration["compatibility_date"] >= "2024-11-11"
