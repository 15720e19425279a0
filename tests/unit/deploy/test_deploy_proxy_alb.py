"""The Terraform module is formatted and valid, and its own tests pass, with the AWS provider mocked.

Providers are not fetched: they are 700 MB. Who has one in a folder of Terraform's (``terraform providers mirror``) has
it found; ``HAULYARD_TERRAFORM_PLUGINS`` names any other.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

MODULE = Path(__file__).parents[3] / "deploy/proxy/alb"
_USUAL = ("~/.terraform.d/plugins", "/usr/local/share/terraform/plugins", "/usr/share/terraform/plugins")
_PROVIDER = "registry.terraform.io/hashicorp/aws"
_MISSING = "THE LOAD BALANCER'S TERRAFORM IS NOT TESTED"


def _program() -> str:
    found = shutil.which("terraform")
    if found is None:
        pytest.skip(f"{_MISSING}: there is no terraform")
    return found


def _plugins() -> Path:
    named = os.environ.get("HAULYARD_TERRAFORM_PLUGINS")
    folders = [Path(named)] if named else [*(Path(name).expanduser() for name in _USUAL), *Path("/opt").glob("*")]
    for folder in folders:
        if any((folder / _PROVIDER).glob("*")):
            return folder
    pytest.skip(f"{_MISSING}: there is no AWS provider in HAULYARD_TERRAFORM_PLUGINS, nor where Terraform keeps them")


def run(*words: str, folder: Path, settings: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", **(settings or {})}
    return subprocess.run(
        [_program(), *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=170, check=False
    )


def test_it_is_formatted() -> None:
    done = run("fmt", "-check", "-diff", "-recursive", folder=MODULE, settings={"TF_CLI_CONFIG_FILE": os.devnull})
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_is_valid_and_makes_what_it_should(tmp_path: Path) -> None:
    plugins = _plugins()
    folder = tmp_path / "alb"
    shutil.copytree(MODULE, folder, ignore=shutil.ignore_patterns(".terraform*"))
    configuration = tmp_path / "terraformrc"
    configuration.write_text(
        f"provider_installation {{\n  filesystem_mirror {{\n    path = {json.dumps(str(plugins))}\n  }}\n}}\n"
    )
    settings = {"TF_CLI_CONFIG_FILE": str(configuration)}
    for words in (("init", "-backend=false"), ("validate",), ("test",)):
        done = run(*words, "-no-color", folder=folder, settings=settings)
        assert done.returncode == 0, done.stdout + done.stderr
    assert " passed, 0 failed." in done.stdout
