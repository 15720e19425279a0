"""What the environment must say before a gateway starts."""

from typing import Any

import pytest

from haulyard_chassis.settings import SettingsError, load_settings
from haulyard_gateway.links import Links
from haulyard_gateway.settings import GatewaySettings

ENVIRONMENT = {
    "HAULYARD_NATS_URL": "nats://nowhere",
    "HAULYARD_POSTGRES_DSN": "postgresql://nowhere",
    "HAULYARD_REDIS_URL": "redis://nowhere",
    "HAULYARD_S3_ENDPOINT": "http://nowhere",
    "HAULYARD_S3_ACCESS_KEY": "key",
    "HAULYARD_S3_SECRET_KEY": "secret",
    "HAULYARD_JWT_SECRET": "j" * 32,
    "HAULYARD_TICKET_SECRET": "t" * 32,
    "HAULYARD_PUBLIC_API_URL": "https://api.example.com/base/",
    "HAULYARD_PUBLIC_NOTIFIER_URL": "http://live.example.com",
}


def load(monkeypatch: pytest.MonkeyPatch, **changes: str | None) -> GatewaySettings:
    environment: dict[str, Any] = ENVIRONMENT | {f"HAULYARD_{name.upper()}": value for name, value in changes.items()}
    for name, value in environment.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    return load_settings(GatewaySettings)


def test_what_is_not_said_is_sensible(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, source_buckets=None, cors_origins=None, files_bucket="files")
    assert (settings.max_files_per_job, settings.download_expires, settings.ticket_ttl) == (100, 900, 3600)
    assert settings.allowed_source_buckets == {"files"}
    assert settings.cors_origins == ()
    assert settings.public_api_url == "https://api.example.com/base"


def test_lists_are_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, source_buckets="a, b,", cors_origins="https://x.test")
    assert settings.allowed_source_buckets == {"a", "b"}
    assert settings.cors_origins == ("https://x.test",)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"jwt_secret": None}, "HAULYARD_JWT_SECRET or HAULYARD_JWKS_URL must be set"),
        ({"jwt_secret": "j" * 31}, "at least 32 bytes"),
        ({"ticket_secret": "short"}, "at least 32 bytes"),
        ({"ticket_secret": "j" * 32}, "not be the same"),
        ({"public_api_url": "ftp://api"}, "http or https"),
        ({"public_api_url": "/api"}, "http or https"),
        ({"public_notifier_url": "https://x?y=1"}, "query"),
        ({"max_files_per_job": "0"}, "greater than or equal to 1"),
        ({"download_expires": "999999"}, "less than or equal to 604800"),
    ],
)
def test_what_is_wrong_is_said_without_showing_a_secret(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str | None], says: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load(monkeypatch, **changes)
    assert says in str(caught.value)
    assert "jjj" not in str(caught.value)


def test_live_addresses_follow_the_notifiers() -> None:
    for base, websocket in (
        ("http://n:1", "ws://n:1/ws/jobs/j?ticket=t"),
        ("https://n/p", "wss://n/p/ws/jobs/j?ticket=t"),
    ):
        links = Links(api="https://a", notifier=base)
        assert links.websocket("j", "t") == websocket
        assert links.events("j", "t") == f"{base}/v1/jobs/j/events?ticket=t"
