"""Services that are told to stop: they end in time, whatever they are doing, and lose nothing."""

import random
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from haulyard_devstack import Infra, Stack, ports
from haulyard_devstack.probes import http_ok
from haulyard_devstack.process import ManagedProcess
from support.client import ApiClient, members, sha256
from support.outage import under_load

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]

MIB = 1024 * 1024
RECOVERY = 60.0
CLEAN = {0, -signal.SIGTERM}
"""Exit codes of a process that ended because it was told to, and had not to be killed when its time was over."""


async def restart(stack: Stack, process: ManagedProcess) -> None:
    url = f"{stack.urls[process.name]}/health/ready"
    await process.start(lambda: http_ok(url), 60)


@pytest.mark.parametrize("name", ["gateway", "orchestrator", "archiver-1", "notifier"])
async def test_a_service_that_is_told_to_stop_at_work_ends_in_time_and_loses_nothing(
    api: ApiClient, stack: Stack, name: str
) -> None:
    noise = random.Random(name)
    small = [await api.upload(f"{n}.bin", noise.randbytes(50_000)) for n in range(4)]
    data = noise.randbytes(40 * MIB)
    large = await api.upload("large.bin", data)
    process = stack.processes[name]
    async with under_load(api, small) as load:
        await load.more(4, within=RECOVERY)
        job = await api.initiate(large, small[0])
        await api.wait_for_bytes(job["job_id"], 1)
        await process.stop()
        assert process.exit_code in CLEAN
        await restart(stack, process)
        await load.more(4, within=RECOVERY)
    assert {end["status"] for end in load.ends} == {"completed"}
    assert (await load.wait(job["job_id"]))["status"] == "completed"
    assert members(await api.download(job["job_id"]))["large.bin"] == sha256(data)


@pytest.fixture
async def lone(stack: Stack, tmp_path: Path) -> AsyncIterator[Callable[..., ManagedProcess]]:
    """Makes one more replica of a service, with little time to stop in."""
    made: list[ManagedProcess] = []

    def make(name: str, **settings: str) -> ManagedProcess:
        command = stack.processes[name].command
        process = ManagedProcess(
            replace(
                command,
                name=f"lone {name}",
                log_file=tmp_path / "lone.log",
                pid_file=tmp_path / "lone.pid",
                env={
                    **command.env,
                    "HAULYARD_SHUTDOWN_GRACE": "2",
                    "HAULYARD_HTTP_PORT": str(ports.choose()),
                    **settings,
                },
                stop_grace=20.0,
            )
        )
        made.append(process)
        return process

    yield make
    for process in made:
        await process.stop()


@pytest.mark.parametrize("name", ["gateway", "orchestrator", "archiver-1", "notifier"])
async def test_a_service_ends_in_time_although_nothing_answers_it_any_more(
    lone: Callable[..., ManagedProcess], infra: Infra | None, api: ApiClient, name: str
) -> None:
    """Frozen servers keep connections open and say nothing: no farewell may be waited for."""
    if infra is None or len(infra.names) < 4:
        pytest.skip("the servers are not ours to freeze: their addresses were given")
    process = lone(name)
    await process.start(lambda: http_ok(f"http://127.0.0.1:{process.command.env['HAULYARD_HTTP_PORT']}/health/ready"))
    await api.initiate(await api.upload("a.txt", b"a"))
    try:
        for server in infra.names:
            await infra.pause(server)
        await process.stop()
    finally:
        for server in infra.names:
            await infra.resume(server)
    assert process.exit_code in CLEAN, process.log_tail()


@pytest.mark.parametrize("name", ["gateway", "orchestrator"])
async def test_a_service_that_waits_for_a_server_can_be_told_to_stop(
    lone: Callable[..., ManagedProcess], name: str
) -> None:
    process = lone(name, HAULYARD_POSTGRES_DSN="postgresql://nobody:nothing@127.0.0.1:1/nowhere")

    async def waits() -> bool:
        return "database not there yet" in process.log_tail()

    await process.start(waits, 60)
    await process.stop()
    assert process.exit_code in CLEAN, process.log_tail()
