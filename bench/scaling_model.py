"""What an installation needs for so many jobs an hour, and what that costs: pure arithmetic; see docs/scaling.md.

What was measured, what is assumed and what follows from both are apart. To try other prices, change `PRICES`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scaling_day import PEAK

GB = 1e9
HOURS_A_MONTH = 730
HOURS_KEPT = 7 * 24
"""Archives (HAULYARD_ARCHIVE_DAYS), events (their stream) and the cache (JOB_TTL) keep a job for seven days."""
HOURS_RECORDED = (7 + 30) * 24
"""The record is kept for 30 days (HAULYARD_RECORD_DAYS) after the archive."""
SCALES = (100, 1_000, 10_000, 1_000_000)
"""Jobs an hour, in the mean of a day."""
SEED = {100: 115, 1_000: 463, 10_000: 2_680}
"""Dollars a month of the original requirement's table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one job uses up."""

    archive_bytes: float
    cpu_ms: Mapping[str, float]
    """Of each service and server but the store."""
    messages: float
    events: float
    """Of its messages, those that are kept."""
    event_bytes: float
    """Of one event, on the disk of each broker."""
    index_bytes: float
    """Memory of each broker for one event that is kept."""
    statements: float
    record_bytes: float
    wal_bytes: float
    cache_bytes: float
    reads: float
    """Requests to the store."""
    writes: float


MEASURED = Job(
    archive_bytes=6e6,
    cpu_ms={
        "gateway": 2.1,
        "orchestrator": 5.0,
        "archiver": 21.1,
        "notifier": 3.4,
        "NATS": 6.5,
        "PostgreSQL": 4.9,
        "Valkey": 0.9,
    },
    messages=5,
    events=2,
    event_bytes=1_400,
    index_bytes=400,
    statements=9,
    record_bytes=13_500,
    wal_bytes=60_000,
    cache_bytes=2_500,
    reads=10,
    writes=1,
)
"""A job of 10 x 600 KB: `bench/scaling.py --count` of 2026-11-25 on a machine that was busy, so that processor time is
a fourth too high. 6 MB is what the original requirement's storage means: 100 GB at 100 jobs an hour, kept a week."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Dollars a month."""

    cpu: float = 36.0
    """A virtual CPU with 4 GB."""
    database_cpu: float = 72.0
    """The same of a managed PostgreSQL."""
    memory: float = 4.0
    """A GB beyond those 4."""
    cache: float = 15.0
    """A GB of a managed cache."""
    disk: float = 0.10
    """A GB of a block device."""
    store: float = 0.023
    """A GB in the object store."""
    reads: float = 0.0004 / 1_000
    """A GET of the object store."""
    writes: float = 0.005 / 1_000
    """A PUT, COPY or POST of the object store."""
    download: float = 0.09
    """A GB to the internet."""


PRICES = Prices()
"""Assumed on 2026-11-25: round figures of the order of one large cloud's list prices, on demand; not looked up."""

BUSY = 0.6
"""Share of a processor that is used at the busiest hour."""
LEAST_CPU = 0.25
"""Of a process that has next to nothing to do."""
LEAST_REPLICAS = 2
BROKERS = 3
DATABASES = 2
"""A primary and a standby."""
LEAST_DATABASE_CPU = 0.5
LEAST_CACHE_GB = 0.5
OURS = ("gateway", "orchestrator", "archiver", "notifier")


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What there has to be for so many jobs an hour."""

    per_hour: float
    peak: float
    """Jobs a second at the busiest hour."""
    replicas: Mapping[str, int]
    """Of our services; each uses one processor at most."""
    cpu: Mapping[str, float]
    """Processors: of each service and server, all its replicas together."""
    broker_memory_gb: float
    """Of each broker, for what it keeps."""
    broker_disk_gb: float
    record_gb: float
    cache_gb: float
    archives_gb: float


def need(per_hour: float, job: Job = MEASURED) -> Need:
    """Return what so many jobs an hour need."""
    peak = per_hour / 3600 * PEAK
    processors = {name: peak * ms / 1000 / BUSY for name, ms in job.cpu_ms.items()}
    replicas = {name: max(LEAST_REPLICAS, math.ceil(processors[name])) for name in OURS}
    kept = per_hour * HOURS_KEPT
    return Need(
        per_hour=per_hour,
        peak=peak,
        replicas=replicas,
        cpu={
            **{name: max(count * LEAST_CPU, processors[name]) for name, count in replicas.items()},
            # Each broker stores every message; a standby does what the primary does.
            "NATS": BROKERS * max(LEAST_CPU, processors["NATS"]),
            "PostgreSQL": DATABASES * max(LEAST_DATABASE_CPU, processors["PostgreSQL"]),
        },
        broker_memory_gb=kept * job.events * job.index_bytes / GB,
        broker_disk_gb=kept * job.events * job.event_bytes / GB,
        record_gb=per_hour * HOURS_RECORDED * job.record_bytes / GB,
        cache_gb=max(LEAST_CACHE_GB, kept * job.cache_bytes / GB),
        archives_gb=kept * job.archive_bytes / GB,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """Dollars a month."""

    services: float
    nats: float
    postgres: float
    valkey: float
    store: float
    """What is kept, and requests."""
    downloads: float
    """Each archive to the internet once; nothing where clients are in the same network."""

    @property
    def total(self) -> float:
        """All but downloads, which the original requirement's table does not have either."""
        return self.services + self.nats + self.postgres + self.valkey + self.store


def bill(needed: Need, job: Job = MEASURED, prices: Prices = PRICES) -> Bill:
    """Return what it costs."""
    jobs = needed.per_hour * HOURS_A_MONTH
    spare_memory = 4 * needed.cpu["NATS"] / BROKERS
    memory = BROKERS * max(0.0, needed.broker_memory_gb - spare_memory) * prices.memory
    return Bill(
        services=sum(needed.cpu[name] for name in OURS) * prices.cpu,
        nats=needed.cpu["NATS"] * prices.cpu + memory + BROKERS * needed.broker_disk_gb * prices.disk,
        postgres=needed.cpu["PostgreSQL"] * prices.database_cpu + DATABASES * needed.record_gb * prices.disk,
        valkey=needed.cache_gb * prices.cache,
        store=needed.archives_gb * prices.store + jobs * (job.reads * prices.reads + job.writes * prices.writes),
        downloads=jobs * job.archive_bytes / GB * prices.download,
    )


@dataclass(frozen=True, slots=True)
class Wall:
    """Something of which there is one, and that ends somewhere."""

    what: str
    limit: float
    """Where we say that it ends."""
    unit: str
    a_job: float
    """What one job an hour uses of it."""

    @property
    def per_hour(self) -> float:
        """Jobs an hour at which it is reached."""
        return self.limit / self.a_job


def walls(job: Job = MEASURED) -> list[Wall]:
    """Return the walls, the first one first."""
    peak = PEAK / 3600
    found = [
        Wall("the broker's index of kept events", 8, "GB of memory", HOURS_KEPT * job.events * job.index_bytes / GB),
        Wall("the cache on one node", 32, "GB", HOURS_KEPT * job.cache_bytes / GB),
        Wall("the record on one disk", 1_000, "GB", HOURS_RECORDED * job.record_bytes / GB),
        Wall("writes under one prefix of the store", 3_500, "a second", peak * job.writes),
        Wall("the primary's processors", 32 * BUSY, "used of 32", peak * job.cpu_ms["PostgreSQL"] / 1000),
        Wall("the primary's WAL", 100, "MB a second", peak * job.wal_bytes / 1e6),
        Wall("one stream's leader (two of the messages)", 10_000, "messages a second", peak * job.events),
    ]
    return sorted(found, key=lambda wall: wall.per_hour)
