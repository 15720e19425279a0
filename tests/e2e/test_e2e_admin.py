"""What an operator does with messages that the services gave up, by the command line."""

import asyncio
import json
import secrets
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import nats
import pytest
from nats.js import JetStreamContext
from ulid import ULID

from haulyard_chassis.dead_letters import REASON, SUBJECT
from haulyard_chassis.identity import ADMIN, mint_token
from haulyard_contracts import JobRequested, Topology, encode
from haulyard_devstack import Stack
from support.client import ApiClient

COMMAND = Path(sys.executable).with_name("haulyard")
PATIENCE = 60.0


@pytest.fixture
def topology(running_env: dict[str, str]) -> Topology:
    return Topology(running_env["HAULYARD_NAMESPACE"])


@pytest.fixture
async def stream(stack: Stack) -> AsyncIterator[JetStreamContext]:
    client = await nats.connect(stack.environment["HAULYARD_NATS_URL"])
    yield client.jetstream()
    await client.close()


async def admin(stack: Stack, *words: str) -> list[dict[str, object]]:
    """Run ``haulyard admin …`` as an operator, and return what it shows."""
    token = mint_token(stack.environment["HAULYARD_JWT_SECRET"], "olga", scopes=[ADMIN])
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *("admin", *words, "--json"),
        env={"HAULYARD_URL": stack.api_url, "HAULYARD_TOKEN": token, "LANG": "C.UTF-8"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return [json.loads(line) for line in out.splitlines()]


async def test_what_nobody_can_read_is_given_up_seen_and_purged(
    stack: Stack, stream: JetStreamContext, topology: Topology
) -> None:
    subject = topology.job_requested(5, f"job_{ULID()}")
    await stream.publish(subject, b"nonsense")
    async with asyncio.timeout(PATIENCE):
        while True:
            listed = await admin(stack, "dead-letters", "list", "--stream", "jobs")
            if letters := [letter for letter in listed if letter["subject"] == subject]:
                break
    sequence = str(letters[0]["sequence"])
    (shown,) = await admin(stack, "dead-letters", "show", sequence)
    assert (shown["payload"], shown["payload_base64"]) == (None, "bm9uc2Vuc2U=")
    assert await admin(stack, "dead-letters", "purge", sequence) == [{"sequence": int(sequence), "deleted": True}]
    assert subject not in {letter["subject"] for letter in await admin(stack, "dead-letters", "list")}


async def test_a_request_that_was_given_up_becomes_a_job_when_it_is_replayed(
    stack: Stack, stream: JetStreamContext, topology: Topology
) -> None:
    """As one would be that an older release could not read."""
    user = f"user-{secrets.token_hex(4)}"
    async with ApiClient(stack.api_url, stack.token(user)) as api:
        file_id = await api.upload("a.txt", b"hello")
        job_id = f"job_{ULID()}"
        request = JobRequested(job_id=job_id, user_id=user, file_ids=(file_id,), created_at=datetime.now(UTC))
        headers = {REASON: "unreadable", SUBJECT: topology.job_requested(5, job_id)}
        await stream.publish(topology.dead(topology.jobs.name), encode(request), headers=headers)
        assert (await api.http.get(f"/v1/jobs/{job_id}/status")).status_code == 404
        (done,) = await admin(stack, "dead-letters", "replay", "--all", "--stream", "jobs")
        assert done["replayed"] == 1
        async with asyncio.timeout(PATIENCE):
            while (await api.http.get(f"/v1/jobs/{job_id}/status")).status_code == 404:  # noqa: ASYNC110 - by polling
                await asyncio.sleep(0.05)
        assert (await api.wait(job_id))["status"] == "completed"
        (seen,) = await admin(stack, "job", job_id)
        assert (seen["user_id"], seen["tasks"], seen["tried"]) == (user, {"build": {"done": 1}}, [])
