"""What operators do, on a real broker and a real record."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import asyncpg
import nats
import pytest
from nats.js import JetStreamContext

from haulyard_chassis.dead_letters import REASON, SUBJECT
from haulyard_chassis.identity import ADMIN, mint_token
from haulyard_contracts import JobRequested, Topology, encode

if TYPE_CHECKING:
    import httpx

    from haulyard_gateway.settings import GatewaySettings

LETTERS = "/v1/admin/dead-letters"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def operator(settings: GatewaySettings) -> dict[str, str]:
    assert settings.jwt_secret is not None
    token = mint_token(settings.jwt_secret.get_secret_value(), "olga", scopes=[ADMIN])
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def topology(settings: GatewaySettings) -> Topology:
    return Topology(settings.namespace)


@pytest.fixture
async def stream(
    gateway: httpx.AsyncClient, infra_env: dict[str, str], topology: Topology
) -> AsyncIterator[JetStreamContext]:
    """The streams that the gateway has made, with no dead letters in them."""
    client = await nats.connect(infra_env["HAULYARD_NATS_URL"])
    found = client.jetstream()
    await found.purge_stream(topology.dead_letters.name)
    yield found
    await found.purge_stream(topology.dead_letters.name)
    await client.close()


async def bury(stream: JetStreamContext, topology: Topology, job_id: str, *, subject: bool = True) -> int:
    """Give up a request; return its sequence."""
    request = JobRequested(job_id=job_id, user_id="ann", file_ids=(1,), created_at=datetime(2026, 11, 25, tzinfo=UTC))
    headers = {REASON: "delivered 8 times in vain", "traceparent": TRACE, "Nats-Msg-Id": f"dead:{job_id}"}
    if subject:
        headers[SUBJECT] = topology.job_requested(5, job_id)
    ack = await stream.publish(topology.dead(topology.jobs.name), encode(request), headers=headers)
    return ack.seq


def new_job() -> str:
    return f"job_01KC8ZB0J0{secrets.token_hex(8).upper()}"


async def test_an_operator_sees_sends_and_deletes_what_was_given_up(
    gateway: httpx.AsyncClient,
    operator: dict[str, str],
    stream: JetStreamContext,
    topology: Topology,
) -> None:
    ids = [new_job() for _ in range(4)]
    sequences = [await bury(stream, topology, job_id) for job_id in ids[:3]]
    nowhere = await bury(stream, topology, ids[3], subject=False)
    try:
        listed = (await gateway.get(f"{LETTERS}?limit=3&stream=jobs", headers=operator)).json()
        assert [each["sequence"] for each in listed["dead_letters"]] == sequences
        assert listed["next_cursor"] is not None
        shown = (await gateway.get(f"{LETTERS}/{sequences[0]}", headers=operator)).json()
        assert (shown["payload"]["user_id"], shown["traceparent"], shown["job_id"]) == ("ann", TRACE, ids[0])

        assert (await gateway.post(f"{LETTERS}/{nowhere}/replay", headers=operator)).status_code == 409
        one = await gateway.post(f"{LETTERS}/{sequences[0]}/replay", headers=operator)
        assert one.json() == {"replayed": 1, "kept": 0, "next_cursor": None}
        waiting = await stream.get_last_msg(topology.jobs.name, topology.job_requested(5, ids[0]))
        assert (waiting.headers or {})["traceparent"] == TRACE

        assert (await gateway.delete(f"{LETTERS}/{sequences[1]}", headers=operator)).status_code == 204
        rest = await gateway.post(f"{LETTERS}/replay", headers=operator)
        assert rest.json() == {"replayed": 1, "kept": 1, "next_cursor": None}
        assert (await gateway.delete(LETTERS, headers=operator)).json() == {"deleted": 1}
        assert (await gateway.get(LETTERS, headers=operator)).json() == {"dead_letters": [], "next_cursor": None}
    finally:
        for job_id in ids:
            await stream.purge_stream(topology.jobs.name, subject=topology.any_job_requested(job_id))


async def test_an_operator_sees_the_attempts_of_a_jobs_tasks(
    gateway: httpx.AsyncClient, operator: dict[str, str], infra_env: dict[str, str]
) -> None:
    job_id, follower = new_job(), new_job()
    connection: Any = await asyncpg.connect(infra_env["HAULYARD_POSTGRES_DSN"])
    try:
        await connection.executemany(
            "INSERT INTO download_jobs (id, user_id, status, file_ids, total_files, filename, generation, follows)"
            " VALUES ($1, 'ann', 'processing', '[1, 2]', 2, 'a.zip', 3, $2)",
            [(job_id, None), (follower, job_id)],
        )
        await connection.executemany(
            "INSERT INTO download_job_files (job_id, file_id, position, status, error_code)"
            " VALUES ($1, $2, $3, $4, $5)",
            [(job_id, 1, 0, "processing", None), (job_id, 2, 1, "failed", "FILE_NOT_FOUND")],
        )
        await connection.executemany(
            "INSERT INTO download_job_parts (job_id, phase, number, generation, status, task, size_bytes, data_bytes,"
            " is_closing, is_body, attempts, etag, next_attempt_at, error_code, error_message)"
            " VALUES ($1, 'build', $2, 3, $3, '', 1, 1, false, false, $4, 'e', $5, $6, $7)",
            [
                (job_id, 1, "done", 2, None, None, None),
                (job_id, 2, "retrying", 3, datetime.now(UTC), "STORE_UNAVAILABLE", "503"),
                (job_id, 3, "queued", 1, None, None, None),
            ],
        )
        answer = await gateway.get(f"/v1/admin/jobs/{job_id}", headers=operator)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert (body["user_id"], body["generation"], body["followers"], body["attempts"]) == ("ann", 3, 1, 6)
        assert body["files"] == {"failed": 1, "processing": 1}
        assert body["tasks"] == {"build": {"done": 1, "queued": 1, "retrying": 1}}
        tried = [(each["number"], each["attempts"], each["error"]) for each in body["tried"]]
        assert tried == [(2, 3, {"code": "STORE_UNAVAILABLE", "message": "503"}), (1, 2, None)]
        assert (await gateway.get(f"/v1/admin/jobs/{follower}", headers=operator)).json()["follows"] == job_id
        assert (await gateway.get(f"/v1/admin/jobs/{new_job()}", headers=operator)).status_code == 404
        assert (await gateway.get(f"/v1/admin/jobs/{job_id}")).status_code == 403
    finally:
        await connection.execute("DELETE FROM download_jobs WHERE id = ANY($1)", [job_id, follower])
        await connection.close()
