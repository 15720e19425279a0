"""Webhooks over real connections: an event goes in, a request comes out."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from haulyard_chassis.webhook_records import new_secret, redeliver, rotate_secrets, valid_secrets
from haulyard_contracts import JobStatus
from haulyard_notifier.settings import NotifierSettings

if TYPE_CHECKING:
    from integration.notifier.conftest import Orchestrator

pytestmark = pytest.mark.timeout(60)

OWNER = "alice"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]
Running = Callable[[NotifierSettings], AbstractAsyncContextManager[str]]


@dataclass
class Call:
    """A request that the receiver got."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed


@dataclass
class Receiver:
    """Somebody's server: answers as it is told, and 200 when it is not."""

    url: str
    answers: list[web.Response] = field(default_factory=list)
    calls: asyncio.Queue[Call] = field(default_factory=asyncio.Queue)

    async def call(self) -> Call:
        return await asyncio.wait_for(self.calls.get(), 10)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver("")

    async def handle(request: web.Request) -> web.Response:
        found.calls.put_nowait(
            Call(request.path, {k.lower(): v for k, v in request.headers.items()}, await request.read())
        )
        return found.answers.pop(0) if found.answers else web.Response()

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield found
    await runner.cleanup()


@pytest.fixture
def settled(orchestrator: "Orchestrator", until: Until) -> Callable[[str], Awaitable[dict[str, Any]]]:
    """Waits until the job's delivery has this status (``retry``: pending after a failure), and returns its row."""

    async def wait(status: str) -> dict[str, Any]:
        row: dict[str, Any] = {}

        async def reached() -> bool:
            nonlocal row
            found = await orchestrator.record.fetchrow(
                "SELECT *, extract(epoch FROM next_attempt_at - now())::float AS due_in FROM webhook_deliveries"
                " WHERE job_id = $1",
                orchestrator.job_id,
            )
            row = dict(found) if found else {}
            if status == "retry":
                return row.get("status") == "pending" and row.get("last_error") is not None
            return row.get("status") == status

        await until(reached)
        return row

    return wait


Settled = Callable[[str], Awaitable[dict[str, Any]]]


async def finish(orchestrator: "Orchestrator", status: JobStatus, url: str | None) -> None:
    await orchestrator.insert_job(status, webhook_url=url)
    await orchestrator.reach(9, status)


@pytest.fixture
async def signed_notifier(
    settings: NotifierSettings, orchestrator: "Orchestrator", running: Running
) -> AsyncIterator[str]:
    secret = type(settings.nats_url)(SECRET)
    async with running(settings.model_copy(update={"webhook_secret": secret})) as address:
        yield address


async def test_completion_is_told_once_signed_and_with_a_fresh_link(
    signed_notifier: str, orchestrator: "Orchestrator", receiver: Receiver, settled: Settled
) -> None:
    await finish(orchestrator, JobStatus.COMPLETED, receiver.url)
    call = await receiver.call()
    assert call.path == "/hook"
    body = call.json
    assert f"/archives/{orchestrator.job_id}.zip?" in body.pop("download_url")
    body.pop("timestamp")
    assert body == {
        "type": "job.completed",
        "job_id": orchestrator.job_id,
        "status": "completed",
        "size_bytes": 1234,
        "filename": "träume.zip",
        "failed_files": [70001],
    }
    assert call.headers["user-agent"] == "Haulyard"
    assert call.headers["content-type"] == "application/json"
    assert call.headers["webhook-id"] == f"{orchestrator.job_id}:9"
    Webhook(SECRET).verify(call.body, call.headers)
    row = await settled("delivered")
    assert (row["attempts"], row["last_status"]) == (1, 200)
    assert "X-Amz" not in row["payload"]

    # The same event again, past the broker's own duplicate check: nothing is sent.
    repeated = orchestrator.event(orchestrator.document(9, JobStatus.COMPLETED))
    await orchestrator.publisher.publish(
        orchestrator.topology.event(repeated.job_id, repeated.type), repeated, message_id="again"
    )
    await orchestrator.handled(2)
    assert await orchestrator.record.fetchval("SELECT count(*) FROM webhook_deliveries") == 1
    assert receiver.calls.empty()


async def test_failure_is_told_signed_with_a_secret_that_its_user_can_see(
    notifier: str, orchestrator: "Orchestrator", receiver: Receiver, settled: Settled
) -> None:
    await finish(orchestrator, JobStatus.FAILED, receiver.url)
    call = await receiver.call()
    (secret,) = await valid_secrets(orchestrator.record, OWNER)
    body = Webhook(secret.secret).verify(call.body, call.headers)
    assert (body["type"], body["status"], body["error"]["code"]) == ("job.failed", "failed", "PROCESSING_FAILED")
    await settled("delivered")


async def test_while_secrets_are_exchanged_both_are_good_to_a_stranger(
    signed_notifier: str, orchestrator: "Orchestrator", receiver: Receiver
) -> None:
    """Checked with the library of those who wrote the specification."""
    (before,) = await valid_secrets(orchestrator.record, OWNER)
    async with orchestrator.record.acquire() as connection:
        after, still = await rotate_secrets(connection, OWNER)
    assert (still.secret, after.expires_at) == (before.secret, None)
    await finish(orchestrator, JobStatus.COMPLETED, receiver.url)
    call = await receiver.call()
    assert len(call.headers["webhook-signature"].split(" ")) == 3, "the user's two, and the installation's"
    for secret in (before.secret, after.secret, SECRET):
        assert Webhook(secret).verify(call.body, call.headers)["job_id"] == orchestrator.job_id
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(call.body, call.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(after.secret).verify(call.body + b" ", call.headers)


async def test_a_job_without_webhook_leaves_no_row(notifier: str, orchestrator: "Orchestrator") -> None:
    await finish(orchestrator, JobStatus.FAILED, None)
    await orchestrator.handled(1)
    assert await orchestrator.record.fetchval("SELECT count(*) FROM webhook_deliveries") == 0


async def test_after_an_error_it_is_told_again_under_the_same_id(
    notifier: str, orchestrator: "Orchestrator", receiver: Receiver, settled: Settled
) -> None:
    receiver.answers = [web.Response(status=500)]
    await finish(orchestrator, JobStatus.COMPLETED, receiver.url)
    first = await receiver.call()
    row = await settled("retry")
    assert (row["last_status"], row["last_error"]) == (500, "answered 500")
    assert 0 < row["due_in"] < 6
    await orchestrator.record.execute("UPDATE webhook_deliveries SET next_attempt_at = now()")
    second = await receiver.call()
    assert second.headers["webhook-id"] == first.headers["webhook-id"]
    row = await settled("delivered")
    assert (row["attempts"], row["last_status"], row["last_error"]) == (2, 200, None)


async def test_retry_after_is_honoured(
    notifier: str, orchestrator: "Orchestrator", receiver: Receiver, settled: Settled
) -> None:
    receiver.answers = [web.Response(status=503, headers={"Retry-After": "600"})]
    await finish(orchestrator, JobStatus.COMPLETED, receiver.url)
    assert 500 < (await settled("retry"))["due_in"] <= 600


async def test_410_ends_it(notifier: str, orchestrator: "Orchestrator", receiver: Receiver, settled: Settled) -> None:
    receiver.answers = [web.Response(status=410)]
    await finish(orchestrator, JobStatus.COMPLETED, receiver.url)
    assert (await settled("dead"))["last_status"] == 410


async def test_a_redirect_is_a_failure_and_not_followed(
    notifier: str, orchestrator: "Orchestrator", receiver: Receiver, settled: Settled
) -> None:
    receiver.answers = [web.Response(status=307, headers={"Location": "/elsewhere"})]
    await finish(orchestrator, JobStatus.COMPLETED, receiver.url)
    assert (await receiver.call()).path == "/hook"
    row = await settled("retry")
    assert (row["last_status"], row["last_error"]) == (307, "answered 307")
    assert receiver.calls.empty()


async def test_nobody_there_is_tried_again(notifier: str, orchestrator: "Orchestrator", settled: Settled) -> None:
    await finish(orchestrator, JobStatus.FAILED, "http://127.0.0.1:1/hook")
    row = await settled("retry")
    assert row["last_status"] is None
    assert "Connector" in row["last_error"]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/hook",
        "https://127.0.0.1:{port}/",
        "https://127.1:{port}/",
        "https://hook.example:{port}/",
    ],
)
async def test_in_production_no_request_goes_to_a_private_address(
    settings: NotifierSettings,
    orchestrator: "Orchestrator",
    receiver: Receiver,
    running: Running,
    settled: Settled,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
) -> None:
    """Whether the address is written as such, in a way that only some read as an address, or hidden behind a name."""
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *args: Any, **more: Any) -> Any:
        return real("127.0.0.1" if host == "hook.example" else host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    port = receiver.url.rpartition(":")[2].partition("/")[0]
    async with running(settings.model_copy(update={"environment": "production"})):
        await finish(orchestrator, JobStatus.COMPLETED, url.format(port=port))
        row = await settled("dead")
    assert (row["attempts"], row["last_status"]) == (1, None)
    assert row["last_error"].startswith("the URL ")
    assert receiver.calls.empty()


async def test_what_a_killed_sender_had_claimed_is_sent_when_its_lease_is_over(
    notifier: str, orchestrator: "Orchestrator", receiver: Receiver, settled: Settled
) -> None:
    await orchestrator.insert_job(JobStatus.FAILED, webhook_url=receiver.url)
    await orchestrator.record.execute(
        "INSERT INTO webhook_deliveries (id, job_id, url, event_type, payload, attempts, next_attempt_at)"
        " VALUES ($1, $2, $3, 'failed', '{}', 1, now() + interval '1 second')",
        f"{orchestrator.job_id}:9",
        orchestrator.job_id,
        receiver.url,
    )
    await receiver.call()
    assert (await settled("delivered"))["attempts"] == 2


async def test_what_a_stopped_notifier_missed_the_next_one_sends(
    settings: NotifierSettings, orchestrator: "Orchestrator", receiver: Receiver, running: Running, settled: Settled
) -> None:
    async with running(settings):
        pass
    await finish(orchestrator, JobStatus.COMPLETED, receiver.url)
    async with running(settings):
        await receiver.call()
        await settled("delivered")


async def test_what_was_given_up_is_delivered_when_its_user_asks_for_it(
    notifier: str, orchestrator: "Orchestrator", receiver: Receiver, settled: Settled, until: Until
) -> None:
    receiver.answers = [web.Response(status=410), web.Response(status=500)]
    await finish(orchestrator, JobStatus.COMPLETED, receiver.url)
    first = await receiver.call()
    await settled("dead")
    async with orchestrator.record.acquire() as connection:
        assert await redeliver(connection, first.headers["webhook-id"], "mallory") is None
        asked = await redeliver(connection, first.headers["webhook-id"], OWNER)
    assert asked is not None
    assert (asked.status, asked.attempts, asked.last_status) == ("pending", 1, 410)
    second = await receiver.call()
    assert second.headers["webhook-id"] == first.headers["webhook-id"]

    async def was_noted() -> bool:
        return bool(await orchestrator.record.fetchval("SELECT last_status = 500 FROM webhook_deliveries"))

    await until(was_noted)
    assert (await settled("retry"))["due_in"] < 6, "the schedule begins anew"


async def test_a_receiver_that_fails_again_and_again_is_left_alone_until_it_may_be_tried(
    notifier: str, orchestrator: "Orchestrator", receiver: Receiver, settled: Settled, until: Until
) -> None:
    record = orchestrator.record
    host = receiver.url.split("/")[2]
    await record.execute("INSERT INTO webhook_hosts (user_id, host, failures) VALUES ($1, $2, 4)", OWNER, host)
    receiver.answers = [web.Response(status=503)]
    await finish(orchestrator, JobStatus.FAILED, receiver.url)
    await receiver.call()
    await settled("retry")

    async def is_open() -> bool:
        return bool(await record.fetchval("SELECT open_until > now() FROM webhook_hosts WHERE host = $1", host))

    await until(is_open)
    await record.execute("UPDATE webhook_deliveries SET next_attempt_at = now() - interval '1 minute'")
    other = f"http://localhost:{host.rpartition(':')[2]}/other"
    await record.execute(
        "INSERT INTO webhook_deliveries (id, job_id, user_id, url, event_type, payload)"
        " VALUES ('other', 'job_other', 'bob', $1, 'failed', '{}')",
        other,
    )
    assert (await receiver.call()).path == "/other", "another host is called meanwhile"
    assert receiver.calls.empty()
    assert await record.fetchval("SELECT attempts FROM webhook_deliveries WHERE job_id = $1", orchestrator.job_id) == 1

    await record.execute("UPDATE webhook_hosts SET open_until = now() - interval '1 second' WHERE host = $1", host)
    await receiver.call()
    await settled("delivered")

    async def is_well() -> bool:
        return await record.fetchval("SELECT host FROM webhook_hosts WHERE host = $1", host) is None

    await until(is_well)


async def test_one_slow_receiver_does_not_keep_the_others_waiting(
    settings: NotifierSettings, orchestrator: "Orchestrator", receiver: Receiver, running: Running
) -> None:
    """More deliveries for it than there are slots, and the longest due at that."""
    release = asyncio.Event()

    async def never(request: web.Request) -> web.Response:
        await release.wait()
        return web.Response()

    slow = web.AppRunner(web.Application())
    slow.app.router.add_route("*", "/", never)
    await slow.setup()
    await web.TCPSite(slow, "127.0.0.1", 0).start()
    await orchestrator.record.executemany(
        "INSERT INTO webhook_deliveries (id, job_id, user_id, url, event_type, payload, next_attempt_at)"
        " VALUES ($1, 'job_slow', 'bob', $2, 'failed', '{}', now() - interval '1 minute')",
        [(f"slow:{number}", f"http://127.0.0.1:{slow.addresses[0][1]}/") for number in range(40)],
    )
    async with running(settings):
        await finish(orchestrator, JobStatus.FAILED, receiver.url)
        await receiver.call()
        release.set()
    await slow.cleanup()
