"""Due deliveries become requests.

Requests go to addresses that users named: only through the egress guard, never along a redirect, never longer than
the time-out. The body of an answer is not read at all; its status says what there is to know.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp
import asyncpg

from haulyard_chassis.database import UNAVAILABLE
from haulyard_chassis.egress import Networks, UnsafeUrlError, check_url
from haulyard_chassis.logs import get_logger
from haulyard_chassis.tasks import cancel_and_wait
from haulyard_contracts import ArchiveLocation, EventType
from haulyard_notifier.webhooks.deliveries import Claim, Deliveries
from haulyard_notifier.webhooks.payload import archive_name, body_to_send
from haulyard_notifier.webhooks.policy import Dead, Decision, decide, parse_retry_after
from haulyard_notifier.webhooks.signature import sign

log = get_logger(__name__)

_POLL = 2.0
"""Seconds between two looks for deliveries that are due, or that other processes have left."""
_LEASE_MARGIN = 30.0

# Away, or not migrated yet: either way it is looked at again.
_RECORD_TROUBLE: tuple[type[Exception], ...] = (*UNAVAILABLE, asyncpg.PostgresError)

Link = Callable[[ArchiveLocation, str], str]
"""Returns a fresh link to an archive, to be saved under the given name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderSettings:
    """How requests are made."""

    slots: int
    """Requests at the same time."""
    timeout: float
    """Seconds that one may take."""
    networks: Networks
    """May be reached although they are not public, and without TLS."""
    key: bytes | None
    """Signs requests; None leaves them unsigned."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came of a request."""

    status: int | None
    error: str | None = None
    retry_after: float | None = None
    refused: bool = False
    """The address must not be requested: nor will it be later."""


class WebhookSender:
    """Makes the requests that are due.

    Args:
        deliveries: where they come from.
        session: made by `haulyard_chassis.egress.egress_session`.
        link: signs links to archives.
        settings: how requests are made.
    """

    def __init__(
        self, deliveries: Deliveries, session: aiohttp.ClientSession, link: Link, settings: SenderSettings
    ) -> None:
        self._deliveries = deliveries
        self._session = session
        self._link = link
        self._settings = settings
        self._running: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to send."""
        self._loop = asyncio.create_task(self._run(), name="webhook-sender")

    def wake(self) -> None:
        """Look for due deliveries at once."""
        self._wake.set()

    async def stop(self, grace: float) -> None:
        """Take nothing new, let requests under way finish; what is cut off comes again when its lease is over."""
        if self._loop is not None:
            await cancel_and_wait(self._loop)
        if self._running:
            _, unfinished = await asyncio.wait(self._running, timeout=grace)
            await cancel_and_wait(*unfinished)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                more = await self._take()
            except _RECORD_TROUBLE as error:
                log.warning("deliveries not claimed", error=repr(error))
                more = False
            if more:
                continue
            try:
                async with asyncio.timeout(_POLL):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _take(self) -> bool:
        """Start what is due; return whether there may be more, and slots for it."""
        free = self._settings.slots - len(self._running)
        if free <= 0:
            return False
        claims = await self._deliveries.claim(free, lease=2 * self._settings.timeout + _LEASE_MARGIN)
        for claim in claims:
            task = asyncio.create_task(self._deliver(claim), name=f"webhook:{claim.id}")
            self._running.add(task)
            task.add_done_callback(self._finished)
        return False if len(claims) < free else len(self._running) < self._settings.slots

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._wake.set()  # a slot is free
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("delivery broke off", task=task.get_name(), exc_info=error)

    async def _deliver(self, claim: Claim) -> None:
        answer = await self._request(claim)
        decision: Decision = (
            Dead()
            if answer.refused
            else decide(claim.attempts, answer.status, random.random(), retry_after=answer.retry_after)  # noqa: S311
        )
        log.info(
            "webhook called",
            job_id=claim.job_id,
            webhook_id=claim.id,
            attempt=claim.attempts,
            status=answer.status,
            error=answer.error,
            outcome=type(decision).__name__.lower(),
        )
        try:
            await self._deliveries.settle(claim, decision, status=answer.status, error=answer.error)
        except UNAVAILABLE as error:
            # It will be sent once more when the lease is over; its id tells the receiver that it is the same.
            log.warning("outcome not noted", webhook_id=claim.id, error=repr(error))

    async def _request(self, claim: Claim) -> _Answer:
        body = self._body(claim)
        now = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Haulyard",
            "webhook-id": claim.id,
            "webhook-timestamp": str(now),
        }
        if self._settings.key is not None:
            headers["webhook-signature"] = sign(self._settings.key, message_id=claim.id, timestamp=now, body=body)
        try:
            check_url(claim.url, networks=self._settings.networks)
            async with (
                asyncio.timeout(self._settings.timeout),
                self._session.post(claim.url, data=body, headers=headers, allow_redirects=False) as response,
            ):
                error = None if response.ok and response.status < 300 else f"answered {response.status}"  # noqa: PLR2004
                retry_after = parse_retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
                return _Answer(response.status, error, retry_after)
        except aiohttp.InvalidURL as invalid:
            return _Answer(None, f"the URL is not valid: {invalid}", refused=True)
        except UnsafeUrlError as unsafe:
            return _Answer(None, f"the URL {unsafe}", refused=True)
        except TimeoutError:
            return _Answer(None, f"no answer within {self._settings.timeout:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as broken:
            return _Answer(None, f"{type(broken).__name__}: {broken}")

    def _body(self, claim: Claim) -> bytes:
        link = None
        if claim.event_type is EventType.COMPLETED and claim.archive is not None:
            link = self._link(claim.archive, archive_name(claim.payload))
        return body_to_send(claim.payload, download_url=link)
