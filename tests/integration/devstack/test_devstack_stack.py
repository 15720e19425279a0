"""Services on top of the infrastructure, and the command line: nothing restarts silently, nothing is left behind."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

import httpx
import pytest

from haulyard_devstack import DevstackError, ServiceSpec, StartError, running_stack
from haulyard_devstack.identity import ProcessIdentity, start_ticks
from haulyard_devstack.logs import MergedLog

STANDIN = Path(__file__).with_name("standin.py")
GIVEN = {
    "HAULYARD_POSTGRES_DSN": "postgresql://given",
    "HAULYARD_S3_ENDPOINT": "http://given",
    "HAULYARD_S3_ACCESS_KEY": "key",
    "HAULYARD_S3_SECRET_KEY": "secret",
}
"""Only the two fast servers are started here; the other two have their own tests."""


def standins(*names: str) -> list[ServiceSpec]:
    return [ServiceSpec(name=name, argv=[sys.executable, str(STANDIN)], ready_timeout=20) for name in names]


async def test_services_get_their_addresses_and_everything_is_gone_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_stack(tmp_path / "dev", env=GIVEN, services=standins("gateway", "notifier")) as stack:
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"{stack.urls['gateway']}/health/ready")
        assert answer.text == stack.environment["HAULYARD_NATS_URL"]
        assert stack.api_url == stack.urls["gateway"] == stack.environment["HAULYARD_PUBLIC_API_URL"]
        assert stack.token("someone").count(".") == 2
        children = [*stack.processes.values(), *stack.infra.processes.values()]
        pids = [pid for child in children for pid in child.members()]
        assert len(pids) >= 4
        assert json.loads((tmp_path / "dev" / "state.json").read_text())["supervisor"]["pid"] == os.getpid()
    assert [pid for pid in pids if start_ticks(pid) is not None] == []
    assert not (tmp_path / "dev" / "state.json").exists()
    printed = capsys.readouterr().out
    for name in ("nats", "valkey", "gateway", "notifier"):
        assert re.search(rf"^  {name} +ready  \S+  \(\d+\.\d s\)$", printed, re.MULTILINE)


async def test_a_service_that_ends_is_reported_and_stays_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    services = standins("gateway", "notifier")
    async with running_stack(tmp_path / "dev", env=GIVEN, services=services, show_logs=True) as stack:
        async with httpx.AsyncClient() as client:
            await client.get(f"{stack.urls['notifier']}/end")
        assert await asyncio.wait_for(stack.child_ended(), 10) == "notifier ended by itself with exit code 9"
        assert not stack.processes["notifier"].running
        assert stack.processes["gateway"].running
    assert re.search(r"^notifier +\| told to end$", capsys.readouterr().out, re.MULTILINE)


async def test_a_service_that_cannot_start_takes_the_stack_down(tmp_path: Path) -> None:
    broken = ServiceSpec(name="orchestrator", argv=[sys.executable, "-c", "raise SystemExit('no such table')"])
    with pytest.raises(StartError, match=r"orchestrator(.|\n)*no such table"):
        async with running_stack(tmp_path / "dev", env=GIVEN, services=[*standins("gateway"), broken]):
            pytest.fail("it must not come up")
    assert live_children(tmp_path / "dev") == []


async def test_a_command_that_is_not_installed_is_named(tmp_path: Path) -> None:
    missing = ServiceSpec(name="gateway", argv=[str(tmp_path / "haulyard-gateway")])
    with pytest.raises(DevstackError, match="haulyard-gateway"):
        async with running_stack(tmp_path / "dev", env=GIVEN, services=[missing]):
            pytest.fail("it must not come up")


UP = """
import sys
from pathlib import Path
from haulyard_devstack import ServiceSpec, supervisor
services = [ServiceSpec(name=name, argv=[sys.executable, sys.argv[2]]) for name in ("gateway", "notifier")]
sys.exit(supervisor.run_until_signal(lambda: supervisor.up(Path(sys.argv[1]), services=services)))
"""


async def started_up(root: Path) -> asyncio.subprocess.Process:
    up = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", UP, str(root), str(STANDIN)),
        env={**os.environ, **GIVEN},
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert up.stdout is not None
    async for line in up.stdout:
        if line.startswith(b"Ctrl-C stops everything"):
            return up
    raise AssertionError("`up` ended before it was up")


async def command(name: str, root: Path) -> tuple[int | None, str]:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "haulyard_devstack", name),
        env={**os.environ, "HAULYARD_HOME": str(root)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await child.communicate()
    return child.returncode, output.decode()


def recorded(root: Path) -> list[ProcessIdentity]:
    found: Iterable[ProcessIdentity | None] = (ProcessIdentity.load(path) for path in (root / "run").glob("*.pid"))
    return [identity for identity in found if identity is not None]


def live_children(root: Path) -> list[ProcessIdentity]:
    return [identity for identity in recorded(root) if identity.is_running()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_up_stops_everything_at_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    up = await started_up(tmp_path)
    children = recorded(tmp_path)
    assert len(children) == 4
    up.send_signal(number)
    output, _ = await up.communicate()
    assert up.returncode == 0, output
    assert [child for child in children if child.is_running()] == []


async def test_status_and_down_speak_to_a_running_up(tmp_path: Path) -> None:
    assert (await command("status", tmp_path))[0] == 1
    up = await started_up(tmp_path)
    code, printed = await command("status", tmp_path)
    assert code == 0
    assert printed.count("  ready") == 2
    code, printed = await command("up", tmp_path)
    assert code == 1
    assert f"in use by process {up.pid}" in printed
    assert await command("down", tmp_path) == (0, "stopped\n")
    await up.communicate()
    assert up.returncode == 0
    assert await command("down", tmp_path) == (0, "nothing is running\n")


async def test_a_service_that_ends_makes_up_stop_everything_and_fail(tmp_path: Path) -> None:
    up = await started_up(tmp_path)
    children = recorded(tmp_path)
    state = json.loads((tmp_path / "state.json").read_text())
    async with httpx.AsyncClient() as client:
        await client.get(state["services"]["gateway"].replace("/health/ready", "/end"))
    output, _ = await up.communicate()
    assert up.returncode == 1
    assert b"error: gateway ended by itself with exit code 9" in output
    assert [child for child in children if child.is_running()] == []


async def test_after_a_killed_up_the_next_one_starts(tmp_path: Path) -> None:
    up = await started_up(tmp_path)
    up.kill()
    await up.communicate()
    again = await started_up(tmp_path)
    again.terminate()
    await again.communicate()
    assert again.returncode == 0
    assert live_children(tmp_path) == []


async def test_down_ends_what_a_killed_up_left_behind(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
    orphan = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    assert orphan.stdout is not None
    await orphan.stdout.readline()
    ProcessIdentity.observe(orphan.pid, argv).save(tmp_path / "run" / "gateway.pid")
    assert await command("down", tmp_path) == (0, "ended what was left over: gateway\n")
    await orphan.communicate()
    assert orphan.returncode == -signal.SIGTERM


def test_merged_lines_carry_their_owner_and_colour_only_on_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log_file = tmp_path / "one.log"
    log_file.write_text("before\n")
    for colour in (False, True):
        merged = MergedLog(colour=colour)
        merged.follow("one", log_file)
        with log_file.open("a") as log:
            log.write("half a")
            log.flush()
            merged.print_new()
            log.write(" line\n")
        merged.print_new()
    assert capsys.readouterr().out == "one | half a line\n\x1b[36mone |\x1b[0m half a line\n"
