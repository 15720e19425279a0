"""Work that goes on while something is broken, and what became of it."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle, permutations
from typing import Any

import httpx

from support.client import ApiClient

_AGAIN = (429, 500, 502, 503, 504)
_PAUSE = 0.2


async def ask_until_answered(api: ApiClient, method: str, url: str, **request: Any) -> httpx.Response:
    """Send a request until the answer is not only that something is away."""
    while True:
        try:
            answer = await api.http.request(method, url, **request)
        except httpx.TransportError:
            pass  # a gateway that is not there is asked again, as by any client
        else:
            if answer.status_code not in _AGAIN:
                return answer
        await asyncio.sleep(_PAUSE)


@dataclass
class Load:
    """Jobs that are asked for one after the other."""

    api: ApiClient
    file_ids: Sequence[int]
    accepted: list[str] = field(default_factory=list)
    ends: list[dict[str, Any]] = field(default_factory=list)
    stopping: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        """Make each job another one: equal ones would share an archive, and be no work."""
        sizes = range(len(self.file_ids), 0, -1)
        self._choices = cycle(list(each) for size in sizes for each in permutations(self.file_ids, size))

    async def work(self) -> None:
        """Ask for jobs and wait for each until it is told to stop."""
        while not self.stopping:
            answer = await ask_until_answered(
                self.api,
                "POST",
                "/v1/download/initiate",
                json={"file_ids": next(self._choices)},
                headers={"Idempotency-Key": str(uuid.uuid4())},
            )
            assert answer.status_code == 202, answer.text
            job_id = answer.json()["job_id"]
            self.accepted.append(job_id)
            self.ends.append(await self.wait(job_id))
            self.changed.set()

    async def wait(self, job_id: str) -> dict[str, Any]:
        """Poll until a job is over."""
        while True:
            answer = await ask_until_answered(self.api, "GET", f"/v1/jobs/{job_id}/status")
            assert answer.status_code == 200, answer.text
            status: dict[str, Any] = answer.json()
            if status["status"] not in ("queued", "processing"):
                return status
            await asyncio.sleep(_PAUSE)

    async def more(self, count: int, *, within: float) -> None:
        """Wait until so many more jobs are over.

        Args:
            count: how many.
            within: seconds after which that is too late.
        """
        wanted = len(self.ends) + count
        async with asyncio.timeout(within):
            while len(self.ends) < wanted:
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def under_load(api: ApiClient, file_ids: Sequence[int], *, at_once: int = 4) -> AsyncIterator[Load]:
    """Keep jobs under way inside the block; at its end those that were accepted are waited for."""
    load = Load(api, file_ids)
    async with asyncio.timeout(400), asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(load.work())
        try:
            yield load
        finally:
            load.stopping = True
