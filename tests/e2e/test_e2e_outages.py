"""Each server goes away under load and comes back. What was promised holds meanwhile, and nobody has to do anything.

``HAULYARD_OUTAGE_SECONDS=60 pytest tests/e2e/test_e2e_outages.py`` lets them stay away for longer.
"""

import asyncio
import os
import random

import httpx
import pytest

from haulyard_devstack import Infra, Stack
from support.client import ApiClient, members, sha256
from support.outage import under_load

pytestmark = [pytest.mark.fault, pytest.mark.timeout(600)]

AWAY = float(os.environ.get("HAULYARD_OUTAGE_SECONDS", "1"))
"""Seconds for which a server is away."""
RECOVERY = 60.0
"""Seconds in which jobs have to be done again afterwards."""
MIB = 1024 * 1024

MAY_FAIL = {"s3": {"STORE_UNAVAILABLE"}}
"""With what a job may fail because a server was away; its user may ask for it again."""
WARNED = {"nats", "valkey"}
"""Servers without which an accepted job is accepted with a warning."""


@pytest.mark.parametrize("server", ["nats", "postgres", "valkey", "s3"])
async def test_all_goes_on_by_itself_when_a_server_is_back(
    api: ApiClient, stack: Stack, infra: Infra | None, server: str
) -> None:
    if infra is None or server not in infra.names:
        pytest.skip(f"{server} is not ours to kill: its address was given")
    noise = random.Random(server)
    small = [await api.upload(f"{n}.bin", noise.randbytes(50_000)) for n in range(4)]
    data = noise.randbytes(40 * MIB)
    large = await api.upload("large.bin", data)
    async with under_load(api, small) as load:
        await load.more(4, within=RECOVERY)
        in_flight = await api.initiate(large, small[0])
        await api.wait_for_bytes(in_flight["job_id"], 1)
        await infra.kill(server)
        try:
            asked = await api.http.post("/v1/download/initiate", json={"file_ids": small, "filename": "while away"})
            assert asked.status_code == 202, asked.text
            # A machine that is busy with the restart may warn of more.
            assert server not in WARNED or "warning" in asked.headers
            status = await api.status(asked.json()["job_id"])
            assert status["status"] in ("queued", "processing", "completed")
            await asyncio.sleep(AWAY)
        finally:
            await infra.start(server)
        await load.more(8, within=RECOVERY)
    ends = [await load.wait(job_id) for job_id in (in_flight["job_id"], asked.json()["job_id"])] + load.ends
    reasons = {end["error"]["code"] for end in ends if end["status"] != "completed"}
    assert reasons <= MAY_FAIL.get(server, set())
    given_up = [file for end in ends if end["status"] == "completed" for file in end["files"] if file.get("error")]
    assert given_up == [], "a job went on without a file because a server was away"
    if ends[0]["status"] == "completed":
        found = members(await api.download(in_flight["job_id"]))
        assert found["large.bin"] == sha256(data)
    async with httpx.AsyncClient(trust_env=False) as plain:
        for name, url in stack.urls.items():
            answer = await plain.get(f"{url}/health/ready")
            assert answer.status_code == 200, f"{name}: {answer.text}"
