"""Polling: the status again and again, held by the server until something changes if it can do that."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote

from haulyard.errors import ApiError, ConnectionFailedError, TooManyRequestsError, UnavailableError
from haulyard.http import Http
from haulyard.models import Job
from haulyard.retrying import RetryPolicy

HOLD = 25
"""Seconds for which the server is asked to hold its answer back: less than any proxy's time-out."""
_HELD_PAUSE = 1.0
"""Seconds from one answer to the next request, when the server holds answers; a busy job changes all the time."""


@dataclass(frozen=True, kw_only=True)
class Polled:
    """An answer."""

    job: Job | None
    """None when nothing has changed."""
    etag: str | None


async def read_status(http: Http, job_id: str, *, etag: str | None = None, hold: int = 0) -> Polled:
    """Ask for a job's status.

    Args:
        http: where to ask.
        job_id: the job.
        etag: what is known; an answer that is the same is None.
        hold: seconds for which the server may wait for a change.

    Raises:
        ApiError, ConnectionFailedError, UnexpectedAnswerError
    """
    answer = await http.request(
        "GET",
        f"/v1/jobs/{quote(job_id, safe='')}/status",
        query={"wait": str(hold)} if hold else None,
        headers={"If-None-Match": etag} if etag else None,
        hold=hold,
    )
    if answer.status == HTTPStatus.NOT_MODIFIED:
        return Polled(job=None, etag=etag)
    return Polled(job=answer.decode(Job), etag=answer.headers.get("ETag"))


def poll_pause(*, interval: float, took: float, can_hold: bool) -> float:
    """Return the seconds until the next request.

    Args:
        interval: seconds from one request to the next, if the server answers at once.
        took: seconds that the last request took.
        can_hold: whether the server seems to hold answers back.
    """
    return _HELD_PAUSE if can_hold else max(0.0, interval - took)


class Poller:
    """Asks for one job's status, and bears it for a while when nobody answers.

    Args:
        http: where to ask.
        job_id: the job.
        interval: seconds between requests, if the server answers at once.
        patience: seconds without an answer after which an error is raised.
        pause: waits so many seconds.
    """

    def __init__(
        self,
        http: Http,
        job_id: str,
        *,
        interval: float,
        patience: float,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._http = http
        self._job_id = job_id
        self._interval = interval
        self._patience = patience
        self._pause = pause
        self._etag: str | None = None

    async def statuses(self, *, for_seconds: float | None = None) -> AsyncGenerator[Job, None]:
        """Yield the status whenever it may have changed.

        Args:
            for_seconds: how long; None for ever.

        Raises:
            ApiError, ConnectionFailedError, UnexpectedAnswerError
        """
        began = answered = time.monotonic()
        failures = 0
        while for_seconds is None or time.monotonic() - began < for_seconds:
            asked = time.monotonic()
            try:
                polled = await read_status(self._http, self._job_id, etag=self._etag, hold=HOLD if self._etag else 0)
            except (ConnectionFailedError, UnavailableError, TooManyRequestsError) as error:
                failures += 1
                if time.monotonic() - answered > self._patience:
                    raise
                await self._pause(_pause_after(error, self._http.retries, failures))
                continue
            answered, failures = time.monotonic(), 0
            self._etag = polled.etag
            if polled.job is not None:
                yield polled.job
            await self._pause(
                poll_pause(interval=self._interval, took=answered - asked, can_hold=polled.etag is not None)
            )


def _pause_after(error: Exception, retries: RetryPolicy, failures: int) -> float:
    asked_for = error.retry_after if isinstance(error, ApiError) else None
    return max(retries.backoff(failures, chance=1.0), min(asked_for or 0.0, retries.patience))
