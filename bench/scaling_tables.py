"""The tables and the chart of docs/scaling.md, from the models."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from scaling_day import DAY, LOOK, Fleet, Outcome, Rule, chart, day, of_a_day
from scaling_model import OURS, SCALES, SEED, bill, need, walls

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "scaling.md"
CHART = DOCS / "scaling-day.svg"

PER_HOUR = 1_000_000
"""Tasks an hour of the day that is simulated: jobs of one task each."""
BEST = Rule(name="waiting and taken, 3 a replica", least=2, most=120, target=3)
RULES = (
    BEST,
    Rule(name="waiting and taken, 4 a replica: all slots", least=2, most=120, target=4),
    Rule(name="waiting and taken, 8 a replica: twice the slots", least=2, most=120, target=8),
    Rule(name="waiting only, 10 a replica, up to 120", least=2, most=120, target=10, counts_taken=False),
    Rule(
        name="waiting only, 10 a replica, 3 to 20 (original requirement)",
        least=3,
        most=20,
        target=10,
        counts_taken=False,
    ),
    Rule(name="always enough for the busiest hour", least=28, most=28),
    Rule(name="always enough for the burst", least=84, most=84),
)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def costs() -> str:
    """Return what an installation costs a month at each scale."""
    needs = {scale: need(scale) for scale in SCALES}
    bills = {scale: bill(needed) for scale, needed in needs.items()}
    per_service = [
        (
            f"{name}: replicas x processors",
            [f"{n.replicas[name]} x {n.cpu[name] / n.replicas[name]:.2f}" for n in needs.values()],
        )
        for name in OURS
    ]
    rows = [
        (
            "jobs a second in the busiest hour",
            [f"{n.peak:.2f}" if n.peak < 10 else f"{n.peak:,.0f}" for n in needs.values()],
        ),
        *per_service,
        (
            "three brokers: processors; memory of each for what is kept",
            [f"{n.cpu['NATS']:.1f}; {_gb(n.broker_memory_gb)}" for n in needs.values()],
        ),
        (
            "PostgreSQL, two of them: processors; record",
            [f"{n.cpu['PostgreSQL']:.1f}; {_gb(n.record_gb)}" for n in needs.values()],
        ),
        ("Valkey", [_gb(n.cache_gb) for n in needs.values()]),
        ("archives", [_gb(n.archives_gb) for n in needs.values()]),
        ("**services**", [_dollars(b.services) for b in bills.values()]),
        ("**NATS**", [_dollars(b.nats) for b in bills.values()]),
        ("**PostgreSQL**", [_dollars(b.postgres) for b in bills.values()]),
        ("**Valkey**", [_dollars(b.valkey) for b in bills.values()]),
        ("**object store**", [_dollars(b.store) for b in bills.values()]),
        ("**together, a month**", [f"**{_dollars(b.total)}**" for b in bills.values()]),
        (
            "a thousand jobs",
            [
                f"${1000 * b.total / (n.per_hour * 730):.3f}"
                for n, b in zip(needs.values(), bills.values(), strict=True)
            ],
        ),
        ("the original requirement's estimate", [_dollars(SEED[s]) if s in SEED else "" for s in SCALES]),
        ("each archive once to the internet, on top", [_dollars(b.downloads) for b in bills.values()]),
    ]
    return table(["jobs an hour", *(f"{scale:,}" for scale in SCALES)], [[name, *cells] for name, cells in rows])


def limits() -> str:
    """Return the walls, the first one first."""
    rows = [[wall.what, f"{wall.limit:,.0f} {wall.unit}", f"{_two_digits(wall.per_hour):,}"] for wall in walls()]
    return table(["of which there is one", "taken to end at", "jobs an hour"], rows)


@cache
def outcomes() -> tuple[Outcome, ...]:
    """Return a day under each rule."""
    load, fleet = of_a_day(PER_HOUR), Fleet()
    return tuple(day(load, fleet, rule) for rule in RULES)


def days() -> str:
    """Return what a day is like under each rule."""
    rows = [
        [
            outcome.rule.name,
            f"{min(outcome.replicas)} to {max(outcome.replicas)}",
            f"{outcome.replica_hours:,.0f}",
            f"{sum(a != b for a, b in zip(outcome.replicas, outcome.replicas[1:], strict=False))}",
            *(f"{outcome.age(share):,} s" for share in (0.95, 0.99, 1.0)),
        ]
        for outcome in outcomes()
    ]
    return table(
        ["tasks counted; target", "replicas", "replica hours", "changes", "waited p95", "p99", "longest"], rows
    )


def picture() -> str:
    """Return the chart of our rule's day."""
    assert len(outcomes()[0].replicas) == DAY // LOOK
    return chart(of_a_day(PER_HOUR), Fleet(), outcomes()[0])


TABLES = {"costs": costs, "walls": limits, "days": days}


def with_tables(page: str) -> str:
    """Return the page with each table put between its marks.

    Raises:
        ValueError: a mark is missing.
    """
    for name, make in TABLES.items():
        begin, end = f"<!-- {name}: by bench/scaling.py -->\n", f"<!-- end of {name} -->"
        if begin not in page or end not in page:
            raise ValueError(f"the page has no marks for the table {name!r}")
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}{make()}\n{end}{rest.partition(end)[2]}"
    return page


def _dollars(amount: float) -> str:
    return f"${amount:,.0f}"


def _gb(amount: float) -> str:
    """Return gigabytes, or what is handier."""
    for factor, unit in ((1e6, "PB"), (1e3, "TB"), (1, "GB")):
        if amount >= factor:
            return f"{amount / factor:.3g} {unit}"
    return f"{1000 * amount:.0f} MB"


def _two_digits(number: float) -> int:
    return int(float(f"{number:.2g}"))
