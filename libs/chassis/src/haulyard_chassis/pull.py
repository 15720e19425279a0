"""A pull consumer that asks for exactly as many messages as it has free slots.

Nothing is fetched that cannot be worked on at once, so no message waits in a client's memory while its
acknowledgement time runs out, and on shutdown there is nothing to lose. Several lanes are served in order: before a
slot takes from one lane, all lanes before it were found empty. But a lane that was passed over for a while gets a
message in between, so that urgent work delays the rest and does not starve it.

Two kinds of requests are sent: a *sweep* takes what is there now; when every lane is empty, a *poll* for one message
waits at the broker in each lane. They have inboxes of their own, so that it is always known which requests are out.
When the last slot is taken the polls are withdrawn: a poll left waiting would draw a message that nobody can work on,
and every such detour counts as a delivery.
"""

import asyncio
import json
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, Protocol

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from haulyard_chassis.broker import PUBLISH_TIMEOUT, ensure_consumer
from haulyard_chassis.logs import get_logger
from haulyard_chassis.tasks import cancel_and_wait
from haulyard_contracts import ConsumerSpec

log = get_logger(__name__)

_NANOSECONDS = 1_000_000_000
_NOTHING_THERE = ("404", "408")
_POLL = 5.0
"""Seconds that a poll waits at the broker."""
_ANSWER = 2.0
"""Seconds until the answer to a sweep, which the broker gives at once, counts as lost."""
PATIENCE = 20
"""A waiting lane gets at least about one message in so many."""
_PAUSE = 0.5
"""Seconds before another try when the broker is away or refuses."""


class Handle(Protocol):
    """What is done with a message: settles it (ack, nak or term) and does not raise."""

    def __call__(self, message: Msg, /) -> Coroutine[Any, Any, None]:
        """Handle one message."""


class _Lane:
    """One consumer, and which requests are out for it."""

    def __init__(self, spec: ConsumerSpec) -> None:
        self.spec = spec
        self.wanted = 0
        self.got = 0
        self.swept: asyncio.Future[None] | None = None
        self.polled_until = 0.0
        self.refused = False
        self.passed = 0
        """Messages taken from lanes before this one since it was last looked into."""

    def arrived(self) -> None:
        self.got += 1
        if self.got >= self.wanted:
            self.end_sweep()

    def end_sweep(self) -> None:
        if self.swept is not None and not self.swept.done():
            self.swept.set_result(None)


class SlotPuller:
    """Pulls from one or more consumers and runs ``handle`` for each message in a task of its own.

    Args:
        client: a connected client.
        lanes: the consumers, the most urgent first; created, and created again should one be deleted.
        slots: messages that are worked on at the same time.
        handle: see `Handle`.
        patience: messages from lanes before it after which a lane gets one in between.
    """

    def __init__(
        self, client: Client, lanes: Sequence[ConsumerSpec], *, slots: int, handle: Handle, patience: int = PATIENCE
    ) -> None:
        self._client = client
        self._slots = slots
        self._handle = handle
        self._patience = patience
        self._lanes = [_Lane(spec) for spec in lanes]
        self._by_consumer = {lane.spec.durable: lane for lane in self._lanes}
        self._sweep_inbox = client.new_inbox()
        self._sweeps: Subscription | None = None
        self._polls: Subscription | None = None
        self._withdrawals: set[asyncio.Task[None]] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def busy(self) -> int:
        """Messages that are being worked on."""
        return len(self._running)

    async def start(self) -> None:
        """Create the consumers, subscribe, and begin to pull."""
        for lane in self._lanes:
            await self._ensure(lane)
        self._sweeps = await self._client.subscribe(f"{self._sweep_inbox}.*", cb=self._on_swept)
        self._loop = asyncio.create_task(self._pull(), name="slot-puller")

    async def stop(self, grace: float) -> None:
        """Take nothing new, give running handlers ``grace`` seconds, then cancel them.

        What a late answer brings while handlers finish is handed back at once.
        """
        self._stopping = True
        if self._loop is not None:
            await cancel_and_wait(self._loop)
        self._withdraw(self._sweeps)
        self._withdraw(self._polls)
        self._sweeps = self._polls = None
        await asyncio.gather(*self._withdrawals)
        if self._running:
            _, unfinished = await asyncio.wait(self._running, timeout=grace)
            if unfinished:
                log.warning("handing back unfinished work", messages=len(unfinished))
                await cancel_and_wait(*unfinished)

    async def _ensure(self, lane: _Lane) -> None:
        await ensure_consumer(self._client.jetstream(timeout=PUBLISH_TIMEOUT), lane.spec)

    async def _pull(self) -> None:
        while True:
            try:
                await self._pull_once()
            except (nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError) as error:
                log.warning("pull failed", error=repr(error))
                await asyncio.sleep(_PAUSE)

    async def _pull_once(self) -> None:
        self._changed.clear()
        if self._free <= 0:
            await self._changed.wait()
            return
        if not self._client.is_connected:
            await asyncio.sleep(_PAUSE)
            return
        for number, lane, most in self._order():
            if self._free <= 0:
                return  # what a poll brought meanwhile took the last slot
            if asyncio.get_running_loop().time() < lane.polled_until:
                continue  # nothing is there: the poll that waits would have brought it
            taken = await self._sweep(number, lane, min(most, self._free))
            if lane.refused:
                lane.refused = False
                await asyncio.sleep(_PAUSE)
                await self._ensure(lane)
            if taken:
                return  # there may be more in this lane, or by now in one before it
        if self._free > 0:
            await self._poll()

    @property
    def _free(self) -> int:
        return self._slots - len(self._running)

    def _order(self) -> list[tuple[int, _Lane, int]]:
        """Return the lanes as they are to be looked into, and how much to take from each at most."""
        order = [(number, lane, self._slots) for number, lane in enumerate(self._lanes)]
        waited = [(number, lane, 1) for number, lane, _ in order if lane.passed >= self._patience]
        return sorted(waited, key=lambda turn: turn[1].passed, reverse=True) + order

    async def _sweep(self, number: int, lane: _Lane, most: int) -> int:
        """Take what is there now, at most ``most`` messages."""
        lane.wanted, lane.got, lane.passed = most, 0, 0
        lane.swept = asyncio.get_running_loop().create_future()
        await self._request(lane, f"{self._sweep_inbox}.{number}", {"batch": lane.wanted, "no_wait": True})
        with suppress(TimeoutError):
            # Not wait_for(): Python 3.11's loses a cancellation that comes together with the answer.
            async with asyncio.timeout(_ANSWER):
                await lane.swept
        for later in self._lanes[number + 1 :]:
            later.passed += lane.got
        return lane.got

    async def _poll(self) -> None:
        """Wait until a message comes in any lane.

        One may come in each: with more lanes than slots, what cannot be worked on is handed back at once.
        """
        if self._polls is None:
            self._polls = await self._client.subscribe(f"{self._client.new_inbox()}.*", cb=self._on_polled)
        inbox = self._polls.subject.removesuffix(".*")
        now = asyncio.get_running_loop().time()
        for number, lane in enumerate(self._lanes):
            if now >= lane.polled_until:
                lane.polled_until = now + _POLL
                await self._request(lane, f"{inbox}.{number}", {"batch": 1, "expires": int(_POLL * _NANOSECONDS)})
        earliest = min(lane.polled_until for lane in self._lanes)
        with suppress(TimeoutError):
            async with asyncio.timeout(earliest - now):
                await self._changed.wait()

    async def _request(self, lane: _Lane, reply: str, body: dict[str, object]) -> None:
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{lane.spec.stream}.{lane.spec.durable}"
        await self._client.publish(subject, json.dumps(body).encode(), reply=reply)

    async def _on_swept(self, message: Msg) -> None:
        if message.reply:
            self._by_consumer[message.metadata.consumer].arrived()
            await self._accept(message)
        else:
            lane = self._lanes[int(message.subject.rpartition(".")[2])]
            self._check_status(lane, message)
            lane.end_sweep()

    async def _on_polled(self, message: Msg) -> None:
        if message.reply:
            self._by_consumer[message.metadata.consumer].polled_until = 0.0
            await self._accept(message)
        else:
            lane = self._lanes[int(message.subject.rpartition(".")[2])]
            lane.polled_until = 0.0
            self._check_status(lane, message)
        self._changed.set()

    def _check_status(self, lane: _Lane, message: Msg) -> None:
        status = (message.headers or {}).get("Status", "")
        if status not in _NOTHING_THERE:
            # 409: the consumer was deleted, or its leader moved. 503: nobody is there to answer.
            lane.refused = True
            log.warning("pull refused", consumer=lane.spec.durable, headers=dict(message.headers or {}))

    async def _accept(self, message: Msg) -> None:
        if self._stopping or self._free <= 0:
            await message.nak()
            return
        task = asyncio.create_task(self._handle(message))
        self._running.add(task)
        task.add_done_callback(self._finished)
        if self._free <= 0:
            self._withdraw(self._polls)
            self._polls = None
            for lane in self._lanes:
                lane.polled_until = 0.0

    def _withdraw(self, subscription: Subscription | None) -> None:
        """End requests that wait at the broker, by leaving their inbox; what is on its way still arrives."""
        if subscription is not None:
            task = asyncio.create_task(self._drain(subscription))
            self._withdrawals.add(task)
            task.add_done_callback(self._withdrawals.discard)

    async def _drain(self, subscription: Subscription) -> None:
        with suppress(nats.errors.Error, TimeoutError):
            if self._client.is_connected:
                async with asyncio.timeout(_ANSWER):
                    await subscription.drain()  # type: ignore[no-untyped-call]
            else:
                await subscription.unsubscribe()

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("message not settled", exc_info=error)
        self._changed.set()
