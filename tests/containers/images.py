"""The images: ours out of the Dockerfile as it is, and stand-ins for those that nobody can pull here."""

import shutil
import ssl
from pathlib import Path

from containers.commands import CommandError, run
from containers.engine import Engine

ROOT = Path(__file__).parents[2]
SERVICES = ("gateway", "orchestrator", "archiver", "notifier")
TAG = "0.1.0"
BASE = "python:3.11-slim"

SERVERS = {
    "nats": "nats:2.15.1-alpine",
    "postgres": "postgres:18.6",
    "valkey": "valkey/valkey:9.1.2",
    "s3": "versity/versitygw:v1.8.0",
}
"""Targets of the stand-ins' Dockerfile, and the images of compose.yaml in whose place they are."""

_SUITE = "bookworm"
_PACKAGES = ("ca-certificates", "python3", "python3-pip", "python3-venv")
_BUILD = 900.0


def make_base(engine: Engine, folder: Path) -> None:
    """Make Debian's Python pass for the official image."""
    folder.mkdir()
    archive, settings = folder / "python.tar", folder / "pip.conf"
    certificates = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
    settings.write_text(_pip_settings())
    run(
        [
            *("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(_PACKAGES)}"),
            # The registry is reached as it is from here: through the same index, trusting the same authorities.
            f"--customize-hook=upload {certificates} /etc/ssl/certs/ca-certificates.crt",
            f"--customize-hook=upload {settings} /etc/pip.conf",
            *(_SUITE, archive),
        ],
        seconds=600,
    )
    engine.docker("import", archive, BASE, seconds=300)
    archive.unlink()


def _pip_settings() -> str:
    lines = ["[global]", "cert = /etc/ssl/certs/ca-certificates.crt"]
    pip = shutil.which("pip3") or shutil.which("pip")
    for name in ("index-url", "trusted-host"):
        try:
            if pip is not None:
                lines.append(f"{name} = {run([pip, 'config', 'get', f'global.{name}'], seconds=60).strip()}")
        except CommandError:
            continue  # not set
    return "\n".join(lines) + "\n"


def build_services(engine: Engine, *, page: str) -> None:
    """Build every target of the Dockerfile."""
    for service in SERVICES:
        tag = f"haulyard/{service}:{TAG}"
        _build(engine, ["--build-arg", f"PAGE={page}", "--target", service, "--tag", tag, ROOT])


def build_servers(engine: Engine) -> None:
    """Build the stand-ins, under the names that compose.yaml has."""
    wheels = "haulyard-test/wheels"
    _build(engine, ["--build-arg", "PAGE=optional", "--target", "wheels", "--tag", wheels, ROOT])
    recipe = ROOT / "tests" / "containers" / "standins" / "Dockerfile"
    for target, tag in SERVERS.items():
        _build(engine, ["--file", recipe, "--target", target, "--tag", tag, ROOT])


def _build(engine: Engine, words: list[str | Path]) -> None:
    engine.docker("build", "--quiet", "--network=host", *words, seconds=_BUILD)
