"""The synchronous endpoints of before."""

from __future__ import annotations

import asyncio
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import pytest

from haulyard_chassis.broker import BrokerUnavailableError
from haulyard_chassis.store import AccessDeniedError, StoreUnavailableError
from haulyard_contracts import ArchiveLocation, ErrorCode, Failure, JobDocument, JobStatus
from haulyard_gateway.file_validation import ObjectAt, OriginAt
from haulyard_gateway.legacy import DEPRECATED_AT, SUNSET
from haulyard_gateway.ports import AddedFile

if TYPE_CHECKING:
    import httpx
    from litestar import Litestar
    from litestar.testing import AsyncTestClient

    from unit.gateway.conftest import World

    Client = AsyncTestClient[Litestar]

START = "/v1/download/start"
CHECK = "/v1/download/check"


def finish(world: World, **changes: Any) -> JobDocument:
    """Let the only job be over."""
    [job_id] = world.jobs.documents
    finished: dict[str, Any] = {
        "status": JobStatus.COMPLETED,
        "archive": ArchiveLocation(bucket="archives", key="k"),
        "size_bytes": 22,
    }
    return world.add_job(job_id=job_id, sequence=9, **finished | changes)


async def test_start_waits_for_the_archive(patient: httpx.AsyncClient, world: World) -> None:
    started = asyncio.create_task(patient.post(START, json={"file_id": 70000}))
    watch = await world.changes.next_watch()
    job = finish(world)
    watch.change(9)
    answer = await started
    assert answer.status_code == 200, answer.text
    assert (answer.json()["job_id"], answer.json()["size_bytes"]) == (job.job_id, 22)
    assert answer.json()["download_url"].startswith("https://store.test/archives/k")


async def test_start_hands_over_what_takes_longer(
    client: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_once(*_: Any, **__: Any) -> None:
        return None

    monkeypatch.setattr("haulyard_gateway.legacy.wait_for_change", at_once)
    answer = await client.post(START, json={"file_ids": [70000, 70001]})
    assert answer.status_code == 202
    assert answer.headers["location"] == answer.json()["status_url"]
    assert answer.json()["total_files"] == 2


async def test_start_tells_of_a_failure(patient: httpx.AsyncClient, world: World) -> None:
    started = asyncio.create_task(patient.post(START, json={"file_id": 70000}))
    watch = await world.changes.next_watch()
    failure = Failure(code=ErrorCode.FILE_NOT_FOUND, message="gone")
    finish(world, status=JobStatus.FAILED, archive=None, error=failure)
    watch.change(9)
    answer = await started
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/job-failed")
    assert "FILE_NOT_FOUND" in answer.json()["detail"]


async def test_start_hands_over_at_once_when_nobody_can_wait(client: Client, world: World) -> None:
    world.changes.full = True
    assert (await client.post(START, json={"file_id": 70000})).status_code == 202
    world.broker.broken = BrokerUnavailableError("gone")
    answer = await client.post(START, json={"file_id": 70000})
    assert answer.status_code == 202
    assert "the broker is away" in answer.headers["warning"]
    assert len(world.jobs.parked) == 1


async def test_every_answer_of_start_says_that_it_goes(client: Client, world: World) -> None:
    world.changes.full = True
    for body in ({"file_id": 70000}, {"file_id": 0}):
        answer = await client.post(START, json=body)
        assert answer.headers["deprecation"] == f"@{int(DEPRECATED_AT.timestamp())}"
        assert parsedate_to_datetime(answer.headers["sunset"]) == SUNSET
        assert answer.headers["link"] == '<https://api.example.com/v1/download/initiate>; rel="successor-version"'
        assert answer.headers["warning"].startswith('299 haulyard "Deprecated')
    assert "deprecation" not in (await client.post(CHECK, json={"file_id": 1})).headers


async def check(client: Client, file_id: int) -> dict[str, Any]:
    answer = await client.post(CHECK, json={"file_id": file_id})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_whether_a_file_is_there(client: Client, world: World) -> None:
    world.store.put("sources", "k", size=7)
    there = world.catalogue.put("alice", AddedFile(source=ObjectAt("sources", "k"), name="a"))
    assert await check(client, there.file_id) == {
        "file_id": there.file_id,
        "available": True,
        "name": "a",
        "size_bytes": 7,
        "reason": None,
    }
    world.store.objects.clear()
    gone = await check(client, there.file_id)
    assert (gone["available"], gone["reason"]) == (False, "It has not been uploaded yet.")
    foreign = world.catalogue.put("bob", AddedFile(source=ObjectAt("sources", "k"), name="a"))
    for file_id in (foreign.file_id, 1):
        assert (await check(client, file_id))["reason"] == "You have no file with this id."
    origin = world.catalogue.put(None, AddedFile(source=OriginAt("https://origin.example.com/x"), name="a"))
    assert (await check(client, origin.file_id))["available"] is True


async def test_a_store_that_refuses_or_is_away_is_told_apart(client: Client, world: World) -> None:
    file = world.catalogue.put("alice", AddedFile(source=ObjectAt("sources", "k"), name="a"))
    world.store.broken = AccessDeniedError("403")
    assert (await check(client, file.file_id))["reason"] == "Its source may not be read."
    world.store.broken = StoreUnavailableError("503")
    assert (await client.post(CHECK, json={"file_id": file.file_id})).status_code == 503
