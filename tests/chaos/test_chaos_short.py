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
    async with chaos_stack(infra, tmp_path) as stack:
        report = await run_chaos(infra, stack, plan)
    print(report.as_table())  # noqa: T201 - what pytest shows of a failure
    assert report.findings.wrong == []
    assert report.havoc.kills.total() >= 5
    assert report.havoc.outages.total() >= 1
