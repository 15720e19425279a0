"""Every message comes twice, the second time late and out of order, as if somebody had published it once more."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import msgspec
import nats
import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from haulyard_chassis.broker import MESSAGE_ID
from haulyard_chassis.tasks import cancel_and_wait
from haulyard_contracts import Topology

_AGAIN = "chaos-again"
_LATEST = 2.0
"""Seconds after which the second one comes at the latest."""


class Doubled(msgspec.Struct):
    """What was published once more."""

    refused: int = 0
    """Second ones that their stream refused, because the first was still in it."""
    taken: dict[str, int] = {}
    """How many others there were, by what they are about."""


class _Doubler:
    def __init__(self, stream: JetStreamContext, draw: random.Random) -> None:
        self.done = Doubled()
        self.tasks: set[asyncio.Task[None]] = set()
        self._stream = stream
        self._draw = draw

    async def heard(self, message: Msg) -> None:
        """Take a copy of what was published."""
        if _AGAIN not in (message.headers or {}):
            task = asyncio.create_task(self._again(message, late=self._draw.uniform(0.0, _LATEST)))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _again(self, message: Msg, *, late: float) -> None:
        await asyncio.sleep(late)
        headers = {name: value for name, value in (message.headers or {}).items() if name != MESSAGE_ID}
        kind = message.subject.split(".")[1]
        try:
            await self._stream.publish(message.subject, message.data, headers={**headers, _AGAIN: "1"})
        except nats.js.errors.APIError:
            self.done.refused += 1
        except (nats.errors.Error, nats.js.errors.Error):
            return  # the broker is away: this one comes once
        else:
            self.done.taken[kind] = self.done.taken.get(kind, 0) + 1


@asynccontextmanager
async def doubling(environment: Mapping[str, str], *, seed: str) -> AsyncIterator[Doubled]:
    """Publish every message of an installation once more, without the id by which the broker would know it again.

    Args:
        environment: of the installation's services.
        seed: decides how late each is.
    """
    topology = Topology(environment["HAULYARD_NAMESPACE"])
    client = await nats.connect(environment["HAULYARD_NATS_URL"].split(","), max_reconnect_attempts=-1)
    doubler = _Doubler(client.jetstream(timeout=5), random.Random(seed))
    for spec in (topology.jobs, topology.tasks, topology.results, topology.events):
        for subject in spec.subjects:
            await client.subscribe(subject, cb=doubler.heard)
    try:
        yield doubler.done
        while doubler.tasks:
            await asyncio.wait(doubler.tasks)
    finally:
        await cancel_and_wait(*doubler.tasks)
        with suppress(nats.errors.Error):
            await client.close()
