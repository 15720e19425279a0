"""Chart and services agree on the variables: each one that the chart sets exists, each that exists can be set."""

import random
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from haulyard_chassis.settings import ServiceSettings
from support.helm_chart import OWN_SECRET, PROFILES, Manifest, merged, one, render, render_k8s

_SERVICES = render_k8s.SERVICES
_PREFIX = "HAULYARD_"


def _container(manifests: list[Manifest], service: str) -> Manifest:
    deployment = one(manifests, "Deployment", f"-{service}")
    container: Manifest = deployment["spec"]["template"]["spec"]["containers"][0]
    return container


def _environment(manifests: list[Manifest], service: str) -> dict[str, str]:
    """Return the variables that a service has in its pod, as Kubernetes would make them."""
    variables = dict(one(manifests, "ConfigMap", f"-{service}")["data"])
    for variable in _container(manifests, service)["env"]:
        if "value" in variable:
            variables[variable["name"]] = variable["value"]
            continue
        reference = variable["valueFrom"]["secretKeyRef"]
        assert reference["key"] == variable["name"]
        secret = next(
            (one for one in manifests if one["kind"] == "Secret" and one["metadata"]["name"] == reference["name"]), None
        )
        variables[variable["name"]] = secret["stringData"][reference["key"]] if secret else "x" * 32
    return variables


def _read(service: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> ServiceSettings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return _SERVICES[service]()


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("service", _SERVICES)
def test_every_variable_of_the_chart_is_a_setting_of_the_service(profile: str, service: str) -> None:
    known = {_PREFIX + name.upper() for name in _SERVICES[service].model_fields}

    ours = {name for name in _environment(render(profile), service) if name.startswith(_PREFIX)}
    assert ours <= known


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("service", _SERVICES)
def test_a_service_starts_with_what_the_chart_tells_it(
    profile: str, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _read(service, _environment(render(profile, **OWN_SECRET), service), monkeypatch)

    assert settings.http_host == "0.0.0.0"
    assert settings.environment == "production"


def test_the_migrations_start_with_what_the_chart_tells_them(monkeypatch: pytest.MonkeyPatch) -> None:
    job = one(render(), "Job", "-migrate")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    variables = {one["name"]: one.get("value", "postgresql://database") for one in container["env"]}

    settings = _read("orchestrator", variables, monkeypatch)

    assert settings.postgres_dsn.get_secret_value() == "postgresql://database"


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(map(_is_secret, getattr(annotation, "__args__", ())))


@pytest.mark.parametrize("service", _SERVICES)
def test_every_secret_of_a_service_can_be_set_and_is_not_in_its_config_map(service: str) -> None:
    manifests = render(
        **merged(
            OWN_SECRET,
            {
                "secrets": {
                    "webhookSecret": "w" * 32,
                    "sentryDsn": "https://k@s.example.com/1",
                    "jwtSecretSecondary": "k" * 32,
                    "ticketSecretSecondary": "u" * 32,
                }
            },
        )
    )
    secrets = {
        _PREFIX + name.upper()
        for name, field in _SERVICES[service].model_fields.items()
        if _is_secret(field.annotation)
    }

    assert secrets <= {variable["name"] for variable in _container(manifests, service)["env"]}
    assert not secrets & set(one(manifests, "ConfigMap", f"-{service}")["data"])


def test_an_archiver_has_no_way_to_the_database_nor_to_the_cache() -> None:
    """It needs the variables to start, and is told nonsense."""
    variables = _environment(render(**OWN_SECRET), "archiver")

    assert "not-for-archivers" in variables["HAULYARD_POSTGRES_DSN"]
    assert "not-for-archivers" in variables["HAULYARD_REDIS_URL"]
    assert not {"HAULYARD_JWT_SECRET", "HAULYARD_TICKET_SECRET", "HAULYARD_WEBHOOK_SECRET"} & set(variables)


def test_secrets_that_are_not_used_may_be_missing_in_a_secret_that_is_there() -> None:
    optional = {
        variable["name"]
        for service in _SERVICES
        for variable in _container(render(), service)["env"]
        if variable.get("valueFrom", {}).get("secretKeyRef", {}).get("optional")
    }

    required = {
        _PREFIX + name.upper()
        for kind in _SERVICES.values()
        for name, field in kind.model_fields.items()
        if field.is_required()
    }
    assert optional == {
        "HAULYARD_JWT_SECRET",
        "HAULYARD_JWT_SECRET_SECONDARY",
        "HAULYARD_TICKET_SECRET_SECONDARY",
        "HAULYARD_WEBHOOK_SECRET",
        "HAULYARD_SENTRY_DSN",
    }
    assert not optional & required


_CHOSEN: dict[str, Any] = {
    "egressNetworks": ["10.7.0.0/16", "10.8.0.0/16"],
    "otlpEndpoint": "http://collector:4318",
    "sourceHosts": ["files.example.com", "*.example.org:8443"],
}
"""Values of settings that are particular about them."""


def _another(name: str, prop: dict[str, Any], default: Any) -> Any:
    """Return a value that a setting may have, and has not by default."""
    if name in _CHOSEN:
        return _CHOSEN[name]
    if "enum" in prop:
        return next(choice for choice in prop["enum"] if choice != default)
    if prop["type"] == "boolean":
        return not default
    if prop["type"] == "array":
        return ["one", "other"]
    if prop["type"] == "string":
        return "https://other.example.com" if "URL" in prop["description"] else "other-7"
    least = prop.get("minimum", prop.get("exclusiveMinimum", 0))
    most = prop.get("maximum", 2**31 - 1)
    wanted = max(least, min(most, (default or least) + 1))
    return wanted if wanted != default else max(least, wanted - 1)


@pytest.mark.parametrize("service", _SERVICES)
@pytest.mark.parametrize("section", ["own", "shared"])
def test_every_setting_can_be_set(service: str, section: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is given another value than its default, in the service's section and in shared, and arrives."""
    kind = render_k8s.SECTIONS[service if section == "own" else "shared"]
    defaults = kind.model_fields
    names = {render_k8s.camel(name): name for name in defaults}
    given = {
        name: _another(name, prop, defaults[names[name]].get_default())
        for name, prop in render_k8s.settings_of(kind, secret=False).items()
    }
    given.pop("jwksUrl", None)  # refused beside jwtSecret, and tested below
    config = {service if section == "own" else "shared": given}

    settings = _read(service, _environment(render(**merged(OWN_SECRET, {"config": config})), service), monkeypatch)

    for name, value in given.items():
        read = getattr(settings, names[name])
        assert (list(read) if isinstance(read, tuple) else read) == value, name


@pytest.mark.parametrize("service", ["gateway", "notifier"])
def test_both_services_that_clients_meet_know_the_identity_provider(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = {
        "jwksUrl": "https://login.example.com/keys",
        "jwtIssuer": "https://login.example.com",
        "jwtAudience": "files",
    }
    values = merged(OWN_SECRET, {"secrets": {"jwtSecret": ""}, "config": {"clients": provider}})

    settings = _read(service, _environment(render(**values), service), monkeypatch)

    assert settings.model_dump(include={"jwks_url", "jwt_secret"}) == {
        "jwks_url": provider["jwksUrl"],
        "jwt_secret": None,
    }


def test_the_services_own_section_wins_also_with_what_is_false_or_empty() -> None:
    config = {
        "shared": {"behindTls": True, "sourceHosts": ["files.example.com"]},
        "gateway": {"behindTls": False, "sourceHosts": []},
    }
    manifests = render(config=config)

    assert _environment(manifests, "gateway")["HAULYARD_BEHIND_TLS"] == "false"
    assert _environment(manifests, "gateway")["HAULYARD_SOURCE_HOSTS"] == ""
    assert _environment(manifests, "archiver")["HAULYARD_BEHIND_TLS"] == "true"


@pytest.mark.parametrize("number", [2**25, 10**9, 2**31, 10**12, 2**53 - 1])
def test_large_numbers_stay_numbers(number: int) -> None:
    manifests = render(config={"archiver": {"archiverMemoryBytes": number}})

    assert _environment(manifests, "archiver")["HAULYARD_ARCHIVER_MEMORY_BYTES"] == str(number)


def test_new_settings_take_new_pods_of_the_services_that_have_them() -> None:
    def checksums(**config: Any) -> dict[str, str]:
        manifests = render(config=config)
        return {
            service: one(manifests, "Deployment", f"-{service}")["spec"]["template"]["metadata"]["annotations"][
                "checksum/config"
            ]
            for service in _SERVICES
        }

    before, after = checksums(), checksums(archiver={"archiverSlots": 7})
    assert {service for service in _SERVICES if before[service] != after[service]} == {"archiver"}


def test_defaults_that_the_chart_knows_are_those_of_the_services() -> None:
    """The grace period is computed from them, also when somebody sets them to null."""
    chart = render_k8s.load_values(render_k8s.CHART / "values.yaml")["config"]

    assert chart["shared"]["shutdownGrace"] == ServiceSettings.model_fields["shutdown_grace"].default
    assert chart["notifier"]["drain"] == _SERVICES["notifier"].model_fields["drain"].default
    assert chart["shared"]["httpPort"] == ServiceSettings.model_fields["http_port"].default


@given(st.lists(st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8), min_size=1, max_size=4))
def test_camel_case_can_be_undone(words: list[str]) -> None:
    """The chart makes the variable from the name; words of a setting begin with a letter."""
    words = [random.Random(0).choice(string.ascii_lowercase) + word for word in words]
    name = render_k8s.camel("_".join(words))
    back = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    assert back == "_".join(words)
