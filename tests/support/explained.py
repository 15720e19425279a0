"""What statements really do: their plans, as PostgreSQL executed them, with parameters, triggers and all.

The module ``auto_explain`` tells of each statement of a session. So the functions of the services are called as they
are, and no copy of their SQL has to be kept.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from haulyard_chassis.database import Connection

_SETTINGS = {
    "log_min_duration": "0",
    "log_analyze": "on",
    "log_buffers": "on",
    "log_format": "json",
    "log_level": "notice",
    "log_nested_statements": "on",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """One way into one table."""

    table: str
    index: str | None
    """None: the table was read from end to end."""
    rows: int
    """That were looked at, also those that were then passed over."""


@dataclass(frozen=True, slots=True)
class Executed:
    """A statement that ran."""

    query: str
    plan: dict[str, Any]

    @property
    def milliseconds(self) -> float:
        """How long it ran."""
        return float(self.plan["Actual Total Time"])

    @property
    def buffers(self) -> int:
        """Pages of 8 KiB that it touched, each as often as it did."""
        return int(self.plan["Shared Hit Blocks"] + self.plan["Shared Read Blocks"])

    def scans(self) -> Iterator[Scan]:
        """Return how the statement reads each table, those parts of it that never ran left out."""
        for node in _nodes(self.plan):
            loops = node.get("Actual Loops", 0)
            if "Scan" not in node["Node Type"] or not loops:
                continue
            removed = sum(node.get(f"Rows Removed by {by}", 0) for by in ("Filter", "Index Recheck"))
            index = node.get("Index Name")
            if node["Node Type"] == "Bitmap Heap Scan":
                index = "bitmap"  # its index is told by the node below
            if "Relation Name" in node:
                rows = round((node["Actual Rows"] + removed) * loops)
                yield Scan(table=node["Relation Name"], index=index, rows=rows)

    def indexes(self) -> list[str]:
        """Return the indexes that it goes by, in the order of the plan."""
        return list(dict.fromkeys(node["Index Name"] for node in _nodes(self.plan) if "Index Name" in node))


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


@dataclass
class Explainer:
    """What was executed on a connection since it was last asked."""

    executed: list[Executed] = field(default_factory=list)

    def hear(self, _: object, message: asyncpg.PostgresLogMessage) -> None:
        """Take a notice of the server."""
        text = str(message.message)
        head, found, plan = text.partition("plan:\n")
        if found and head.startswith("duration:"):
            told = json.loads(plan)
            self.executed.append(Executed(told["Query Text"].strip(), told["Plan"]))

    async def take(self) -> list[Executed]:
        """Return them, those that a statement caused before the statement itself.

        To be called after the transaction: the server tells of a statement when its results are let go of.
        """
        await asyncio.sleep(0)  # notices are handed over by the loop
        taken, self.executed = self.executed, []
        return taken


@asynccontextmanager
async def explaining(connection: Connection) -> AsyncIterator[Explainer]:
    """Have the server tell of all that a connection does.

    Args:
        connection: of a superuser, kept for itself until the end.
    """
    explainer = Explainer()
    await connection.execute("LOAD 'auto_explain'")
    for name, value in _SETTINGS.items():
        await connection.execute(f"SET auto_explain.{name} = {value}")
    connection.add_log_listener(explainer.hear)
    try:
        yield explainer
    finally:
        connection.remove_log_listener(explainer.hear)
        await connection.execute("SET auto_explain.log_min_duration = -1")
