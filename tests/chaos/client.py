"""A client that behaves: it tries again when it is told to, or not told anything, with the key of the first time."""

import asyncio
import random
import uuid
from dataclasses import dataclass, field
from typing import Any

import httpx

from chaos.scenario import Kind, Order, ghost_ids

OPEN = ("queued", "processing")
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_LONGEST_PAUSE = 2.0
_RETRYABLE = ("STORE_UNAVAILABLE", "SOURCE_UNAVAILABLE")
_FORGIVEN = 6
"""How often a job is done again that failed because the store was away."""


@dataclass
class Outcome:
    """What became of an order."""

    order: Order
    job_ids: list[str] = field(default_factory=list)
    """The job, and those that were made to do it again, in order; the last one counts."""
    last: dict[str, Any] = field(default_factory=dict)
    """The last status that was seen."""
    ends: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The last status of each job that was seen to be over."""
    surprises: list[str] = field(default_factory=list)
    """Answers that a client should never get."""
    is_over: bool = False

    @property
    def job_id(self) -> str:
        """The job that counts."""
        return self.job_ids[-1]


@dataclass
class Answers:
    """What came back, counted."""

    retried: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    warned: int = 0

    def count(self, answer: httpx.Response) -> None:
        """Count an answer."""
        self.statuses[answer.status_code] = self.statuses.get(answer.status_code, 0) + 1
        self.warned += "warning" in answer.headers


class GoodClient:
    """One user's client."""

    def __init__(self, base_url: str, token: str, answers: Answers, *, seed: str) -> None:
        self.http = httpx.AsyncClient(
            base_url=base_url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(15, pool=None),
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=16),
            trust_env=False,
        )
        self._answers = answers
        self._draw = random.Random(seed)

    async def close(self) -> None:
        await self.http.aclose()

    async def ask(self, method: str, url: str, **request: Any) -> httpx.Response:
        """Send a request until it is answered by something that is not only bad luck."""
        pause = 0.1
        while True:
            try:
                answer = await self.http.request(method, url, **request)
            except httpx.TransportError as error:
                name = type(error).__name__
                self._answers.errors[name] = self._answers.errors.get(name, 0) + 1
            else:
                self._answers.count(answer)
                if answer.status_code not in _AGAIN:
                    return answer
            self._answers.retried += 1
            await asyncio.sleep(pause * (0.5 + self._draw.random()))
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def upload(self, name: str, data: bytes) -> int:
        """Add a file; nothing is broken yet."""
        answer = await self.http.post("/v1/files", json={"name": name})
        answer.raise_for_status()
        async with httpx.AsyncClient(timeout=60, trust_env=False) as plain:
            (await plain.put(answer.json()["upload"]["url"], content=data)).raise_for_status()
        return int(answer.json()["file_id"])

    async def fetch(self, url: str) -> bytes:
        """Return what a presigned link leads to."""
        async with httpx.AsyncClient(timeout=60, trust_env=False) as plain:
            answer = await plain.get(url)
            answer.raise_for_status()
            return answer.content

    async def run(self, outcome: Outcome, ids: dict[str, int], webhook: str) -> None:
        """Do all that an order is about."""
        order = outcome.order
        body = {"file_ids": [ids[name] for name in order.names] + ghost_ids(order), **order.options}
        if order.webhook:
            body["webhook_url"] = f"{webhook}/{order.number}"
        if not await self._make(outcome, "/v1/download/initiate", json=body):
            return
        if order.kind is Kind.CANCELLED:
            await asyncio.sleep(order.wait)
            await self._expect(outcome, await self.ask("POST", f"/v1/jobs/{outcome.job_id}/cancel"), 202, 409)
        await self.wait(outcome)
        if order.kind is Kind.STRICT and await self._make(outcome, f"/v1/jobs/{outcome.job_id}/retry"):
            await self.wait(outcome)
        for _ in range(_FORGIVEN):
            if (outcome.last.get("error") or {}).get("code") not in _RETRYABLE:
                break
            if await self._make(outcome, f"/v1/jobs/{outcome.job_id}/retry"):
                await self.wait(outcome)
        if order.kind is Kind.DELETED:
            await self._expect(outcome, await self.ask("DELETE", f"/v1/jobs/{outcome.job_id}"), 202, 404)
        outcome.is_over = True

    async def _make(self, outcome: Outcome, url: str, **request: Any) -> bool:
        answer = await self.ask("POST", url, headers={"Idempotency-Key": str(uuid.uuid4())}, **request)
        if await self._expect(outcome, answer, 202):
            outcome.job_ids.append(answer.json()["job_id"])
            return True
        return False

    async def _expect(self, outcome: Outcome, answer: httpx.Response, *good: int) -> bool:
        if answer.status_code in good:
            return True
        request = answer.request
        outcome.surprises.append(f"{request.method} {request.url.path}: {answer.status_code} {answer.text[:300]}")
        return False

    async def wait(self, outcome: Outcome) -> None:
        """Poll until the job is over."""
        while True:
            status = await self.status(outcome)
            if status is not None:
                outcome.last = status
                if status["status"] not in OPEN:
                    outcome.ends[outcome.job_id] = status
                    return
            await asyncio.sleep(0.3 + 0.4 * self._draw.random())

    async def status(self, outcome: Outcome) -> dict[str, Any] | None:
        """Return a job's status; a job that was accepted is known, whatever is broken."""
        answer = await self.ask("GET", f"/v1/jobs/{outcome.job_id}/status")
        if await self._expect(outcome, answer, 200):
            found: dict[str, Any] = answer.json()
            return found
        return None
