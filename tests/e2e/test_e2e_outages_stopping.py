"""Services that are told to stop: they end in time, whatever they are doing, and lose nothing."""

import asyncio
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
from support.services import restart

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]

MIB = 1024 * 1024
RECOVERY = 60.0
SERVICES = ["gateway", "orchestrator", "archiver-1", "notifier"]
CLEAN = {0, -signal.SIGTERM}
"""Exit codes of a process that ended because it was told to, and had not to be killed when its time was over."""


async def test_services_that_are_told_to_stop_at_work_end_in_time_and_lose_nothing(
    api: ApiClient, stack: Stack
) -> None:
    noise = random.Random("stop")
    small = [await api.upload(f"{n}.bin", noise.randbytes(50_000)) for n in range(4)]
    data = noise.randbytes(60 * MIB)
    large = await api.upload("large.bin", data)
    jobs = []
    async with under_load(api, small) as load:
        for left_out, name in enumerate(SERVICES):
            await load.more(2, within=RECOVERY)
            process = stack.processes[name]
            others = small[:left_out] + small[left_out + 1 :]  # equal jobs would share one archive
            jobs.append(await api.initiate(large, *others, compression="deflate"))
            await api.wait_for_bytes(jobs[-1]["job_id"], 1)
            await process.stop()
            assert process.exit_code in CLEAN, name
            await restart(stack, process)
        await load.more(4, within=RECOVERY)
    assert {end["status"] for end in load.ends} == {"completed"}
    for job in jobs:
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
                log_file=tmp_path / f"lone-{name}.log",
                pid_file=tmp_path / f"lone-{name}.pid",
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


async def test_services_end_in_time_although_nothing_answers_them_any_more(
    lone: Callable[..., ManagedProcess], infra: Infra | None, api: ApiClient
) -> None:
    """Frozen servers keep connections open and say nothing: no farewell may be waited for."""
    if infra is None or len(infra.names) < 4:
        pytest.skip("the servers are not ours to freeze: their addresses were given")
    processes = [lone(name) for name in SERVICES]
    await asyncio.gather(*(start(process) for process in processes))
    await api.initiate(await api.upload("a.txt", b"a"))
    try:
        for server in infra.names:
            await infra.pause(server)
        await asyncio.gather(*(process.stop() for process in processes))
    finally:
        for server in infra.names:
            await infra.resume(server)
    assert {process.name: process.exit_code for process in processes if process.exit_code not in CLEAN} == {}


async def start(process: ManagedProcess) -> None:
    url = f"http://127.0.0.1:{process.command.env['HAULYARD_HTTP_PORT']}/health/ready"
    await process.start(lambda: http_ok(url), 60)


async def test_a_service_that_waits_for_a_server_can_be_told_to_stop(lone: Callable[..., ManagedProcess]) -> None:
    process = lone("orchestrator", HAULYARD_POSTGRES_DSN="postgresql://nobody:nothing@127.0.0.1:1/nowhere")

    async def waits() -> bool:
        return "database not there yet" in process.log_tail()

    await process.start(waits, 60)
    await process.stop()
    assert process.exit_code in CLEAN, process.log_tail()
