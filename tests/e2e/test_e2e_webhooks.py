"""A webhook as its receiver sees it, with nothing of ours but the API: secret, signature, deliveries, once more."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from support.client import ApiClient, members, sha256


@dataclass
class Receiver:
    """Somebody's server; answers 410 first, if it is told to."""

    url: str = ""
    gone: int = 0
    calls: asyncio.Queue[tuple[dict[str, str], bytes]] = field(default_factory=asyncio.Queue)

    async def handle(self, request: web.Request) -> web.Response:
        self.calls.put_nowait(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        if self.gone:
            self.gone -= 1
            return web.Response(status=410)
        return web.Response(status=204)

    async def call(self) -> tuple[dict[str, str], bytes]:
        return await asyncio.wait_for(self.calls.get(), 60)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    app = web.Application()
    app.router.add_post("/hook", found.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield found
    await runner.cleanup()


async def test_a_webhook_is_signed_given_up_and_delivered_again(api: ApiClient, receiver: Receiver) -> None:
    receiver.gone = 1
    secret = (await api.http.get("/v1/webhooks/secrets")).json()["secrets"][0]["secret"]
    file_id = await api.upload("a.txt", b"hello")
    job = (await api.initiate(file_id, webhook_url=receiver.url))["job_id"]
    headers, body = await receiver.call()
    message = Webhook(secret).verify(body, headers)
    assert (message["type"], message["job_id"]) == ("job.completed", job)
    archive = (await api.plain.get(message["download_url"])).content
    assert members(archive) == {"a.txt": sha256(b"hello")}

    async with asyncio.timeout(30):
        while True:
            (delivery,) = (await api.http.get(f"/v1/jobs/{job}/deliveries")).json()["deliveries"]
            if delivery["status"] != "pending":
                break
            await asyncio.sleep(0.1)
    assert (delivery["status"], delivery["attempts"], delivery["last_status"]) == ("dead", 1, 410)
    assert delivery["delivery_id"] == headers["webhook-id"]

    rotated = (await api.http.post("/v1/webhooks/secrets/rotate")).json()["secrets"]
    assert rotated[1]["secret"] == secret
    asked = await api.http.post(f"/v1/deliveries/{delivery['delivery_id']}/redeliver")
    assert (asked.status_code, asked.json()["status"]) == (202, "pending")
    again, body = await receiver.call()
    assert again["webhook-id"] == headers["webhook-id"]
    for each in rotated:
        Webhook(each["secret"]).verify(body, again)
