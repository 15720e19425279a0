"""What an image and deploy/compose promise, read from their files; `make containers` tries it with a real engine."""

import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import pytest

from containers.images import SERVERS, SERVICES, TAG
from containers.installation import make_environment
from haulyard_archiver.settings import ArchiverSettings
from haulyard_chassis.settings import ServiceSettings
from haulyard_gateway.settings import GatewaySettings
from haulyard_notifier.settings import NotifierSettings
from haulyard_orchestrator.settings import OrchestratorSettings

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE_FILE = ROOT / "deploy" / "compose" / "compose.yaml"
COMPOSE: dict[str, Any] = msgspec.yaml.decode(COMPOSE_FILE.read_bytes())
CONTAINERS: dict[str, dict[str, Any]] = COMPOSE["services"]
SETTINGS: dict[str, type[ServiceSettings]] = {
    "gateway": GatewaySettings,
    "orchestrator": OrchestratorSettings,
    "archiver": ArchiverSettings,
    "notifier": NotifierSettings,
    "migrate": OrchestratorSettings,
}
PINNED = re.compile(r"^[a-z0-9./-]+:(v?\d+\.\d+\.?\d*[a-z0-9.-]*|\$\{TAG:-\d+\.\d+\.\d+\})$")


def tool(name: str) -> str:
    """Find a program of the development tools."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}") or shutil.which(name)
    if found is None:
        pytest.skip(f"{name.upper()} IS NOT INSTALLED: NOTHING CHECKS WHAT IT WOULD (make install)")
    return found


def names(settings: type[ServiceSettings]) -> set[str]:
    return {f"HAULYARD_{field.upper()}" for field in settings.model_fields}


@pytest.mark.parametrize("recipe", ["Dockerfile", "tests/containers/standins/Dockerfile"])
def test_hadolint_has_nothing_to_say(recipe: str) -> None:
    # Stand-ins are built from nothing but what was just made.
    ignored = (
        []
        if recipe == "Dockerfile"
        else ["--ignore", "DL3003", "--ignore", "DL3006", "--ignore", "DL3008", "--ignore", "DL3013"]
    )
    words = [tool("hadolint"), "--no-color", "--failure-threshold", "style", *ignored, str(ROOT / recipe)]
    said = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 0, said.stdout + said.stderr


def test_dockerfile_has_a_target_for_each_service() -> None:
    targets = re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE)
    assert set(SERVICES) < set(targets)
    for service in SERVICES:
        assert f'ENTRYPOINT ["haulyard-{service}"]' in DOCKERFILE


def test_dockerfile_names_its_base_once_and_asks_no_other_frontend() -> None:
    assert re.findall(r"^FROM (\S+) ", DOCKERFILE, re.MULTILINE)[0] == "${PYTHON_IMAGE}"
    assert re.findall(r"^ARG PYTHON_IMAGE=(\S+)", DOCKERFILE, re.MULTILINE) == ["python:3.11-slim"]
    assert "# syntax=" not in DOCKERFILE


def test_what_builds_the_wheels_is_locked() -> None:
    """The Dockerfile picks these out of the lock of the development tools by their names."""
    picked = re.search(r"keep = /\^\(([^)]*)\)==/", DOCKERFILE)
    assert picked is not None
    locked = re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements-dev.lock").read_text(), re.MULTILINE)
    assert set(picked[1].split("|")) <= set(locked)
    needed = {re.split(r"[^A-Za-z0-9_.-]", line)[0] for line in metadata.requires("hatchling") or [] if ";" not in line}
    assert {"hatchling"} | needed == set(picked[1].split("|"))


@pytest.mark.parametrize("name", CONTAINERS)
def test_container_is_confined(name: str) -> None:
    container = CONTAINERS[name]
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert "cap_add" not in container
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert container["mem_limit"]
    assert container["pids_limit"]
    assert not container.get("privileged", False)


@pytest.mark.parametrize("name", CONTAINERS)
def test_image_is_pinned(name: str) -> None:
    assert PINNED.match(CONTAINERS[name]["image"]), CONTAINERS[name]["image"]


@pytest.mark.parametrize("name", SETTINGS)
def test_variables_are_settings_of_the_service(name: str) -> None:
    environment: dict[str, object] = CONTAINERS[name]["environment"]
    assert {variable for variable in environment if variable.startswith("HAULYARD_")} == set(environment)
    assert set(environment) <= names(SETTINGS[name])


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_must_be_set_are_set(name: str) -> None:
    required = {
        f"HAULYARD_{field.upper()}" for field, info in SETTINGS[name].model_fields.items() if info.is_required()
    }
    assert required <= set(CONTAINERS[name]["environment"])


@pytest.mark.parametrize("file", ["compose.yaml", ".env.example"])
def test_every_variable_that_is_named_exists(file: str) -> None:
    known = set().union(*(names(settings) for settings in SETTINGS.values()))
    text = (COMPOSE_FILE.parent / file).read_text()
    assert set(re.findall(r"\bHAULYARD_[A-Z0-9_]+\b", text)) <= known


def test_variables_of_compose_are_in_the_example() -> None:
    example = (COMPOSE_FILE.parent / ".env.example").read_text()
    named = set(re.findall(r"^#?([A-Z0-9_]+)=", example, re.MULTILINE))
    demanded = set(re.findall(r"\$\{([A-Z0-9_]+):\?", COMPOSE_FILE.read_text()))
    filled = set(re.findall(r"^([A-Z0-9_]+)=$", example, re.MULTILINE))
    assert demanded <= named
    assert demanded == filled, "what compose demands is what make-env.sh fills in"


def test_secrets_are_made_once_and_readable_by_their_owner_only(tmp_path: Path) -> None:
    made = make_environment(tmp_path / "compose")
    assert made.stat().st_mode & 0o077 == 0
    values = dict(line.split("=", 1) for line in made.read_text().splitlines() if re.match(r"[A-Z]", line))
    secrets = [value for name, value in values.items() if name != "HAULYARD_S3_ACCESS_KEY"]
    assert all(re.fullmatch(r"[0-9a-f]{64}", secret) for secret in secrets)
    assert len(set(secrets)) == len(secrets)
    before = made.read_bytes()
    subprocess.run([made.with_name("make-env.sh")], capture_output=True, timeout=30, check=True)
    assert made.read_bytes() == before


def test_services_wait_for_what_they_need() -> None:
    for name in SERVICES:
        waits = CONTAINERS[name]["depends_on"]
        assert {server: waits[server]["condition"] for server in SERVERS} == dict.fromkeys(SERVERS, "service_healthy")
        assert waits["migrate"]["condition"] == "service_completed_successfully"


def test_databases_have_no_way_out_and_are_not_published() -> None:
    assert COMPOSE["networks"]["backend"]["internal"] is True
    for name in ("nats", "postgres", "valkey"):
        assert CONTAINERS[name]["networks"] == ["backend"]
        assert "ports" not in CONTAINERS[name]


def test_services_are_given_longer_than_their_grace() -> None:
    grace = ServiceSettings.model_fields["shutdown_grace"].default
    for name in SERVICES:
        assert int(CONTAINERS[name]["stop_grace_period"].removesuffix("s")) > grace


def test_stand_ins_are_called_as_the_images_of_compose() -> None:
    assert {name: CONTAINERS[name]["image"] for name in SERVERS} == SERVERS
    for service in SERVICES:
        assert CONTAINERS[service]["image"] == f"haulyard/{service}:${{TAG:-{TAG}}}"
        assert CONTAINERS[service]["build"]["target"] == service


def test_compose_takes_the_file(tmp_path: Path) -> None:
    environment = make_environment(tmp_path / "compose")
    words = [tool("docker-compose"), "--file", str(COMPOSE_FILE), "--env-file", str(environment)]
    words += ["--profile", "observability", "config", "--format", "json"]
    said = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 0, said.stderr
    services = msgspec.json.decode(said.stdout)["services"]
    assert set(services) == set(CONTAINERS)
    for container in services.values():
        for mount in container.get("volumes", []):
            assert mount["type"] == "volume" or Path(mount["source"]).exists(), mount


def test_without_an_engine_the_real_test_says_so_and_does_not_pass(tmp_path: Path) -> None:
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT / "tests"),
        "DOCKER_HOST": f"unix://{tmp_path}/nobody.sock",
        "TMPDIR": str(tmp_path),
    }
    words = [sys.executable, "-m", "containers.run", "--engine", "existing"]
    said = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 77
    assert "CONTAINERS WERE NOT TRIED" in said.stderr
    assert list(tmp_path.iterdir()) == []
