"""Settings: what is missing or wrong is named, secrets never show."""

from typing import Any

import pytest

from haulyard_chassis.egress import LOOPBACK, parse_networks
from haulyard_chassis.settings import ServiceSettings, SettingsError, load_settings, load_settings_or_exit

NEEDED = {
    "HAULYARD_NATS_URL": "nats://u:nats-secret@127.0.0.1:4222",
    "HAULYARD_POSTGRES_DSN": "postgresql://u:postgres-secret@127.0.0.1/h",
    "HAULYARD_REDIS_URL": "redis://:redis-secret@127.0.0.1:6379/0",
    "HAULYARD_S3_ENDPOINT": "http://127.0.0.1:9000",
    "HAULYARD_S3_ACCESS_KEY": "access-secret",
    "HAULYARD_S3_SECRET_KEY": "key-secret",
}
SECRETS = ("nats-secret", "postgres-secret", "redis-secret", "access-secret", "key-secret")


class ListSettings(ServiceSettings):
    """A service whose settings hold a list, which comes as JSON."""

    origins: tuple[str, ...] = ()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly what a service needs, and nothing of the machine's own."""
    for name in [*NEEDED, *(f"HAULYARD_{field.upper()}" for field in ServiceSettings.model_fields)]:
        monkeypatch.delenv(name, raising=False)
    for name, value in NEEDED.items():
        monkeypatch.setenv(name, value)


def test_the_needed_variables_are_enough() -> None:
    settings = load_settings(ServiceSettings)
    assert settings.nats_url.get_secret_value() == NEEDED["HAULYARD_NATS_URL"]
    assert (settings.environment, settings.namespace, settings.nats_replicas) == ("production", "haulyard", 1)


def test_every_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NEEDED:
        monkeypatch.delenv(name)
    with pytest.raises(SettingsError) as caught:
        load_settings(ServiceSettings)
    for name in NEEDED:
        assert f"  {name}: " in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HAULYARD_HTTP_PORT", "65536"),
        ("HAULYARD_HTTP_PORT", "http"),
        ("HAULYARD_ENVIRONMENT", "staging"),
        ("HAULYARD_NAMESPACE", "a.b"),
        ("HAULYARD_NAMESPACE", ""),
        ("HAULYARD_LOG_LEVEL", "loud"),
        ("HAULYARD_LOG_FORMAT", "xml"),
        ("HAULYARD_NATS_REPLICAS", "0"),
        ("HAULYARD_POSTGRES_POOL", "0"),
        ("HAULYARD_SHUTDOWN_GRACE", "0"),
        ("HAULYARD_EGRESS_NETWORKS", "10.0.0.1/8"),
        ("HAULYARD_EGRESS_NETWORKS", "10.0.0.0/8,inside"),
        ("HAULYARD_SOURCE_HOSTS", "https://files.example.com"),
        ("HAULYARD_BEHIND_TLS", "perhaps"),
    ],
)
def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"  {name}: "):
        load_settings(ServiceSettings)


def test_a_list_that_is_no_json_is_a_settings_error_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAULYARD_ORIGINS", "[not json")
    with pytest.raises(SettingsError, match="origins"):
        load_settings(ListSettings)


def test_networks_and_hosts_are_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAULYARD_EGRESS_NETWORKS", "10.1.0.0/16, fd00::/8,")
    monkeypatch.setenv("HAULYARD_SOURCE_HOSTS", "files.example.com,*.example.com:8443")
    settings = load_settings(ServiceSettings)
    assert settings.allowed_networks == parse_networks(["10.1.0.0/16", "fd00::/8"])
    assert settings.source_hosts == ("files.example.com", "*.example.com:8443")


def test_only_in_development_this_machine_may_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings(ServiceSettings).allowed_networks == ()
    monkeypatch.setenv("HAULYARD_ENVIRONMENT", "development")
    assert load_settings(ServiceSettings).allowed_networks == LOOPBACK


def test_secrets_show_in_no_form() -> None:
    settings = load_settings(ServiceSettings)
    for shown in (repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump())):
        assert not [secret for secret in SECRETS if secret in shown]


def test_secrets_are_not_in_the_error_of_another_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAULYARD_HTTP_PORT", "x")
    with pytest.raises(SettingsError) as caught:
        load_settings(ServiceSettings)
    assert not [secret for secret in SECRETS if secret in str(caught.value)]
    assert caught.value.__cause__ is None


def test_a_service_with_wrong_settings_says_so_and_exits_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HAULYARD_S3_SECRET_KEY")
    with pytest.raises(SystemExit) as caught:
        load_settings_or_exit(ServiceSettings)
    assert caught.value.code == 2
    assert "HAULYARD_S3_SECRET_KEY" in capsys.readouterr().err


def test_settings_cannot_be_changed() -> None:
    settings: Any = load_settings(ServiceSettings)
    with pytest.raises(ValueError, match="frozen"):
        settings.http_port = 1
