"""What operators may do, and nobody else."""

from __future__ import annotations

from base64 import b64encode
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from haulyard_chassis.broker import BrokerUnavailableError
from haulyard_chassis.dead_letters import DeadLetter
from haulyard_chassis.identity import ADMIN, USER_SCOPES, mint_token
from haulyard_contracts import Compression, ErrorCode, Failure, JobStatus, OnMissing, Phase
from haulyard_gateway.ports import InspectedJob, TriedTask
from unit.gateway.conftest import CREATED, JOB_ID, JWT_SECRET

if TYPE_CHECKING:
    from litestar import Litestar
    from litestar.testing import AsyncTestClient

    from unit.gateway.conftest import World

    Client = AsyncTestClient[Litestar]

LETTERS = "/v1/admin/dead-letters"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def operator(client: Client) -> Client:
    """A client that may what operators may, and nothing else."""
    client.headers["Authorization"] = f"Bearer {mint_token(JWT_SECRET, 'olga', scopes=[ADMIN])}"
    return client


def add_letter(world: World, sequence: int, **changes: Any) -> DeadLetter:
    values: dict[str, Any] = {
        "sequence": sequence,
        "stream": "jobs",
        "subject": f"haulyard.jobs.requested.5.{JOB_ID}",
        "reason": "delivered 8 times in vain",
        "given_up_at": CREATED,
        "headers": {"traceparent": TRACE},
        "payload": b'{"job_id":"job_1","user_id":"alice"}',
        **changes,
    }
    letter = world.dead_letters.letters[sequence] = DeadLetter(**values)
    return letter


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", LETTERS),
        ("DELETE", LETTERS),
        ("GET", f"{LETTERS}/1"),
        ("DELETE", f"{LETTERS}/1"),
        ("POST", f"{LETTERS}/1/replay"),
        ("POST", f"{LETTERS}/replay"),
        ("GET", f"/v1/admin/jobs/{JOB_ID}"),
    ],
)
async def test_users_may_do_nothing_of_it(client: Client, world: World, method: str, path: str) -> None:
    add_letter(world, 1)
    client.headers["Authorization"] = f"Bearer {mint_token(JWT_SECRET, 'alice', scopes=sorted(USER_SCOPES))}"
    answer = await client.request(method, path)
    assert answer.status_code == 403
    assert 'scope="admin"' in answer.headers["www-authenticate"]
    assert list(world.dead_letters.letters) == [1]
    assert world.dead_letters.sent == []


async def test_messages_are_listed_page_by_page(operator: Client, world: World) -> None:
    for sequence in (3, 4, 9):
        add_letter(world, sequence)
    add_letter(world, 10, stream="tasks")
    first = await operator.get(f"{LETTERS}?limit=2&stream=jobs")
    assert first.status_code == 200, first.text
    assert first.headers["cache-control"] == "no-store"
    assert [each["sequence"] for each in first.json()["dead_letters"]] == [3, 4]
    assert first.json()["dead_letters"][0] == {
        "sequence": 3,
        "stream": "jobs",
        "subject": f"haulyard.jobs.requested.5.{JOB_ID}",
        "reason": "delivered 8 times in vain",
        "given_up_at": "2025-12-12T10:00:00Z",
        "job_id": "job_1",
        "traceparent": TRACE,
        "size_bytes": 36,
    }
    cursor = first.json()["next_cursor"]
    assert f"cursor={cursor}" in first.headers["link"]
    second = (await operator.get(f"{LETTERS}?limit=2&stream=jobs&cursor={cursor}")).json()
    assert ([each["sequence"] for each in second["dead_letters"]], second["next_cursor"]) == ([9], None)


@pytest.mark.parametrize(
    "query", ["stream=webhooks", "cursor=!", "cursor=MA", "limit=0", "limit=101", "since=1", "stream=jobs&stream=jobs"]
)
async def test_what_is_not_understood_is_refused(operator: Client, world: World, query: str) -> None:
    answer = await operator.get(f"{LETTERS}?{query}")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["parameter"] == query.partition("=")[0]


async def test_a_message_is_shown_with_what_it_says(operator: Client, world: World) -> None:
    add_letter(world, 1)
    add_letter(world, 2, payload=b"\xffnonsense", headers={}, subject=None)
    shown = (await operator.get(f"{LETTERS}/1")).json()
    assert shown["payload"] == {"job_id": "job_1", "user_id": "alice"}
    assert (shown["payload_base64"], shown["headers"]) == (None, {"traceparent": TRACE})
    broken = (await operator.get(f"{LETTERS}/2")).json()
    assert (broken["payload"], broken["job_id"], broken["traceparent"], broken["subject"]) == (None,) * 4
    assert broken["payload_base64"] == b64encode(b"\xffnonsense").decode()


@pytest.mark.parametrize("sequence", ["3", "0", "01", "-1", "x", "1" * 40, "%00"])
async def test_a_message_that_is_not_there_is_not_found(operator: Client, world: World, sequence: str) -> None:
    add_letter(world, 1)
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/replay")):
        answer = await operator.request(method, f"{LETTERS}/{sequence}{path}")
        assert answer.status_code == 404, path


async def test_a_message_is_sent_again(operator: Client, world: World) -> None:
    add_letter(world, 1)
    add_letter(world, 2, subject=None)
    answer = await operator.post(f"{LETTERS}/1/replay")
    assert (answer.status_code, answer.json()) == (200, {"replayed": 1, "kept": 0, "next_cursor": None})
    assert world.dead_letters.sent == [1]
    assert (await operator.post(f"{LETTERS}/1/replay")).status_code == 404
    stays = await operator.post(f"{LETTERS}/2/replay")
    assert (stays.status_code, stays.json()["type"]) == (409, "/problems/not-replayable")


async def test_all_messages_are_sent_again_in_as_many_requests_as_it_takes(operator: Client, world: World) -> None:
    """And those that come meanwhile are left for another time."""
    for sequence in range(1, 251):
        add_letter(world, sequence)
    first = (await operator.post(f"{LETTERS}/replay")).json()
    assert first["replayed"] == 200
    add_letter(world, 251)
    second = (await operator.post(f"{LETTERS}/replay?cursor={first['next_cursor']}")).json()
    assert second == {"replayed": 50, "kept": 0, "next_cursor": None}
    assert list(world.dead_letters.letters) == [251]
    assert (await operator.post(f"{LETTERS}/replay?stream=tasks")).json()["replayed"] == 0
    assert (await operator.post(f"{LETTERS}/replay?limit=3")).status_code == 400


async def test_messages_are_deleted(operator: Client, world: World) -> None:
    for sequence in (1, 2, 3):
        add_letter(world, sequence, stream="tasks" if sequence == 3 else "jobs")
    assert (await operator.delete(f"{LETTERS}/1")).status_code == 204
    assert (await operator.delete(f"{LETTERS}/1")).status_code == 404
    assert (await operator.delete(f"{LETTERS}?stream=jobs")).json() == {"deleted": 1}
    assert (await operator.delete(LETTERS)).json() == {"deleted": 1}
    assert world.dead_letters.letters == {}


async def test_a_broker_that_is_away_is_told(operator: Client, world: World) -> None:
    world.dead_letters.broken = BrokerUnavailableError("gone")
    answer = await operator.get(LETTERS)
    assert answer.status_code == 503
    assert "retry-after" in answer.headers


async def test_any_job_can_be_looked_into(operator: Client, world: World) -> None:
    world.inspections.jobs[JOB_ID] = InspectedJob(
        job_id=JOB_ID,
        user_id="alice",
        status=JobStatus.PROCESSING,
        sequence=7,
        told_sequence=0,
        generation=2,
        priority=5,
        compression=Compression.STORE,
        on_missing=OnMissing.SKIP,
        created_at=CREATED,
        updated_at=CREATED,
        completed_at=None,
        expires_at=None,
        error=None,
        digest="d",
        follows=None,
        followers=1,
        archive_key="archives/x.zip",
        files={"processing": 2},
        tasks={Phase.BUILD: {"done": 1, "retrying": 1}},
        attempts=4,
        tried=(
            TriedTask(
                phase=Phase.BUILD,
                number=2,
                status="retrying",
                attempts=3,
                next_attempt_at=CREATED + timedelta(seconds=4),
                error=Failure(code=ErrorCode.STORE_UNAVAILABLE, message="503"),
            ),
        ),
    )
    body = (await operator.get(f"/v1/admin/jobs/{JOB_ID}")).json()
    assert (body["user_id"], body["generation"], body["followers"], body["attempts"]) == ("alice", 2, 1, 4)
    assert body["tasks"] == {"build": {"done": 1, "retrying": 1}}
    assert body["tried"] == [
        {
            "phase": "build",
            "number": 2,
            "status": "retrying",
            "attempts": 3,
            "next_attempt_at": "2025-12-12T10:00:04Z",
            "error": {"code": "STORE_UNAVAILABLE", "message": "503"},
        }
    ]
    for unknown in (f"{JOB_ID[:-1]}0", "x", "job_1"):
        assert (await operator.get(f"/v1/admin/jobs/{unknown}")).status_code == 404


@pytest.mark.parametrize("path", [LETTERS, f"{LETTERS}/1"])
async def test_the_methods_are_told(operator: Client, world: World, path: str) -> None:
    answer = await operator.options(path)
    assert set(answer.headers["allow"].split(", ")) >= {"GET", "DELETE", "OPTIONS"}
