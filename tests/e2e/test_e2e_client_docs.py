"""The examples of docs/clients.md are run as they stand."""

import asyncio
import os
import re
import secrets
import sys
from pathlib import Path

import pytest

from haulyard_devstack import Stack

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
PATIENCE = 60.0


def examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def environment(stack: Stack, tmp_path: Path) -> dict[str, str]:
    """Someone with a folder of photos."""
    for name in ("a.jpg", "2026/b.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(secrets.token_bytes(70_000))
    return {
        "HAULYARD_URL": stack.api_url,
        "HAULYARD_TOKEN": stack.token(f"user-{secrets.token_hex(4)}"),
        "HAULYARD_CONFIG": str(tmp_path / "config.toml"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "LANG": "C.UTF-8",
    }


async def run(words: list[str], environment: dict[str, str], folder: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *words, cwd=folder, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_the_commands_work(environment: dict[str, str], tmp_path: Path) -> None:
    [script] = examples("sh")
    out = await run(["bash", "-euo", "pipefail", "-c", script], environment, tmp_path)
    assert "photos/2026/b.jpg" in out
    assert (tmp_path / "photos.zip").read_bytes() == (tmp_path / "again.zip").read_bytes()


@pytest.mark.parametrize("number", range(2))
async def test_the_python_works(environment: dict[str, str], tmp_path: Path, number: int) -> None:
    await run([sys.executable, "-W", "error", "-c", examples("python")[number]], environment, tmp_path)
    assert (tmp_path / ("python.zip", "holidays.zip")[number]).exists()
