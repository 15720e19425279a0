"""One job through the published ports, as a user's program does it; run where those ports are.

``HAULYARD_JWT_SECRET=… python -m containers.job``
"""

import asyncio
import os

import httpx

from haulyard_chassis.identity import mint_token
from support.client import ApiClient, members, sha256

API = "http://localhost:8080"
NOTIFIER = "http://localhost:8081"


async def main(secret: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as plain:
        for base in (API, NOTIFIER):
            answer = await plain.get(f"{base}/health/ready")
            assert answer.status_code == 200, answer.text
        page = await plain.get(f"{API}/")
        assert page.status_code == 200
        assert "<title>Haulyard" in page.text
    # Six MiB are a part that the store copies; the others are packed.
    files = {f"notes/{number}.txt": os.urandom(10_000 + number) for number in range(5)}
    files["big.bin"] = os.urandom(6 << 20)
    async with ApiClient(API, mint_token(secret, "user-containers", 600)) as api:
        ids = [await api.upload(name, data) for name, data in files.items()]
        accepted = await api.initiate(*ids)
        events = await api.watch(accepted["websocket_url"])
        status = await api.wait(accepted["job_id"])
        assert status["status"] == "completed", status
        assert events[-1]["type"] == "completed", events[-1]
        archive = await api.download(accepted["job_id"])
    assert members(archive) == {name: sha256(data) for name, data in files.items()}
    print(f"{len(files)} files, {len(archive)} bytes of ZIP, {len(events)} live messages")  # noqa: T201 - a command's output


if __name__ == "__main__":
    asyncio.run(main(os.environ["HAULYARD_JWT_SECRET"]))
