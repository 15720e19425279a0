"""Following a job to its end: the ways put together."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from haulyard.errors import UnexpectedAnswerError
from haulyard.http import Http
from haulyard.live.ladder import Ladder, Loss
from haulyard.live.poll import Poller, read_status
from haulyard.live.timeline import Timeline
from haulyard.live.transports import LiveLinks, Lost, event_stream_messages, live_links, websocket_messages
from haulyard.models import AcceptedJob, Job, Update, Way

EVERY_WAY = (Way.WEBSOCKET, Way.EVENTS, Way.POLLING)

_HELD_FOR_LONG = 10.0
"""Seconds after which a connection has shown that it works, even if nothing was to be told."""


class Follower:
    """Follows one job.

    Args:
        http: where to ask.
        job: the job, or its id.
        after: the sequence of the last state that is known; 0 for none.
        ways: how to listen, best first.
        interval: seconds between polls, if the server answers at once.
        patience: seconds without any answer after which an error is raised.
    """

    def __init__(
        self,
        http: Http,
        job: AcceptedJob | Job | str,
        *,
        after: int = 0,
        ways: Sequence[Way] = EVERY_WAY,
        interval: float = 2.0,
        patience: float = 120.0,
    ) -> None:
        self._http = http
        self._job_id = job if isinstance(job, str) else job.job_id
        self._links = (
            LiveLinks(websocket_url=job.websocket_url, events_url=job.events_url)
            if isinstance(job, AcceptedJob) and job.events_url
            else None
        )
        self._is_known = isinstance(job, AcceptedJob)
        self._timeline = Timeline(self._job_id, after=after)
        # However bad the connection, the status can be polled: without it nobody would say what is wrong.
        self._ladder = Ladder([*(way for way in ways if way is not Way.POLLING), Way.POLLING], policy=http.retries)
        self._poller = Poller(http, self._job_id, interval=interval, patience=patience)

    async def updates(self) -> AsyncGenerator[Update, None]:
        """Yield each state of the job that is news, the last one when it is over.

        Raises:
            ApiError, ConnectionFailedError, UnexpectedAnswerError
        """
        if not self._is_known:
            first = await self._first_status()
            if first is not None:
                yield first
        while not self._timeline.is_over:
            worked, began = False, time.monotonic()
            try:
                async with aclosing(self._listen(self._ladder.way)) as heard:
                    async for update in heard:
                        worked = True
                        yield update
                        if update.status.is_over:
                            return
                loss = Loss.CLIMB
                self._links = None
            except Lost as lost:
                loss = lost.loss
                if lost.needs_links:
                    self._links = None
            worked = worked or time.monotonic() - began > _HELD_FOR_LONG
            step = self._ladder.lost(loss, worked=worked, chance=random.random())  # noqa: S311 - jitter
            await asyncio.sleep(step.pause)

    async def _first_status(self) -> Update | None:
        """An id alone may be wrong, and what is known of a job may be old."""
        polled = await read_status(self._http, self._job_id)
        return None if polled.job is None else self._timeline.hear_status(polled.job)

    async def _listen(self, way: Way) -> AsyncGenerator[Update, None]:
        if way is Way.POLLING:
            async with aclosing(self._poller.statuses(for_seconds=self._ladder.climb_after)) as jobs:
                async for job in jobs:
                    update = self._timeline.hear_status(job)
                    if update is not None:
                        yield update
            return
        if self._links is None:
            self._links = await live_links(self._http, self._job_id)
        source = websocket_messages if way is Way.WEBSOCKET else event_stream_messages
        async with aclosing(source(self._http, self._links, after=self._timeline.last_event_id)) as messages:
            async for text in messages:
                try:
                    update = self._timeline.hear_message(text, via=way)
                except UnexpectedAnswerError as error:
                    raise Lost(Loss.BLOCKED, str(error)) from error
                if update is not None:
                    yield update
