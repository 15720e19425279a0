"""What has to be true when it is over: nothing lost, nothing wrong, nothing left."""

import asyncio
import io
import zipfile
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import nats
from nats.aio.client import Client

from chaos.client import GoodClient, Outcome
from chaos.scenario import Kind, digest
from chaos.webhooks import Hooks
from haulyard_chassis.settings import ServiceSettings
from haulyard_chassis.store import ObjectStore
from haulyard_contracts import EventType, JobEvent, Topology, decode

SETTLING = 120.0
"""Seconds after the last fault in which leftovers have to be gone: a lost acknowledgement comes again after 15, a
webhook that a dead notifier held after 45."""
_POOLS = {"haulyard-gateway": 10, "haulyard-orchestrator": 20, "haulyard-notifier": 10}
"""Most connections to PostgreSQL: the size of a pool, times the replicas."""


@dataclass
class Findings:
    """What was looked at, and what is wrong."""

    checks: dict[str, str] = field(default_factory=dict)
    """What was checked, and how much of it there was."""
    wrong: list[str] = field(default_factory=list)

    def check(self, name: str, looked_at: object, wrong: Sequence[str]) -> None:
        """Note a check and what it found."""
        self.checks[name] = f"{looked_at}" + (f", {len(wrong)} WRONG" if wrong else "")
        self.wrong += [f"{name}: {each}" for each in wrong[:20]]


@dataclass(frozen=True, slots=True)
class Places:
    """Where the installation keeps its things."""

    settings: ServiceSettings
    topology: Topology
    store: ObjectStore
    database: asyncpg.Connection
    broker: Client


@asynccontextmanager
async def open_places(environment: Mapping[str, str]) -> AsyncIterator[Places]:
    """Connect to everything."""
    names = ServiceSettings.model_fields
    known = {key.removeprefix("HAULYARD_").lower(): value for key, value in environment.items()}
    values: dict[str, Any] = {name: value for name, value in known.items() if name in names}
    settings = ServiceSettings(**values)
    async with AsyncExitStack() as stack:
        store = ObjectStore(settings)
        await store.open()
        stack.push_async_callback(store.close)
        database = await asyncpg.connect(settings.postgres_dsn.get_secret_value())
        stack.push_async_callback(database.close)
        broker = await nats.connect(settings.nats_url.get_secret_value())
        stack.push_async_callback(broker.close)
        yield Places(settings, Topology(settings.namespace), store, database, broker)


async def audit_jobs(
    outcomes: Sequence[Outcome], clients: Sequence[GoodClient], digests: Mapping[str, str]
) -> Findings:
    """Look at every job as its user does: its end, and its archive."""
    findings = Findings()
    over = [outcome for outcome in outcomes if outcome.is_over]
    findings.check(
        "every job is over",
        len(outcomes),
        [f"{_name(each)} is {each.last.get('status', 'not accepted')}" for each in outcomes if not each.is_over],
    )
    findings.check(
        "no answer that a client should not get",
        len(outcomes),
        [f"{_name(each)}: {text}" for each in outcomes for text in each.surprises],
    )
    wrong_ends = []
    for each in over:
        if each.last["status"] not in each.order.ends:
            wrong_ends.append(f"{_name(each)} is {each.last['status']}: {each.last.get('error')}")
        wrong_ends += [
            f"{_name(each)}: {job_id} was {end['status']} and is {now}"
            for job_id, end in each.ends.items()
            if (now := await _status_now(each, clients, job_id)) not in (end["status"], None)
        ]
    findings.check("every job ended as it should, and stayed so", len(over), wrong_ends)
    gate = asyncio.Semaphore(4)

    async def look(outcome: Outcome) -> list[str]:
        async with gate:
            return await _compare(outcome, clients[outcome.order.user], digests)

    finished = [each for each in over if each.last["status"] == "completed" and each.order.kind is not Kind.DELETED]
    wrong = [text for texts in await asyncio.gather(*map(look, finished)) for text in texts]
    findings.check("every archive has the bytes of its sources", len(finished), wrong)
    return findings


async def _status_now(outcome: Outcome, clients: Sequence[GoodClient], job_id: str) -> str | None:
    if outcome.order.kind is Kind.DELETED:
        return None
    answer = await clients[outcome.order.user].ask("GET", f"/v1/jobs/{job_id}/status")
    return str(answer.json().get("status", answer.status_code))


async def _compare(outcome: Outcome, client: GoodClient, digests: Mapping[str, str]) -> list[str]:
    """Download an archive and compare what is in it, file by file."""
    answer = await client.ask("GET", f"/v1/jobs/{outcome.job_id}/download")
    if answer.status_code != 200:
        return [f"{_name(outcome)} cannot be downloaded: {answer.status_code} {answer.text[:200]}"]
    archive = await client.fetch(answer.json()["download_url"])
    return await asyncio.to_thread(_differences, outcome, archive, answer.json()["size_bytes"], digests)


def _differences(outcome: Outcome, archive: bytes, size: int, digests: Mapping[str, str]) -> list[str]:
    if len(archive) != size:
        return [f"{_name(outcome)}: {len(archive)} bytes, not {size}"]
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            found = {name: digest(opened.read(name)) for name in opened.namelist()}
    except (zipfile.BadZipFile, OSError) as error:
        return [f"{_name(outcome)}: {error!r}"]
    note = found.pop("MISSING-FILES.txt", None)
    wanted = {name: digests[name] for name in outcome.order.names}
    texts = []
    if found != wanted:
        texts.append(f"{_name(outcome)}: has {sorted(found)} and should have {sorted(wanted)}, or other bytes in them")
    if (note is not None) != bool(outcome.order.ghosts):
        texts.append(f"{_name(outcome)}: {'has' if note else 'lacks'} a note of what is missing")
    return texts


def _name(outcome: Outcome) -> str:
    job = outcome.job_ids[-1] if outcome.job_ids else "no job"
    return f"order {outcome.order.number} ({outcome.order.kind}, {job})"


async def audit_places(places: Places, outcomes: Sequence[Outcome], hooks: Hooks, *, doubled: bool) -> Findings:
    """Look behind the scenes: at the broker, the record and the store.

    Args:
        places: where to look.
        outcomes: what the clients know.
        hooks: what webhooks told.
        doubled: every message was published once more.
    """
    findings = Findings()
    accepted = {job_id for outcome in outcomes for job_id in outcome.job_ids}
    deadline = asyncio.get_running_loop().time() + SETTLING
    for name, look in {
        "no message left": lambda: _messages(places),
        "no multipart upload left": lambda: _uploads(places),
        "no staging object left": lambda: _left(places, "staging/"),
        "no object of a probe left": lambda: _left(places, ".haulyard-probe/"),
        "no archive that nobody knows, none that is gone": lambda: _archives(places),
        "no job at work": lambda: _open_jobs(places),
        "webhooks all delivered": lambda: _deliveries(places),
    }.items():
        looked_at, wrong = await _settled(look, deadline)
        findings.check(name, looked_at, wrong)
    findings.check("no dead letter", *await _dead(places))
    findings.check("one end for each job, told once", *await _told(places, doubled=doubled))
    findings.check("each webhook told of its job, under one id", len(hooks.heard), _unheard(outcomes, hooks))
    findings.check("what was deleted is gone", *await _deleted(places, outcomes))
    findings.check("no connection left over", *await _connections(places))
    rows = await places.database.fetch("SELECT id FROM download_jobs")
    strangers = {row["id"] for row in rows} - accepted
    findings.checks["jobs in the record"] = f"{len(rows)}, {len(strangers)} of requests without an answer"
    return findings


Look = Callable[[], Awaitable[tuple[object, list[str]]]]


async def _settled(look: Look, deadline: float) -> tuple[object, list[str]]:
    """Look until nothing is wrong, or it has been wrong for too long."""
    while True:
        looked_at, wrong = await look()
        if not wrong or asyncio.get_running_loop().time() > deadline:
            return looked_at, wrong
        await asyncio.sleep(1)


async def _messages(places: Places) -> tuple[object, list[str]]:
    stream, topology = places.broker.jetstream(), places.topology
    wrong = []
    for spec in (topology.jobs, topology.tasks, topology.results):
        state = (await stream.stream_info(spec.name, subjects_filter=">")).state
        wrong += [f"{count} of {subject}" for subject, count in (state.subjects or {}).items()]
    return "3 streams", wrong


async def _dead(places: Places) -> tuple[object, list[str]]:
    stream, name = places.broker.jetstream(), places.topology.dead_letters.name
    state = (await stream.stream_info(name)).state
    wrong = []
    for number in range(state.first_seq, state.last_seq + 1) if state.messages else ():
        message = await stream.get_msg(name, number)
        wrong.append(f"{(message.headers or {}).get('haulyard-reason')}: {(message.data or b'')[:150]!r}")
    return state.messages, wrong


async def _told(places: Places, *, doubled: bool) -> tuple[object, list[str]]:
    """Read the events that tell of an end."""
    stream, topology = places.broker.jetstream(), places.topology
    told: dict[str, list[int]] = defaultdict(list)
    for kind in (EventType.COMPLETED, EventType.FAILED, EventType.CANCELLED):
        subject = topology.event("*", kind)
        info = await stream.stream_info(topology.events.name, subjects_filter=subject)
        left = sum((info.state.subjects or {}).values())
        subscription = await stream.subscribe(subject, stream=topology.events.name, ordered_consumer=True)
        for _ in range(left):
            event = decode((await subscription.next_msg(timeout=10)).data, JobEvent)
            told[event.job_id].append(event.sequence)
        await subscription.unsubscribe()
    rows = await places.database.fetch("SELECT id FROM download_jobs WHERE completed_at IS NOT NULL")
    untold = [f"{row['id']} is over and nobody was told" for row in rows if row["id"] not in told]
    # One that was published once more by the test is still the same.
    wrong = {job: ends for job, ends in told.items() if len(set(ends) if doubled else ends) > 1}
    return len(rows), untold + [f"{job_id}: ends {ends}" for job_id, ends in wrong.items()]


async def _uploads(places: Places) -> tuple[object, list[str]]:
    found = await places.store.pending_uploads(places.settings.archive_bucket)
    return len(found), [f"{upload.key} since {upload.initiated}" for upload in found]


async def _left(places: Places, prefix: str) -> tuple[object, list[str]]:
    found = [each.key async for each in places.store.list_objects(places.settings.archive_bucket, prefix=prefix)]
    return len(found), found


async def _archives(places: Places) -> tuple[object, list[str]]:
    objects = {
        each.key: each.size
        async for each in places.store.list_objects(places.settings.archive_bucket, prefix="archives/")
    }
    rows = await places.database.fetch("SELECT key, size_bytes FROM archives")
    known = {row["key"]: row["size_bytes"] for row in rows}
    return len(known), [
        *(f"{key} is in the store and not in the record" for key in objects.keys() - known.keys()),
        *(f"{key} is in the record and not in the store" for key in known.keys() - objects.keys()),
        *(f"{key} has {objects[key]} bytes, not {known[key]}" for key in known.keys() & objects.keys()
          if objects[key] != known[key]),
    ]  # fmt: skip


async def _open_jobs(places: Places) -> tuple[object, list[str]]:
    rows = await places.database.fetch("SELECT id, status FROM download_jobs WHERE completed_at IS NULL")
    return len(rows), [f"{row['id']} is {row['status']}" for row in rows]


async def _deleted(places: Places, outcomes: Sequence[Outcome]) -> tuple[object, list[str]]:
    deleted = [each.job_id for each in outcomes if each.order.kind is Kind.DELETED and each.is_over]
    rows = await places.database.fetch("SELECT id, status FROM download_jobs WHERE id = ANY($1::text[])", deleted)
    return len(deleted), [f"{row['id']} is still {row['status']}" for row in rows]


async def _deliveries(places: Places) -> tuple[object, list[str]]:
    rows = await places.database.fetch("SELECT id, status, last_error FROM webhook_deliveries")
    return len(rows), [
        f"{row['id']} {row['status']}: {row['last_error']}" for row in rows if row["status"] != "delivered"
    ]


def _unheard(outcomes: Sequence[Outcome], hooks: Hooks) -> list[str]:
    wrong = []
    for outcome in outcomes:
        if not outcome.order.webhook:
            continue
        ids = hooks.heard.get(str(outcome.order.number), {})
        for job_id, end in outcome.ends.items():
            told = ids.get(job_id, set())
            if end["status"] in ("completed", "failed") and len(told) != 1:
                wrong.append(f"{_name(outcome)}: {job_id} {end['status']}, told under {sorted(told)}")
    return wrong


async def _connections(places: Places) -> tuple[object, list[str]]:
    rows = await places.database.fetch(
        "SELECT application_name, count(*) AS count, count(*) FILTER (WHERE state LIKE 'idle in%') AS inside"
        " FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() GROUP BY 1"
    )
    wrong = []
    for row in rows:
        name = row["application_name"]
        if row["count"] > _POOLS.get(name, 0) or row["inside"]:
            wrong.append(f"{name}: {row['count']} connections, {row['inside']} in an open transaction")
    return {row["application_name"]: row["count"] for row in rows}, wrong


def status_counts(outcomes: Sequence[Outcome]) -> dict[str, dict[str, Any]]:
    """Return how the jobs of each kind ended."""
    counts: dict[str, dict[str, Any]] = {}
    for outcome in outcomes:
        row = counts.setdefault(outcome.order.kind, {})
        status = outcome.last.get("status", "not accepted")
        row[status] = row.get(status, 0) + 1
    return counts
