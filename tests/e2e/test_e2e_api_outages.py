"""What the API still does while something is away."""

import pytest

from haulyard_devstack import Infra
from support.client import ApiClient, members, sha256

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]


async def test_jobs_that_are_asked_for_while_the_broker_is_away_are_done_when_it_is_back(
    api: ApiClient, infra: Infra | None
) -> None:
    if infra is None or "nats" not in infra.names:
        pytest.skip("nats is not ours to stop: its address was given")
    file_id = await api.upload("a.txt", b"a")
    await infra.stop("nats")
    try:
        jobs = []
        for path, body in (
            ("/v1/download/initiate", {"file_ids": [file_id], "filename": "a.zip"}),
            ("/v1/download/start", {"file_id": file_id}),
        ):
            answer = await api.http.post(path, json=body)
            assert answer.status_code == 202, answer.text
            assert "the broker is away" in answer.headers["warning"]
            jobs.append(answer.json()["job_id"])
            assert (await api.status(jobs[-1]))["status"] == "queued"
        answer = await api.http.get(f"/v1/jobs/{jobs[0]}/status?wait=25&since=1")
        assert answer.json()["status"] == "queued"
    finally:
        await infra.start("nats")
    for job_id in jobs:
        assert (await api.wait(job_id))["status"] == "completed"
        assert members(await api.download(job_id)) == {"a.txt": sha256(b"a")}
