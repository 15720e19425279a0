"""Due deliveries become requests.

Requests go to addresses that users named: only through the egress guard, never along a redirect, never longer than
the time-out. The body of an answer is not read at all; its status says what there is to know.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import aiohttp
import asyncpg
import structlog

from haulyard_chassis.broker import TRACEPARENT
from haulyard_chassis.database import UNAVAILABLE
from haulyard_chassis.egress import Networks, UnsafeUrlError, check_url
from haulyard_chassis.logs import get_logger
from haulyard_chassis.tasks import cancel_and_wait
from haulyard_chassis.trace import trace_id
from haulyard_chassis.tracing import SpanKind, Spanning, exemplar, span
from haulyard_chassis.webhook_records import WebhookSecret
from haulyard_contracts import ArchiveLocation, EventType
from haulyard_notifier.measures import ATTEMPT_SECONDS, ATTEMPTS, LEFT_ALONE
from haulyard_notifier.webhooks.deliveries import Claim, Deliveries
from haulyard_notifier.webhooks.hosts import Hosts
from haulyard_notifier.webhooks.payload import archive_name, body_to_send
from haulyard_notifier.webhooks.policy import Dead, Decision, decide, is_hosts_fault, parse_retry_after
from haulyard_notifier.webhooks.signature import sign, signing_key

log = get_logger(__name__)

_POLL = 2.0
"""Seconds between two looks for deliveries that are due, or that other processes have left."""
_LEASE_MARGIN = 30.0
_HOST_SLOTS = 4
"""Requests to one host at a time, about: a slow one must not take the slots of all others."""
_TRIED_BY_ANOTHER = 5.0
"""Seconds after which a delivery is looked at again whose host another one is trying."""

# Away, or not migrated yet: either way it is looked at again.
_RECORD_TROUBLE: tuple[type[Exception], ...] = (*UNAVAILABLE, asyncpg.PostgresError)

Link = Callable[[ArchiveLocation, str], str]
"""Returns a fresh link to an archive, to be saved under the given name."""


Secrets = Callable[[str], Awaitable[Sequence[WebhookSecret]]]
"""Returns a user's valid secrets."""


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
    """Also signs requests, besides the secrets of their users; None if there is none."""


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
        hosts: which receivers fail.
        secrets: returns a user's valid secrets.
        session: made by `haulyard_chassis.egress.egress_session`.
        link: signs links to archives.
        settings: how requests are made.
    """

    def __init__(
        self,
        deliveries: Deliveries,
        hosts: Hosts,
        secrets: Secrets,
        session: aiohttp.ClientSession,
        link: Link,
        settings: SenderSettings,
    ) -> None:
        self._deliveries = deliveries
        self._hosts = hosts
        self._secrets = secrets
        self._session = session
        self._link = link
        self._settings = settings
        self._lease = 2 * settings.timeout + _LEASE_MARGIN
        self._running: set[asyncio.Task[None]] = set()
        self._calls: Counter[str] = Counter()
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
        free = min(self._settings.slots - len(self._running), _HOST_SLOTS)
        if free <= 0:
            return False
        busy = [host for host, calls in self._calls.items() if calls >= _HOST_SLOTS]
        claims = await self._deliveries.claim(free, lease=self._lease, busy=busy)
        for claim in claims:
            self._calls[claim.host] += 1
            task = asyncio.create_task(self._deliver(claim), name=f"webhook:{claim.id}")
            self._running.add(task)
            task.add_done_callback(partial(self._finished, claim.host))
        return len(claims) == free

    def _finished(self, host: str, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._calls[host] -= 1
        if not self._calls[host]:
            del self._calls[host]
        self._wake.set()  # a slot is free
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("delivery broke off", task=task.get_name(), exc_info=error)

    async def _deliver(self, claim: Claim) -> None:
        try:
            if not await self._may_call(claim):
                await self._deliveries.put_off(claim, _TRIED_BY_ANOTHER)
                return
            keys = await self._keys(claim.user_id)
        except _RECORD_TROUBLE as error:
            log.warning("delivery not begun", webhook_id=claim.id, error=repr(error))  # it comes again after its lease
            return
        with (
            span(
                "deliver webhook",
                kind=SpanKind.CLIENT,
                parent=claim.traceparent,
                attributes={
                    "http.request.method": "POST",
                    "server.address": claim.host,
                    "haulyard.job_id": claim.job_id,
                    "haulyard.webhook_id": claim.id,
                    "haulyard.attempt": claim.attempts,
                },
            ) as traced,
            structlog.contextvars.bound_contextvars(**_trace_id(claim)),
        ):
            await self._call(claim, keys, traced)

    async def _call(self, claim: Claim, keys: Sequence[bytes], traced: Spanning) -> None:
        begun = time.perf_counter()
        answer = await self._request(claim, keys, traced.traceparent or claim.traceparent)
        if answer.status is not None:
            traced.set("http.response.status_code", answer.status)
        if answer.error is not None:
            traced.fail(answer.error)
        ATTEMPT_SECONDS.observe(time.perf_counter() - begun, exemplar())
        decision = self._decide(claim, answer)
        outcome = type(decision).__name__.lower()
        ATTEMPTS.labels(outcome).inc()
        log.info(
            "webhook called",
            job_id=claim.job_id,
            webhook_id=claim.id,
            attempt=claim.attempts,
            status=answer.status,
            error=answer.error,
            outcome=outcome,
        )
        try:
            await self._deliveries.settle(claim, decision, status=answer.status, error=answer.error)
            await self._note_host(claim, answer)
        except _RECORD_TROUBLE as error:
            # It will be sent once more when the lease is over; its id tells the receiver that it is the same.
            log.warning("outcome not noted", webhook_id=claim.id, error=repr(error))

    def _decide(self, claim: Claim, answer: _Answer) -> Decision:
        if answer.refused:
            return Dead()
        attempts = claim.attempts - claim.attempts_before
        return decide(attempts, answer.status, random.random(), retry_after=answer.retry_after)  # noqa: S311 - jitter

    async def _keys(self, user_id: str | None) -> list[bytes]:
        """Return what to sign with: the receiver takes a request of which one signature is good."""
        secrets = await self._secrets(user_id) if user_id is not None else []
        keys = [signing_key(each.secret) for each in secrets]
        return [*keys, self._settings.key] if self._settings.key is not None else keys

    async def _may_call(self, claim: Claim) -> bool:
        if claim.user_id is None or not claim.is_trial:
            return True
        return await self._hosts.may_try(claim.user_id, claim.host, lease=self._lease)

    async def _note_host(self, claim: Claim, answer: _Answer) -> None:
        if answer.refused or claim.user_id is None:
            return
        if not is_hosts_fault(answer.status):
            if claim.failures:
                await self._hosts.answered(claim.user_id, claim.host)
            return
        pause = await self._hosts.failed(claim.user_id, claim.host, random=random.random())  # noqa: S311 - jitter
        if pause:
            LEFT_ALONE.inc()
            log.warning("receiver left alone", host=claim.host, seconds=round(pause))

    async def _request(self, claim: Claim, keys: Sequence[bytes], traceparent: str | None) -> _Answer:
        body = self._body(claim)
        now = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Haulyard",
            "webhook-id": claim.id,
            "webhook-timestamp": str(now),
        }
        if traceparent is not None:
            headers[TRACEPARENT] = traceparent
        if keys:
            headers["webhook-signature"] = " ".join(
                sign(key, message_id=claim.id, timestamp=now, body=body) for key in keys
            )
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


def _trace_id(claim: Claim) -> dict[str, str]:
    return {"trace_id": trace_id(claim.traceparent)} if claim.traceparent is not None else {}
