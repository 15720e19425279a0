"""Where Ceph cannot be had, a container engine runs the store; here the engine is a stand-in that only listens."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from haulyard_devstack import DevstackError, Infra, probes
from haulyard_devstack.identity import start_ticks

ENGINE = """#!{python}
import http.server, os, sys
words = sys.argv[1:]
with open({calls!r}, "a") as calls:
    calls.write(" ".join(words) + chr(10))
if words[0] == "run":
    assert os.environ["ROOT_ACCESS_KEY"] and os.environ["ROOT_SECRET_KEY"]
    port = int(words[words.index("--publish") + 1].split(":")[1])
    class Denied(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(403)
    http.server.HTTPServer(("127.0.0.1", port), Denied).serve_forever()
"""
GIVEN = dict.fromkeys(("HAULYARD_NATS_URL", "HAULYARD_POSTGRES_DSN", "HAULYARD_REDIS_URL"), "given")


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without apt, whose container engine writes down what it is asked."""
    written = tmp_path / "calls"
    commands = tmp_path / "bin"
    commands.mkdir()
    engine = commands / "docker"
    engine.write_text(ENGINE.format(python=sys.executable, calls=str(written)))
    engine.chmod(0o755)
    (commands / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(commands))
    return written


async def test_a_container_runs_and_is_removed_at_the_end(tmp_path: Path, calls: Path) -> None:
    async with Infra(tmp_path / "dev", env=GIVEN | {"HAULYARD_S3_IMAGE": "store:1"}) as infra:
        environment = infra.environment()
        assert await probes.http_status(environment["HAULYARD_S3_ENDPOINT"]) == 403
        pids = infra.processes["s3"].members()
    assert [pid for pid in pids if start_ticks(pid) is not None] == []
    written = await asyncio.to_thread(calls.read_text)
    asked = [line.split() for line in written.splitlines()]
    assert [words[0] for words in asked] == ["info", "rm", "run", "rm"]
    assert "store:1" in asked[2]
    assert environment["HAULYARD_S3_SECRET_KEY"] not in written


async def test_without_apt_and_engine_the_error_says_what_to_set(tmp_path: Path, calls: Path) -> None:
    await asyncio.to_thread(os.unlink, calls.parent / "bin" / "docker")
    with pytest.raises(DevstackError, match="HAULYARD_S3_ENDPOINT"):
        await Infra(tmp_path / "dev", env=GIVEN).__aenter__()
