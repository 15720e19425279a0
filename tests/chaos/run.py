"""`make chaos`: many jobs of many kinds while everything they depend on is killed, and then an audit.

    make chaos CHAOS="--jobs 200 --seed 7"

The seed decides the files, the jobs, what their users do, and the order in which processes and servers die. When
exactly they die is decided by the machine.
"""

import argparse
import asyncio
import random
import secrets
import shutil
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from chaos.audit import Findings, audit_jobs, audit_places, open_places, status_counts
from chaos.client import Answers, GoodClient, Outcome
from chaos.doubling import Doubled, doubling
from chaos.faults import Havoc, Supervisor, kill_services, take_servers_away
from chaos.scenario import Kind, Order, Scenario, digest, make_scenario, turns
from chaos.webhooks import Hooks, hooks
from haulyard_chassis.tasks import cancel_and_wait
from haulyard_devstack import Infra, Stack
from support.installation import make_installation
from support.services import running_services

RECOVERY = 180.0
"""Seconds that all jobs may take to be over once nothing is broken any more."""
_GROWTH = 16 * 1024 * 1024
"""Bytes that a service may have grown over a batch of jobs that is like the batch before."""
_CALM_JOBS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How wild it gets."""

    seed: int = 1
    jobs: int = 1_000
    users: int = 6
    at_once: int = 24
    """Jobs that clients have under way."""
    kill_every: float | None = 1.0
    """Seconds between two killed services; None: none is killed."""
    outage_every: float | None = 20.0
    """Seconds between two servers that go away; None: they stay."""
    doubled: bool = False
    """Every message comes twice."""
    away: float = 1.0
    """Seconds that a server stays away."""
    seconds: float = 900.0
    """After this no further job is asked for and nothing more is broken."""
    measure_memory: bool = True


@dataclass
class Report:
    """How it went."""

    plan: Plan
    havoc: Havoc = field(default_factory=Havoc)
    answers: Answers = field(default_factory=Answers)
    findings: Findings = field(default_factory=Findings)
    doubler: Doubled | None = None
    ends: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    """How long each phase took."""
    memory: dict[str, dict[str, int]] = field(default_factory=dict)
    """Bytes of each service after the first calm batch, and after the second."""
    jobs: int = 0
    done_again: int = 0
    """Jobs that clients asked for again because the store had been away."""

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings.wrong

    def as_json(self) -> str:
        """Return all of it."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()

    def as_table(self) -> str:
        """Return what people want to know."""
        havoc, answers = self.havoc, self.answers
        ready = sorted(havoc.ready_seconds) or [0.0]
        rows = [
            ("jobs", f"{self.jobs} ({self.done_again} done again)"),
            *((f"  {kind}", ", ".join(f"{n} {end}" for end, n in row.items())) for kind, row in self.ends.items()),
            ("kills", f"{havoc.kills.total()}: {_counted(havoc.kills)}"),
            ("ready again after", f"{ready[len(ready) // 2]:.1f} s (median), {ready[-1]:.1f} s (longest)"),
            ("servers away", f"{havoc.outages.total()}: {_counted(havoc.outages)}"),
            ("starts that failed", _counted(havoc.restarts_failed) or "none"),
            *(
                [("messages that came twice", _counted(Counter(self.doubler.taken)))]
                if self.doubler is not None
                else []
            ),
            ("answers", _counted(Counter({str(status): n for status, n in sorted(answers.statuses.items())}))),
            ("no answer", _counted(Counter(answers.errors)) or "none"),
            ("answers with a warning", str(answers.warned)),
            ("seconds", ", ".join(f"{phase} {seconds:.0f}" for phase, seconds in self.seconds.items())),
            *(
                (f"memory of {name}", f"{m['first'] >> 20} -> {m['second'] >> 20} MiB")
                for name, m in self.memory.items()
            ),
            *((f"audit: {name}", found) for name, found in self.findings.checks.items()),
        ]
        width = max(len(name) for name, _ in rows)
        lines = [f"{name:<{width}}  {text}" for name, text in rows]
        return "\n".join([*lines, *(f"WRONG  {text}" for text in self.findings.wrong)])


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{n} {name}" for name, n in counter.most_common())


@asynccontextmanager
async def chaos_stack(addresses: dict[str, str], root: Path) -> AsyncIterator[Stack]:
    """Run the services as an installation of its own, on servers that can be killed."""
    settings = {
        "HAULYARD_STALE_SECONDS": "10",
        "HAULYARD_ORPHAN_UPLOAD_SECONDS": "15",
        "HAULYARD_WEBHOOK_SECRET": secrets.token_hex(24),
        # Parts of the size of a task that lives long enough: a large file is several.
        "HAULYARD_PART_BODY_BYTES": str(8 * 1024 * 1024),
    }
    async with running_services(root, await make_installation(addresses), **settings) as stack:
        yield stack


async def run_chaos(infra: Infra | None, stack: Stack, plan: Plan) -> Report:
    """Do it all, and return how it went; without servers of our own none can go away."""
    report = Report(plan=plan, jobs=plan.jobs)
    scenario = make_scenario(plan.seed, jobs=plan.jobs, users=plan.users)
    clients = [
        GoodClient(stack.api_url, stack.token(f"user-{user}"), report.answers, seed=f"{plan.seed}:client:{user}")
        for user in range(len(scenario.libraries))
    ]
    try:
        async with hooks() as receiver:
            with _timed(report, "upload"):
                ids, digests = await _upload(scenario, clients)
            async with AsyncExitStack() as around:
                if plan.doubled:
                    environment = stack.processes["gateway"].command.env
                    report.doubler = await around.enter_async_context(doubling(environment, seed=f"{plan.seed}:double"))
                outcomes = await _wreak(infra, stack, plan, scenario, clients, ids, receiver, report)
            with _timed(report, "audit"):
                await _audit(stack, plan, outcomes, clients, digests, receiver, report)
            if plan.measure_memory:
                with _timed(report, "calm"):
                    await _measure_memory(stack, plan, scenario, clients, ids, receiver, report)
    finally:
        for client in clients:
            await client.close()
    return report


class _timed:  # noqa: N801 - reads like a function
    """Notes how long a phase took."""

    def __init__(self, report: Report, phase: str) -> None:
        self._report, self._phase = report, phase
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._report.seconds[self._phase] = round(time.monotonic() - self._started, 1)


async def _upload(scenario: Scenario, clients: Sequence[GoodClient]) -> tuple[dict[str, int], dict[str, str]]:
    """Put the files of all users into the catalogue; return their ids and digests by their names."""
    ids: dict[str, int] = {}
    digests: dict[str, str] = {}
    gate = asyncio.Semaphore(8)

    async def one(client: GoodClient, name: str, data: bytes) -> None:
        async with gate:
            ids[name] = await client.upload(name, data)
            digests[name] = digest(data)

    for library, client in zip(scenario.libraries, clients, strict=True):
        await asyncio.gather(*(one(client, file.name, file.data(scenario.seed)) for file in library.files))
    return ids, digests


async def _wreak(
    infra: Infra | None,
    stack: Stack,
    plan: Plan,
    scenario: Scenario,
    clients: Sequence[GoodClient],
    ids: dict[str, int],
    receiver: Hooks,
    report: Report,
) -> list[Outcome]:
    """Let the clients work while things break; then mend everything and let them finish."""
    supervisor = Supervisor(stack, report.havoc)
    draw = scenario.victims
    services = turns(sorted(stack.processes), draw)
    hard = random.Random(f"{plan.seed}:hard")
    breaking = []
    if plan.kill_every is not None:
        breaking.append(asyncio.create_task(kill_services(supervisor, services, every=plan.kill_every)))
    if plan.outage_every is not None and infra is not None:
        outages = take_servers_away(
            infra,
            turns(infra.names, random.Random(f"{plan.seed}:servers")),
            report.havoc,
            every=plan.outage_every,
            away=plan.away,
            hard=iter(lambda: hard.random() < 0.5, None),  # never None: for ever
        )
        breaking.append(asyncio.create_task(outages))
    outcomes: list[Outcome] = []
    watching = asyncio.create_task(supervisor.watch())
    telling = asyncio.create_task(_tell(outcomes, report.havoc, of=plan.jobs))
    working: set[asyncio.Task[None]] = set()
    gate = asyncio.Semaphore(plan.at_once)

    async def work(outcome: Outcome) -> None:
        try:
            await clients[outcome.order.user].run(outcome, ids, receiver.url)
        finally:
            gate.release()

    try:
        with _timed(report, "chaos"):
            ends = time.monotonic() + plan.seconds
            for order in scenario.orders:
                await gate.acquire()
                if time.monotonic() > ends:
                    break
                outcomes.append(Outcome(order))
                working.add(asyncio.create_task(work(outcomes[-1])))
            report.jobs = len(outcomes)
            remaining = max(0.0, ends - time.monotonic())
            await asyncio.wait(working, timeout=remaining, return_when=asyncio.ALL_COMPLETED)
        with _timed(report, "recovery"):
            broken = [task.exception() for task in breaking if task.done()]
            await cancel_and_wait(*breaking)
            if infra is not None:
                await asyncio.gather(*(infra.start(name) for name in infra.names))
            await supervisor.settle()
            await asyncio.wait(working, timeout=RECOVERY)
        report.findings.check("faults went on to the end", len(breaking), [repr(error) for error in broken])
        await cancel_and_wait(*working)
        report.findings.check(
            "no client broke", len(outcomes), [repr(e) for t in working if not t.cancelled() and (e := t.exception())]
        )
    finally:
        await cancel_and_wait(watching, telling, *breaking, *working)
        await supervisor.stop()
    return outcomes


async def _tell(outcomes: Sequence[Outcome], havoc: Havoc, *, of: int) -> None:
    """Say every ten seconds how far it is."""
    started = time.monotonic()
    while True:
        await asyncio.sleep(10)
        over = sum(outcome.is_over for outcome in outcomes)
        _say(
            f"{time.monotonic() - started:5.0f} s  {over} of {of} jobs over, {havoc.kills.total()} kills,"
            f" {havoc.outages.total()} outages"
        )


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def _audit(
    stack: Stack,
    plan: Plan,
    outcomes: Sequence[Outcome],
    clients: Sequence[GoodClient],
    digests: dict[str, str],
    receiver: Hooks,
    report: Report,
) -> None:
    report.ends = status_counts(outcomes)
    report.done_again = sum(len(outcome.job_ids) - 1 for outcome in outcomes if outcome.job_ids)
    report.findings.check("no service ended by itself", len(stack.processes), report.havoc.own_ends)
    of_jobs = await audit_jobs(outcomes, clients, digests)
    async with open_places(stack.environment | dict(stack.processes["gateway"].command.env)) as places:
        of_places = await audit_places(places, outcomes, receiver, doubled=plan.doubled)
    for found in (of_jobs, of_places):
        report.findings.checks |= found.checks
        report.findings.wrong += found.wrong


async def _measure_memory(
    stack: Stack,
    plan: Plan,
    scenario: Scenario,
    clients: Sequence[GoodClient],
    ids: dict[str, int],
    receiver: Hooks,
    report: Report,
) -> None:
    """Have two equal batches done by the services as they are now: the second one must not need more memory."""
    calm = [order for order in scenario.orders if order.kind in (Kind.SMALL, Kind.MISSING, Kind.DEFLATE)][:_CALM_JOBS]
    after: list[dict[str, int]] = []
    for _ in range(3):
        gate = asyncio.Semaphore(plan.at_once)

        async def one(order: Order, gate: asyncio.Semaphore = gate) -> None:
            async with gate, asyncio.timeout(RECOVERY):
                await clients[order.user].run(Outcome(replace(order, webhook=False)), ids, receiver.url)

        await asyncio.gather(*(one(order) for order in calm))
        after.append({name: _rss(process.pid or 0) for name, process in stack.processes.items()})
    report.memory = {name: {"first": after[1][name], "second": after[2][name]} for name in after[0]}
    grown = [name for name, m in report.memory.items() if m["second"] - m["first"] > _GROWTH]
    report.findings.check("no memory grows", f"{len(calm)} jobs, three times", grown)


def _rss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmRSS:")).split()[1])


async def _main(plan: Plan, home: Path, out: Path, *, keep: bool) -> int:
    shutil.rmtree(home / "servers", ignore_errors=True)
    async with Infra(home / "servers") as infra, chaos_stack(infra.environment(), home / "services") as stack:
        report = await run_chaos(infra, stack, plan)
    await asyncio.to_thread(out.write_text, report.as_json())
    _say(report.as_table())
    _say(f"\n{'GOOD' if report.is_good else 'NOT GOOD'}; all of it is in {out}")
    if report.is_good and not keep:
        shutil.rmtree(home / "servers", ignore_errors=True)
    return 0 if report.is_good else 1


def main(arguments: Sequence[str]) -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1_000)
    parser.add_argument("--minutes", type=float, default=15.0, help="after which no further job is asked for")
    parser.add_argument("--away", type=float, default=1.0, help="seconds that a server stays away")
    parser.add_argument("--doubled", action="store_true", help="let every message come twice as well")
    parser.add_argument("--home", type=Path, default=Path(".haulyard/chaos"))
    parser.add_argument("--keep", action="store_true", help="leave the servers' data for a look")
    given = parser.parse_args(arguments)
    given.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    plan = Plan(seed=given.seed, jobs=given.jobs, seconds=given.minutes * 60, away=given.away, doubled=given.doubled)
    return asyncio.run(_main(plan, given.home, given.home / "report.json", keep=given.keep))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
