"""Measures how an installation ages and grows: ``make growth``; see docs/load.md.

First the hot statements, each as PostgreSQL executed it, with ever more finished jobs in the tables; then the same
small load with one, two and four archivers, and with ever more finished jobs. Prints tables and writes
``bench/results/growth-<time>.json``.
"""

import argparse
import asyncio
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import asyncpg
import uvloop

from haulyard_chassis.database import Connection, migrate
from haulyard_devstack import Infra
from load import Ground, Setup, ground, keep, say, until_planned
from load_costs import calls, spent
from rig import Figure
from support.explained import Executed, explaining
from support.full_record import LARGE_TABLES, Filled, add_jobs
from support.hot_statements import HOT, Hot, On
from support.installation import make_database

DATA = Path(__file__).parents[1] / ".haulyard" / "growth"
ARCHIVERS = (1, 2, 4)
USUAL_ARCHIVERS = 2
RUNNING_SHARE = 10
"""One job is under way for so many that are finished."""
DEADLINE = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a statement did with so many finished jobs in the tables."""

    statement: str
    finished: int
    indexes: list[str]
    reads_all_of: list[str]
    """Tables that grow and were read from end to end."""
    rows: int
    """Most rows that were looked at in one table."""
    buffers: int
    milliseconds: float


def cost(hot: Hot, finished: int, ran: Sequence[Executed]) -> Cost:
    """Return what a statement did, with the triggers and checks that it set off."""
    scans = [scan for each in ran for scan in each.scans()]
    return Cost(
        statement=hot.name,
        finished=finished,
        indexes=ran[-1].indexes(),
        reads_all_of=sorted({scan.table for scan in scans if scan.index is None} & LARGE_TABLES),
        rows=max((scan.rows for scan in scans), default=0),
        buffers=ran[-1].buffers,
        milliseconds=ran[-1].milliseconds,
    )


async def tried(connection: Connection, hot: Hot, filled: Filled) -> list[Executed]:
    """Run a statement twice, and undo it; return what the second run did, for which everything was in memory."""
    async with explaining(connection) as explainer:
        for _ in range(2):
            await explainer.take()
            transaction = connection.transaction()
            await transaction.start()
            try:
                await hot.run(On(connection, filled))
            finally:
                await transaction.rollback()
        return await explainer.take()


async def statements(root: Path, sizes: Sequence[int]) -> list[Cost]:
    """Try the hot statements with ever more jobs in the tables."""
    # Only PostgreSQL is wanted.
    given = dict.fromkeys(("HAULYARD_S3_ENDPOINT", "HAULYARD_NATS_URL", "HAULYARD_REDIS_URL"), "http://127.0.0.1:1")
    costs = []
    async with Infra(root, env={**os.environ, **given}) as infra:
        dsn = await make_database(infra.environment()["HAULYARD_POSTGRES_DSN"], f"growth{time.time_ns()}")
        async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
            await migrate(pool)
        connection = await asyncpg.connect(dsn)
        try:
            # As after some runs of a prepared statement: one plan for whatever the parameters are.
            await connection.execute("SET plan_cache_mode = force_generic_plan")
            filled = Filled(0, 0)
            for size in sizes:
                before, filled = filled, Filled(size, size // RUNNING_SHARE)
                started = time.monotonic()
                await add_jobs(connection, before, filled)
                say(f"{filled.finished} finished jobs, {filled.running} under way ({time.monotonic() - started:.1f} s)")
                costs += [cost(hot, size, await tried(connection, hot, filled)) for hot in HOT]
        finally:
            await connection.close()
    return costs


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """The small load once."""

    archivers: int
    finished: int
    """Jobs that were in the tables before."""
    jobs_per_second: float
    statements: float
    """SQL statements a job."""
    sql_ms: float
    """Time in SQL a job."""
    cpu_ms: float
    """Processor time a job, all together."""
    postgres_cpu_ms: float


async def one_round(at: Ground, jobs: int, *, archivers: int, finished: int) -> Round:
    """Put the small load on."""
    before, started = await at.costs(), time.monotonic()
    await at.accept(jobs, "initiate")
    statuses = await at.until_over(started + DEADLINE)
    seconds = time.monotonic() - started
    used = spent(before, await at.costs())
    if statuses["completed"] != jobs:
        raise RuntimeError(f"not all jobs were completed: {dict(statuses)}")
    await at.clean_up()
    await until_planned(at, time.monotonic() + DEADLINE)  # and deleted, so that it is not in the next round
    return Round(
        archivers=archivers,
        finished=finished,
        jobs_per_second=jobs / seconds,
        statements=calls(used.statements) / jobs,
        sql_ms=sum(each.milliseconds for each in used.statements) / jobs,
        cpu_ms=1000 * sum(used.cpu.values()) / jobs,
        postgres_cpu_ms=1000 * used.cpu["postgres"] / jobs,
    )


async def rounds(root: Path, sizes: Sequence[int], jobs: int) -> list[Round]:
    """Put the small load on with one, two and four archivers; with the usual ones also beside ever more old jobs."""
    made = []
    for archivers in ARCHIVERS:
        shutil.rmtree(root, ignore_errors=True)
        async with ground(Setup(archivers=archivers), root) as at:
            await one_round(at, jobs, archivers=archivers, finished=0)  # until everything is warm
            filled = Filled(0, 0)
            for size in sizes if archivers == USUAL_ARCHIVERS else sizes[:1]:
                before, filled = filled, Filled(size, 0)
                async with at.rig.pool.acquire() as connection:
                    await add_jobs(connection, before, filled)
                made.append(await one_round(at, jobs, archivers=archivers, finished=size))
                say(f"{archivers} archivers, {size} finished jobs: {made[-1].jobs_per_second:.1f} jobs/s")
    return made


def show_costs(costs: Sequence[Cost], sizes: Sequence[int]) -> None:
    """Print the table of the statements, as it is in docs/load.md."""
    print("\n| statement | index | pages at " + " / ".join(f"{size:,}" for size in sizes) + " jobs | rows | ms |")
    print("|---|---|---|---|---|")
    for hot in HOT:
        of_this = [each for each in costs if each.statement == hot.name]
        last = of_this[-1]
        indexes = ", ".join(f"`{name}`" for name in last.indexes) or "(inserts)"
        whole = f" **reads all of {', '.join(last.reads_all_of)}**" if last.reads_all_of else ""
        pages = " / ".join(str(each.buffers) for each in of_this)
        print(f"| {hot.name} | {indexes}{whole} | {pages} | {last.rows} | {last.milliseconds:.2f} |")


def show_rounds(made: Sequence[Round]) -> None:
    """Print the table of the loads."""
    print("\n| archivers | finished jobs | jobs/s | SQL statements a job | ms in SQL | CPU ms | of it PostgreSQL |")
    print("|---|---|---|---|---|---|---|")
    for each in made:
        print(
            f"| {each.archivers} | {each.finished:,} | {each.jobs_per_second:.1f} | {each.statements:.1f} |"
            f" {each.sql_ms:.2f} | {each.cpu_ms:.1f} | {each.postgres_cpu_ms:.1f} |"
        )


def main() -> int:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=DATA, help="where everything is kept; emptied first")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="finished jobs")
    parser.add_argument("--jobs", type=int, default=300, help="of the small load (300); 0: the statements only")
    arguments = parser.parse_args()
    load = os.getloadavg()
    shutil.rmtree(arguments.home, ignore_errors=True)
    costs = asyncio.run(statements(arguments.home / "statements", arguments.sizes))
    made = uvloop.run(rounds(arguments.home / "stack", arguments.sizes, arguments.jobs)) if arguments.jobs else []
    shutil.rmtree(arguments.home, ignore_errors=True)
    show_costs(costs, arguments.sizes)
    show_rounds(made)
    figures = [
        Figure(
            what=f"jobs a second, {each.archivers} archivers, {each.finished} finished jobs",
            value=each.jobs_per_second,
            unit="jobs/s",
        )
        for each in made
    ]
    keep(
        "growth",
        figures,
        load_average=load,
        statements=[asdict(each) for each in costs],
        rounds=[asdict(each) for each in made],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
