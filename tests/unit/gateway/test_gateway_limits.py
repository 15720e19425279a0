"""Who may do what, how often, and what is done only once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from haulyard_chassis.broker import AlreadyPendingError
from haulyard_chassis.idempotency import Conflict, Replay
from haulyard_chassis.identity import ADMIN, FILES_WRITE, JOBS_READ, JOBS_WRITE, SCOPES, mint_token
from haulyard_chassis.limits import Decision
from haulyard_contracts import JobStatus
from haulyard_gateway.admission import Verdict
from haulyard_gateway.auth import check_scopes
from unit.gateway.conftest import CREATED, JOB_ID, JWT_SECRET
from unit.gateway.test_gateway_http import API, INITIATE

if TYPE_CHECKING:
    from litestar import Litestar
    from litestar.testing import AsyncTestClient

    from unit.gateway.conftest import World

    Client = AsyncTestClient[Litestar]

NEEDED = {
    ("POST", "/v1/download/initiate"): {JOBS_WRITE},
    ("POST", "/v1/download/start"): {JOBS_WRITE},
    ("POST", f"/v1/jobs/{JOB_ID}/cancel"): {JOBS_WRITE},
    ("POST", f"/v1/jobs/{JOB_ID}/retry"): {JOBS_WRITE},
    ("DELETE", f"/v1/jobs/{JOB_ID}"): {JOBS_WRITE},
    ("POST", "/v1/files"): {FILES_WRITE},
    ("DELETE", "/v1/files/70000"): {FILES_WRITE},
    ("DELETE", "/v1/users/me/data"): {JOBS_WRITE, FILES_WRITE},
    ("POST", f"/v1/deliveries/{JOB_ID}/redeliver"): {JOBS_WRITE},
    ("GET", "/v1/webhooks/secrets"): {JOBS_WRITE},
    ("POST", "/v1/webhooks/secrets/rotate"): {JOBS_WRITE},
}
"""What else than ``jobs:read`` an endpoint needs."""


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in API])
async def test_each_endpoint_needs_its_scopes(client: Client, method: str, path: str) -> None:
    needed = NEEDED.get((method, path), {ADMIN} if path.startswith("/v1/admin/") else {JOBS_READ})
    for scope in needed:
        token = mint_token(JWT_SECRET, "alice", scopes=sorted(SCOPES - {scope}))
        answer = await client.request(method, path, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 403
        assert method == "HEAD" or answer.json()["type"] == "/problems/forbidden"
        assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
        assert scope in answer.headers["www-authenticate"]
    token = mint_token(JWT_SECRET, "alice", scopes=sorted(needed))
    answer = await client.request(method, path, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code not in (401, 403)


async def test_being_an_operator_is_not_to_be_everybody(client: Client) -> None:
    token = mint_token(JWT_SECRET, "root", scopes=[ADMIN])
    answer = await client.get("/v1/jobs", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 403


def test_what_needs_nothing_asks_for_nothing() -> None:
    check_scopes(None, {})  # type: ignore[arg-type]  # nobody is looked at


def decision(*, allowed: bool = True, remaining: int = 7, degraded: bool = False) -> Decision:
    return Decision(
        allowed=allowed,
        limit=100,
        remaining=remaining,
        reset_seconds=3.2,
        retry_after=0 if allowed else 1.3,
        degraded=degraded,
    )


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in API])
async def test_every_answer_says_what_is_left(client: Client, world: World, method: str, path: str) -> None:
    world.admission.decision = decision()
    answer = await client.request(method, path)
    assert answer.headers["ratelimit-policy"] == '"requests";q=100;w=60'
    assert answer.headers["ratelimit"] == '"requests";r=7;t=4'
    assert world.admission.taken == 1


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in API])
async def test_one_request_too_many_is_refused(client: Client, world: World, method: str, path: str) -> None:
    world.admission.decision = decision(allowed=False, remaining=0)
    world.add_job()
    for body in ({"file_ids": [1], "name": "a", "file_id": 1}, {"file_ids": [1]}):
        answer = await client.request(method, path, json=body)
        assert answer.status_code == 429
        assert method == "HEAD" or answer.json()["type"] == "/problems/rate-limited"
        assert answer.headers["retry-after"] == "2"
        assert answer.headers["ratelimit"] == '"requests";r=0;t=4'
    assert world.broker.sent == []
    assert world.catalogue.files == {}


async def test_without_the_cache_limits_are_said_to_be_rough(client: Client, world: World) -> None:
    world.admission.decision = decision(degraded=True)
    answer = await client.get("/v1/jobs")
    assert "limits are those of this process" in answer.headers["warning"]


async def test_one_job_too_many_is_refused_and_says_when_to_come_back(client: Client, world: World) -> None:
    jobs = Decision(allowed=False, limit=5, remaining=0, reset_seconds=5, retry_after=5)
    world.admission.verdict = Verdict(jobs=jobs)
    answer = await client.post(INITIATE, json={"file_ids": [1]})
    assert (answer.status_code, answer.json()["type"]) == (429, "/problems/too-many-jobs")
    assert answer.headers["retry-after"] == "5"
    assert answer.headers["ratelimit"] == '"jobs";r=0'
    assert world.broker.sent == []


# Idempotency keys

KEY = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}


async def test_the_same_request_is_for_the_same_job(client: Client, world: World) -> None:
    bodies: list[dict[str, Any]] = [
        {"file_ids": [1, 2], "priority": 3},
        {"priority": 3, "file_ids": [1, 2]},
        {"file_ids": [2, 1], "priority": 3},
    ]
    ids = [(await client.post(INITIATE, json=body, headers=KEY)).json()["job_id"] for body in bodies]
    assert ids[0] == ids[1] != ids[2]
    claims = [claim for _, claim in world.admission.admitted]
    assert claims[0] == claims[1] != claims[2]
    assert all(re.fullmatch(r"job_[0-7][0-9A-HJKMNP-TV-Z]{25}", job_id) for job_id in ids)


@pytest.mark.parametrize("status", [JobStatus.PROCESSING, JobStatus.COMPLETED, JobStatus.FAILED])
async def test_a_repeated_request_is_answered_like_the_first(client: Client, world: World, status: JobStatus) -> None:
    world.add_job(status=status)
    world.admission.verdict = Verdict(outcome=Replay(JOB_ID))
    answer = await client.post(INITIATE, json={"file_ids": [1]}, headers=KEY)
    assert answer.status_code == 202
    body = answer.json()
    assert (body["job_id"], body["status"], body["created_at"]) == (JOB_ID, "queued", "2025-12-12T10:00:00Z")
    assert world.broker.sent == []


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_request_whose_first_sender_may_have_died_is_handed_over_again(
    client: Client,
    world: World,
    is_known: bool,  # noqa: FBT001
) -> None:
    if is_known:
        world.add_job(status=JobStatus.QUEUED, sequence=1)
    world.admission.verdict = Verdict(outcome=Replay(JOB_ID))
    answer = await client.post(INITIATE, json={"file_ids": [1]}, headers=KEY)
    assert (answer.status_code, answer.json()["job_id"]) == (202, JOB_ID)
    [(_, request, message_id, _)] = world.broker.sent
    assert request.job_id == message_id == JOB_ID
    assert (request.created_at == CREATED) is is_known


async def test_a_request_that_the_broker_has_already_is_fine(client: Client, world: World) -> None:
    world.broker.broken = AlreadyPendingError("requested")
    assert (await client.post(INITIATE, json={"file_ids": [1]}, headers=KEY)).status_code == 202


async def test_a_key_is_for_one_request(client: Client, world: World) -> None:
    world.admission.verdict = Verdict(outcome=Conflict())
    answer = await client.post(INITIATE, json={"file_ids": [1]}, headers=KEY)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/idempotency-key-reused")
    assert world.broker.sent == []


@pytest.mark.parametrize("key", ["", "a b", "a,b", '"', "é", "x" * 256, '"a', 'a"b', "a;b=1"])
@pytest.mark.parametrize("path", [INITIATE, "/v1/download/start", f"/v1/jobs/{JOB_ID}/retry"])
async def test_what_is_no_key_is_told(client: Client, world: World, path: str, key: str) -> None:
    world.add_job(status=JobStatus.FAILED)
    answer = await client.post(path, json={"file_ids": [1]}, headers=[(b"Idempotency-Key", key.encode())])
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["parameter"] == "Idempotency-Key"
    assert world.admission.taken == 1


async def test_two_keys_are_none(client: Client) -> None:
    answer = await client.post(
        INITIATE, json={"file_ids": [1]}, headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    )
    assert answer.status_code == 400
