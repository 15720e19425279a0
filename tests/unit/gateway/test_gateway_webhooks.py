"""What users see of their webhooks, and what they can do about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from haulyard_chassis.identity import mint_token
from haulyard_chassis.webhook_records import WebhookDelivery
from haulyard_gateway.errors import RecordUnavailableError
from unit.gateway.conftest import CREATED, JOB_ID, JWT_SECRET

if TYPE_CHECKING:
    from litestar import Litestar
    from litestar.testing import AsyncTestClient

    from unit.gateway.conftest import World

    Client = AsyncTestClient[Litestar]

DELIVERY = f"{JOB_ID}:9"
LIST = f"/v1/jobs/{JOB_ID}/deliveries"
REDELIVER = f"/v1/deliveries/{DELIVERY}/redeliver"
SECRETS = "/v1/webhooks/secrets"
ROTATE = "/v1/webhooks/secrets/rotate"


@pytest.fixture
def dead(world: World) -> WebhookDelivery:
    delivery = WebhookDelivery(
        id=DELIVERY,
        job_id=JOB_ID,
        event_type="completed",
        url="https://example.com/hook",
        status="dead",
        attempts=10,
        last_status=500,
        last_error="answered 500",
        next_attempt_at=None,
        attempted_at=CREATED,
        delivered_at=None,
        created_at=CREATED,
    )
    world.webhooks.found[DELIVERY] = ("alice", delivery)
    return delivery


async def test_deliveries_of_a_job_are_listed(client: Client, world: World, dead: WebhookDelivery) -> None:
    world.add_job()
    answer = await client.get(LIST)
    assert answer.status_code == 200
    (found,) = answer.json()["deliveries"]
    assert found == {
        "delivery_id": DELIVERY,
        "job_id": JOB_ID,
        "event": "completed",
        "url": "https://example.com/hook",
        "status": "dead",
        "attempts": 10,
        "last_status": 500,
        "last_error": "answered 500",
        "next_attempt_at": None,
        "last_attempt_at": found["created_at"],
        "delivered_at": None,
        "created_at": found["created_at"],
    }


async def test_deliveries_of_anothers_job_are_those_of_none(
    client: Client, world: World, dead: WebhookDelivery
) -> None:
    world.add_job(user_id="bob")
    assert (await client.get(LIST)).status_code == 404


async def test_what_is_dead_is_delivered_again_on_demand(client: Client, dead: WebhookDelivery) -> None:
    answer = await client.post(REDELIVER)
    assert answer.status_code == 202
    assert (answer.json()["delivery_id"], answer.json()["status"]) == (DELIVERY, "pending")


@pytest.mark.parametrize("delivery_id", [f"{JOB_ID}:8", JOB_ID, f"{JOB_ID}:x", "%00", f"{JOB_ID}:{'9' * 30}"])
async def test_there_is_no_such_delivery(client: Client, dead: WebhookDelivery, delivery_id: str) -> None:
    assert (await client.post(f"/v1/deliveries/{delivery_id}/redeliver")).status_code == 404


async def test_anothers_delivery_is_as_good_as_none(client: Client, dead: WebhookDelivery) -> None:
    client.headers["Authorization"] = f"Bearer {mint_token(JWT_SECRET, 'bob')}"
    assert (await client.post(REDELIVER)).status_code == 404


async def test_secrets_are_shown_and_exchanged(client: Client) -> None:
    shown = await client.get(SECRETS)
    assert (shown.status_code, shown.headers["cache-control"]) == (200, "no-store")
    (first,) = shown.json()["secrets"]
    assert (first["secret"].startswith("whsec_"), first["expires_at"]) == (True, None)
    rotated = await client.post(ROTATE)
    assert (rotated.status_code, rotated.headers["cache-control"]) == (200, "no-store")
    second, still = rotated.json()["secrets"]
    assert second["secret"] != first["secret"]
    assert (still["secret"], still["expires_at"] is None) == (first["secret"], False)
    assert [each["secret"] for each in (await client.get(SECRETS)).json()["secrets"]] == [
        second["secret"],
        first["secret"],
    ]


@pytest.mark.parametrize(("method", "path"), [("GET", SECRETS), ("POST", ROTATE), ("POST", REDELIVER)])
async def test_reading_jobs_is_not_enough(client: Client, dead: WebhookDelivery, method: str, path: str) -> None:
    client.headers["Authorization"] = f"Bearer {mint_token(JWT_SECRET, 'alice', scopes=['jobs:read'])}"
    assert (await client.request(method, path)).status_code == 403


@pytest.mark.parametrize(("method", "path"), [("GET", LIST), ("GET", SECRETS), ("POST", ROTATE), ("POST", REDELIVER)])
async def test_a_record_that_is_away_is_told(client: Client, world: World, method: str, path: str) -> None:
    world.add_job()
    world.webhooks.broken = RecordUnavailableError("gone")
    assert (await client.request(method, path)).status_code == 503
