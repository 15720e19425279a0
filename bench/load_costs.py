"""What jobs cost: messages, SQL statements, processor time, memory."""

from collections.abc import Iterable
from dataclasses import dataclass

import asyncpg
from nats.js import JetStreamContext

from haulyard_contracts import Topology
from haulyard_devstack import Stack
from rig import Rig

_STATEMENTS = "pg_stat_statements"


@dataclass(frozen=True, slots=True)
class Statement:
    """A kind of SQL statement that ran."""

    text: str
    calls: int
    milliseconds: float
    """All calls together."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What was used up so far."""

    messages: dict[str, int]
    """Published to each stream."""
    statements: list[Statement]
    cpu: dict[str, float]
    """Seconds."""


async def count_statements(stack: Stack) -> None:
    """Have PostgreSQL count statements, which takes a restart of it: the services connect again."""
    dsn = stack.environment["HAULYARD_POSTGRES_DSN"]
    connection = await asyncpg.connect(dsn)
    try:
        is_loaded = _STATEMENTS in await connection.fetchval("SHOW shared_preload_libraries")
        await connection.execute(f"CREATE EXTENSION IF NOT EXISTS {_STATEMENTS}")
        await connection.execute(f"ALTER SYSTEM SET shared_preload_libraries = '{_STATEMENTS}'")
    finally:
        await connection.close()
    if not is_loaded:
        await stack.infra.stop("postgres")
        await stack.infra.start("postgres")


async def costs(rig: Rig, stream: JetStreamContext, topology: Topology) -> Costs:
    """Return what was used up so far."""
    rows = await rig.pool.fetch(
        f"SELECT query, sum(calls)::bigint AS calls, sum(total_exec_time) AS milliseconds FROM {_STATEMENTS}"
        " WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND toplevel GROUP BY query"
    )
    return Costs(
        messages={spec.name: (await stream.stream_info(spec.name)).state.last_seq for spec in topology.streams},
        statements=[
            Statement(" ".join(row["query"].split()), row["calls"], row["milliseconds"])
            for row in rows
            if _STATEMENTS not in row["query"]
        ],
        cpu=rig.cpu(),
    )


def spent(before: Costs, after: Costs) -> Costs:
    """Return what was used up between two moments; the statements by what they took, most first."""
    then = {each.text: each for each in before.statements}
    statements = [
        Statement(each.text, each.calls - known.calls, each.milliseconds - known.milliseconds)
        if (known := then.get(each.text))
        else each
        for each in after.statements
    ]
    return Costs(
        messages={name: count - before.messages[name] for name, count in after.messages.items()},
        statements=sorted((each for each in statements if each.calls), key=lambda each: -each.milliseconds),
        cpu={name: seconds - before.cpu.get(name, 0.0) for name, seconds in after.cpu.items()},
    )


def calls(statements: Iterable[Statement]) -> int:
    """Return how many statements ran."""
    return sum(each.calls for each in statements)
