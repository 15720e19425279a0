"""Measures an installation with many jobs and many who watch them: ``make load``; see docs/load.md.

Three profiles: ``seed``, the load test of the original requirement, by locust; ``flood``, as many jobs in flight at one
time as are asked for, and as many WebSockets; ``initiate``, how long it takes to accept a job. Everything is on this
machine and on loopback, the clients too. Prints a table and writes ``bench/results/load-<profile>-<time>.json``.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop
from nats.js import JetStreamContext

from haulyard_chassis.broker import connect_broker
from haulyard_chassis.settings import ServiceSettings
from haulyard_chassis.tasks import cancel_and_wait
from haulyard_contracts import Topology
from haulyard_devstack import Stack, running_stack
from haulyard_devstack.services import GATEWAY, ServiceSpec, default_services
from load_clients import Answer, Lane, Watched, watch
from load_costs import Costs, calls, costs, count_statements, spent
from rig import Figure, Rig, percentile
from sockets import SPARE_FILES, raise_file_limit

HERE = Path(__file__).parent
RESULTS = HERE / "results"
DATA = HERE.parent / ".haulyard" / "load"
LIMITS = {
    "HAULYARD_RATE_LIMIT_PER_MINUTE": "0",
    "HAULYARD_MAX_JOBS_PER_USER": "0",
    "HAULYARD_USER_CONNECTIONS": "1000000",
    "HAULYARD_JOB_CONNECTIONS": "1000000",
    "HAULYARD_LOG_LEVEL": "warning",
}
"""One user does it all here, who may do as much as many."""
AT_ONCE = 64
"""Requests under way at a time: issue C's."""
CONNECTING = 50
"""Handshakes under way at a time."""
POLLS_PER_SECOND = 20.0
DOWNLOADS = 50
"""Finished archives that are asked for."""
FILES = 60
FILE_SIZE = 20_000
IN_A_JOB = 3
SHOWN_STATEMENTS = 15
BACKGROUND = ("orchestrator", "archiver", "notifier")
_NICE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What runs."""

    archivers: int = 2
    gateways: int = 1
    nice: bool = False
    """Orchestrator and archivers leave the processor to the others."""

    def services(self) -> list[ServiceSpec]:
        """Return the services to start."""
        given = {spec.name: spec for spec in default_services()}
        archiver = given.pop("archiver-1")
        gateway = given[GATEWAY]
        services = [spec for spec in given.values() if not spec.name.startswith("archiver")]
        services += [replace(gateway, name=f"{GATEWAY}-{number}") for number in range(2, self.gateways + 1)]
        services += [replace(archiver, name=f"archiver-{number}") for number in range(1, self.archivers + 1)]
        return [self._placed(spec) for spec in services]

    def _placed(self, spec: ServiceSpec) -> ServiceSpec:
        if self.nice and spec.name.startswith(("orchestrator", "archiver")):
            return replace(spec, argv=["nice", "-n", str(_NICE), *spec.argv])
        return spec


@dataclass(frozen=True, slots=True)
class Job:
    """A job that was accepted."""

    job_id: str
    websocket_url: str


@dataclass
class Ground:
    """Where the load is put."""

    rig: Rig
    stream: JetStreamContext
    topology: Topology
    file_ids: list[int]
    api_urls: list[str]
    headers: dict[str, str]
    jobs: list[Job] = field(default_factory=list)
    """All that were made."""
    watched: Watched = field(default_factory=lambda: Watched([]))
    watchers: set[asyncio.Task[str]] = field(default_factory=set)
    api: dict[str, list[float]] = field(default_factory=dict)
    """Milliseconds of requests, by what they were."""
    errors: Counter[str] = field(default_factory=Counter)
    """Answers that were none."""
    _connecting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CONNECTING))

    def lane(self) -> Lane:
        """Return a connection to one of the gateways."""
        return Lane(random.choice(self.api_urls), self.headers)

    def body(self) -> bytes:
        """Return the body of a request for an archive, seldom the same as another."""
        return json.dumps({"file_ids": random.sample(self.file_ids, IN_A_JOB)}).encode()

    async def ask(self, lane: Lane, what: str, method: str, target: str, body: bytes = b"") -> Answer | None:
        """Send a request and note how long it took, and whether it was answered well."""
        try:
            answer = await lane.request(method, target, body)
        except (OSError, EOFError) as error:
            self.errors[f"{what}: {error!r}"] += 1
            return None
        self.api.setdefault(what, []).append(1000 * answer.seconds)
        if answer.status >= 300:
            self.errors[f"{what}: {answer.status}"] += 1
            return None
        return answer

    async def accept(self, count: int, what: str, *, watchers: int = 0) -> None:
        """Have jobs accepted, and have them watched."""
        numbers = iter(range(count))

        async def work(url: str) -> None:
            lane = Lane(url, self.headers)
            for number in numbers:
                answer = await self.ask(lane, what, "POST", "/v1/download/initiate", self.body())
                if answer is not None:
                    told = answer.json()
                    job = Job(told["job_id"], told["websocket_url"])
                    self.jobs.append(job)
                    for _ in range(watchers // count + (number < watchers % count)):
                        self.watch(job)
            lane.close()

        await asyncio.gather(*(work(self.api_urls[number % len(self.api_urls)]) for number in range(AT_ONCE)))

    def watch(self, job: Job) -> asyncio.Event:
        """Watch a job; return what is set when its watcher is connected."""
        told = asyncio.Event()
        self.watchers.add(asyncio.create_task(watch(job.websocket_url, self.watched, self._connecting, told)))
        return told

    async def statuses(self) -> Counter[str]:
        """Return how many of the jobs are in which state; a job that nobody knows of is `lost`."""
        rows = await self.rig.pool.fetch(
            "SELECT coalesce(job.status, 'lost') AS status, count(*) AS count"
            " FROM unnest($1::text[]) AS made (id) LEFT JOIN download_jobs job USING (id) GROUP BY 1",
            [job.job_id for job in self.jobs],
        )
        return Counter({row["status"]: row["count"] for row in rows})

    async def until_over(self, deadline: float) -> Counter[str]:
        """Wait until all jobs are over, or the time is; return how they are."""
        while True:
            statuses = await self.statuses()
            is_open = statuses["queued"] + statuses["processing"] + statuses["lost"]
            if not is_open or time.monotonic() > deadline:
                return statuses
            await asyncio.sleep(0.5)

    async def until_watched(self, deadline: float) -> None:
        """Give all watchers a while to hear of the ends."""
        if self.watchers:
            await asyncio.wait(self.watchers, timeout=max(1.0, deadline - time.monotonic()))

    async def download(self, waits: list[float]) -> None:
        """Ask for some of the finished archives; note the seconds until the first byte."""
        rows = await self.rig.pool.fetch(
            "SELECT id FROM download_jobs WHERE id = ANY($1::text[]) AND status = 'completed'"
            " ORDER BY random() LIMIT $2",
            [job.job_id for job in self.jobs],
            DOWNLOADS,
        )
        lane = self.lane()
        for row in rows:
            started = time.perf_counter()
            answer = await self.ask(lane, "download", "GET", f"/v1/jobs/{row['id']}/download")
            if answer is None:
                continue
            link = urlsplit(answer.json()["download_url"])
            store = Lane(f"{link.scheme}://{link.netloc}")
            asked = time.perf_counter()
            archive = await store.request("GET", f"{link.path}?{link.query}")
            store.close()
            if archive.status == 200:
                waits.append(asked - started + archive.to_first_byte)
            else:
                self.errors[f"archive: {archive.status}"] += 1
        lane.close()

    async def poll(self) -> None:
        """Look at jobs at an even rate, as impatient users do, until cancelled."""
        lane = self.lane()
        while True:
            started = time.perf_counter()
            if random.random() < 0.8:
                await self.ask(lane, "status", "GET", f"/v1/jobs/{random.choice(self.jobs).job_id}/status")
            else:
                await self.ask(lane, "list", "GET", "/v1/jobs?limit=20")
            await asyncio.sleep(max(0.0, 1 / POLLS_PER_SECOND - (time.perf_counter() - started)))

    async def costs(self) -> Costs:
        """Return what was used up so far."""
        return await costs(self.rig, self.stream, self.topology)

    async def clean_up(self) -> None:
        """Delete the jobs, whose archives would fill the disk."""
        await cancel_and_wait(*self.watchers)
        left = list(self.jobs)

        async def work() -> None:
            lane = self.lane()
            while left:
                await self.ask(lane, "delete", "DELETE", f"/v1/jobs/{left.pop().job_id}")
            lane.close()

        await asyncio.gather(*(work() for _ in range(8)))
        self.jobs.clear()
        self.watchers.clear()


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@asynccontextmanager
async def ground(setup: Setup, root: Path) -> AsyncIterator[Ground]:
    """Start everything, as if nothing had been started before."""
    given = {**os.environ, **LIMITS}
    async with AsyncExitStack() as opened:
        opened.enter_context(environment(LIMITS))
        stack = await opened.enter_async_context(running_stack(root, env=given, services=setup.services()))
        opened.enter_context(environment(stack.environment))
        await count_statements(stack)
        rig = await opened.enter_async_context(Rig.of(stack))
        settings = ServiceSettings()
        client = await connect_broker(settings, name="load")
        opened.push_async_callback(client.close)
        files = await rig.add_files(FILES, FILE_SIZE)
        yield Ground(
            rig,
            client.jetstream(timeout=10),
            Topology(settings.namespace),
            [file.file_id for file in files],
            gateways(stack),
            {"Authorization": f"Bearer {stack.token('bench')}"},
        )


def gateways(stack: Stack) -> list[str]:
    """Return the addresses of the gateways."""
    return [url for name, url in stack.urls.items() if name.startswith(GATEWAY)]


# Profiles


async def seed(at: Ground, arguments: argparse.Namespace) -> list[Figure]:
    """The original requirement's scenario."""
    people = max(1, round(arguments.arrivals * 3.0))
    results = RESULTS / "locust.json"
    before, started = await at.costs(), time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "locust", "-f", str(HERE / "load_seed.py"), "--headless", "--only-summary"),
        *("--host", at.api_urls[0], "--users", str(people), "--spawn-rate", str(arguments.arrivals)),
        *("--run-time", f"{arguments.seconds:.0f}s", "--stop-timeout", "10", "--loglevel", "ERROR"),
        env={
            **os.environ,
            "LOAD_FILE_IDS": json.dumps(at.file_ids),
            "LOAD_TOKEN": at.rig.stack.token("bench"),
            "LOAD_RESULTS": str(results),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    async with asyncio.timeout(arguments.seconds + 60):
        async for line in process.stdout:
            match line.decode().split():
                case ["job", job_id, websocket_url]:
                    at.jobs.append(Job(job_id, websocket_url))
                    at.watch(at.jobs[-1])
        await process.wait()
    statuses = await at.until_over(time.monotonic() + 60)
    seconds = time.monotonic() - started
    await at.until_watched(time.monotonic() + 10)
    used = spent(before, await at.costs())
    told = json.loads(results.read_text("utf-8"))
    results.unlink()
    at.api.update(told["milliseconds"])
    at.errors.update(told["failures"])
    waits: list[float] = []
    await at.download(waits)
    return summary(at, statuses, used, waits, seconds)


async def flood(at: Ground, arguments: argparse.Namespace) -> list[Figure]:
    """As many jobs as are asked for, all of them in flight at one time."""
    jobs, watchers = arguments.jobs, arguments.watchers if arguments.watchers is not None else arguments.jobs
    deadline = time.monotonic() + 60 * arguments.minutes
    before = await at.costs()
    at.rig.forget_peaks()
    with at.rig.stack.paused("archiver"):
        say(f"{jobs} jobs are being accepted, and {watchers} watchers connect")
        await at.accept(jobs, "initiate, while others are planned", watchers=watchers)
        await until_planned(at, deadline)
        say(f"all are in flight: {dict(await at.statuses())}, {len(at.watchers)} watchers")
        with at.rig.stack.paused("orchestrator"):
            await at.accept(10 * AT_ONCE, f"initiate, {jobs} in flight, gateway alone")
        await at.accept(10 * AT_ONCE, f"initiate, {jobs} in flight, others are planned")
    started = time.monotonic()
    polling = asyncio.create_task(at.poll())
    statuses = await at.until_over(deadline)
    seconds = time.monotonic() - started
    say(f"worked off in {seconds:.0f} s")
    await cancel_and_wait(polling)
    await at.until_watched(min(deadline, time.monotonic() + 30))
    used = spent(before, await at.costs())
    waits: list[float] = []
    await at.download(waits)
    return summary(at, statuses, used, waits, seconds)


async def until_planned(at: Ground, deadline: float) -> None:
    """Wait until no request, and no wish to delete a job, is in the broker any more."""
    while time.monotonic() < deadline:
        if not (await at.stream.stream_info(at.topology.jobs.name)).state.messages:
            return
        await asyncio.sleep(0.2)


async def initiate(at: Ground, arguments: argparse.Namespace) -> list[Figure]:
    """How long it takes to accept a job: by the gateway alone, and while the same cores work the jobs off."""
    await at.accept(AT_ONCE * 5, "to get warm")
    await at.until_over(time.monotonic() + 120)
    at.api.clear()
    figures = []
    for what, held in (("gateway alone", BACKGROUND), ("while jobs are worked off", ())):
        before, ours, started = at.rig.cpu(), time.process_time(), time.monotonic()
        with at.rig.stack.paused(*held):
            await at.accept(arguments.requests, f"initiate, {what}")
        seconds, ours = time.monotonic() - started, time.process_time() - ours
        figures.append(Figure(what=f"initiate, {what}", value=arguments.requests / seconds, unit="requests/s"))
        figures += shares({**spent_cpu(before, at.rig.cpu()), "client": ours}, arguments.requests, "of a request")
        await at.until_over(time.monotonic() + 300)
    return [*latencies(at), *figures]


# What is told of it


def say(what: str) -> None:
    """Tell how far we are."""
    print(f"… {what}", flush=True)


def latencies(at: Ground) -> list[Figure]:
    """Return how long requests took."""
    return [
        Figure(
            what=f"{what}, p{percent}",
            value=percentile(took, percent),
            unit="ms",
            bigger_is_better=False,
            goal="< 100" if percent == 95 else "",
        )
        for what, took in at.api.items()
        for percent in (50, 95, 99)
    ]


def spent_cpu(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Return the seconds of processor time between two moments."""
    return {name: seconds - before.get(name, 0.0) for name, seconds in after.items()}


def shares(cpu: dict[str, float], count: int, of: str) -> list[Figure]:
    """Return the processor time of one of many things."""
    return [
        Figure(what=f"processor time {of}, {name}", value=1000 * seconds / count, unit="ms", bigger_is_better=False)
        for name, seconds in sorted({"all": sum(cpu.values()), **cpu}.items(), key=lambda each: -each[1])
    ]


def summary(at: Ground, statuses: Counter[str], used: Costs, waits: list[float], seconds: float) -> list[Figure]:
    """Return the figures of jobs that were made and watched."""
    jobs = len(at.jobs)
    watched, ended = at.watched, sum(task.done() for task in at.watchers)
    figures = [
        Figure(what="jobs", value=jobs, unit=""),
        Figure(what="completed", value=100 * statuses["completed"] / jobs, unit="%", goal="100 (99.9)"),
        Figure(what="jobs a second", value=jobs / seconds, unit="jobs/s"),
        *latencies(at),
        Figure(what="requests that failed", value=at.errors.total(), unit="", bigger_is_better=False, goal="0"),
        Figure(what="watchers", value=len(at.watchers), unit=""),
        Figure(what="watchers that saw the end", value=100 * ended / max(1, len(at.watchers)), unit="%", goal="100"),
        Figure(what="connections of watchers that broke", value=watched.broken, unit="", bigger_is_better=False),
    ]
    for values, what, scale, unit, goal in (
        (watched.latencies, "change in the record to watcher", 1000, "ms", "< 1000"),
        (waits, "first byte of a download, from asking for the link", 1000, "ms", "< 5000"),
    ):
        figures += [
            Figure(
                what=f"{what}, p{percent}",
                value=scale * percentile(values, percent),
                unit=unit,
                bigger_is_better=False,
                goal=goal if percent == 99 else "",
            )
            for percent in (50, 99)
            if values
        ]
    figures += [
        Figure(what="messages a job", value=sum(used.messages.values()) / jobs, unit="", bigger_is_better=False),
        Figure(what="SQL statements a job", value=calls(used.statements) / jobs, unit="", bigger_is_better=False),
        Figure(
            what="time in SQL a job",
            value=sum(each.milliseconds for each in used.statements) / jobs,
            unit="ms",
            bigger_is_better=False,
        ),
        *shares(used.cpu, jobs, "a job"),
        *(
            Figure(what=f"peak memory of {name}", value=mib, unit="MiB", bigger_is_better=False)
            for name, mib in sorted(at.rig.peaks().items(), key=lambda each: -each[1])
        ),
    ]
    for name, count in used.messages.items():
        print(f"  {count / jobs:6.2f} messages a job in {name}")
    for each in sorted(used.statements, key=lambda each: -each.calls)[:SHOWN_STATEMENTS]:
        print(f"  {each.calls / jobs:6.2f} a job, {each.milliseconds / each.calls:7.3f} ms each: {each.text[:110]}")
    for error, count in at.errors.most_common(10):
        print(f"  {count} times {error}")
    return figures


def show(figures: Sequence[Figure]) -> None:
    """Print the table."""
    for figure in figures:
        goal = f"goal {figure.goal}" if figure.goal else ""
        print(f"{figure.what:<64}{figure.value:>12.1f}  {figure.unit:<12}{goal}")


def keep(name: str, figures: Sequence[Figure], **more: Any) -> None:
    """Write the results down."""
    now = datetime.now(UTC)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{now:%Y%m%dT%H%M%SZ}.json"
    document = {
        "time": now.isoformat(),
        "cores": os.cpu_count(),
        "load_average_before": more.pop("load_average"),
        "python": platform.python_version(),
        **more,
        "figures": [asdict(figure) for figure in figures],
    }
    path.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    print(f"\nbench/results/{path.name}")


PROFILES = {"seed": seed, "flood": flood, "initiate": initiate}


async def run(arguments: argparse.Namespace) -> list[Figure]:
    """Start everything and measure."""
    setup = Setup(archivers=arguments.archivers, gateways=arguments.gateways, nice=arguments.nice)
    shutil.rmtree(arguments.home, ignore_errors=True)
    try:
        async with ground(setup, arguments.home) as at:
            return await PROFILES[arguments.profile](at, arguments)
    finally:
        shutil.rmtree(arguments.home, ignore_errors=True)


def parse() -> argparse.Namespace:
    """Read the command line."""
    cores = os.cpu_count() or 1
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profile", choices=PROFILES, nargs="?", default="flood")
    parser.add_argument("--home", type=Path, default=DATA, help="where everything is kept; emptied before and after")
    parser.add_argument("--archivers", type=int, default=2)
    parser.add_argument("--gateways", type=int, default=1)
    parser.add_argument("--nice", action="store_true", help="let orchestrator and archivers give way to the others")
    parser.add_argument("--jobs", type=int, default=250 * cores, help="flood: in flight (250 a core; try 10000)")
    parser.add_argument("--watchers", type=int, help="flood: WebSockets (as many as jobs)")
    parser.add_argument("--minutes", type=float, default=20.0, help="flood: after which it is given up (20)")
    parser.add_argument("--seconds", type=float, default=60.0, help="seed: for which people come (60; Artillery's 300)")
    parser.add_argument("--arrivals", type=float, default=10.0, help="seed: people a second (10)")
    parser.add_argument("--requests", type=int, default=1_500, help="initiate: of each kind (1500)")
    arguments = parser.parse_args()
    sockets = arguments.watchers if arguments.watchers is not None else arguments.jobs
    limit = raise_file_limit()
    if sockets > limit - SPARE_FILES:
        parser.error(f"a process may open {limit} files here: {limit - SPARE_FILES} watchers are the most")
    return arguments


def main() -> int:
    """Measure, print, and keep the figures."""
    arguments = parse()
    load = os.getloadavg()
    figures = uvloop.run(run(arguments))
    print()
    show(figures)
    given = {name: value for name, value in vars(arguments).items() if name != "home"}
    keep(f"load-{arguments.profile}", figures, load_average=load, arguments=given)
    return 0


if __name__ == "__main__":
    sys.exit(main())
