"""`make chaos` in short: less of everything, and the same audit."""

from pathlib import Path

import pytest

from chaos.run import Plan, chaos_stack, run_chaos
from haulyard_devstack import Infra

pytestmark = [pytest.mark.fault, pytest.mark.timeout(420)]


async def test_nothing_is_lost_or_left_whatever_is_killed(infra: Infra | None, tmp_path: Path) -> None:
    if infra is None or len(infra.names) < 4:
        pytest.skip("the servers are not ours to kill: their addresses were given")
    plan = Plan(seed=11, jobs=60, users=2, outage_every=5.0, away=0.5, seconds=25.0, measure_memory=False)
    async with chaos_stack(infra.environment(), tmp_path) as stack:
        report = await run_chaos(infra, stack, plan)
    print(report.as_table())  # noqa: T201 - what pytest shows of a failure
    assert report.findings.wrong == []
    assert report.havoc.kills.total() >= 5
    assert report.havoc.outages.total() >= 1


async def test_nothing_changes_when_every_message_comes_twice_and_out_of_order(
    infra: Infra | None, addresses: dict[str, str], tmp_path: Path
) -> None:
    plan = Plan(
        seed=12, jobs=40, users=1, kill_every=None, outage_every=None, doubled=True, seconds=60.0, measure_memory=False
    )
    async with chaos_stack(addresses, tmp_path) as stack:
        report = await run_chaos(infra, stack, plan)
    print(report.as_table())  # noqa: T201 - what pytest shows of a failure
    assert report.findings.wrong == []
    assert report.doubler is not None
    assert set(report.doubler.taken) == {"jobs", "tasks", "results", "events"}
