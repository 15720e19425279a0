"""The table of deliveries: claimed by one sender at a time, settled only by the one that made the attempt."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from haulyard_chassis.database import Pool
from haulyard_contracts import EventType
from haulyard_notifier.webhooks.deliveries import Deliveries
from haulyard_notifier.webhooks.policy import Dead, Delivered, Retry

Add = Callable[[str], Awaitable[bool]]


@pytest.fixture
def deliveries(record: Pool) -> Deliveries:
    return Deliveries(record)


@pytest.fixture
async def add(record: Pool, deliveries: Deliveries) -> Add:
    await record.execute(
        "INSERT INTO download_jobs (id, user_id, file_ids, total_files, filename, webhook_url)"
        " VALUES ('job_d', 'alice', '[1]', 1, 'a.zip', 'https://example.com/hook') ON CONFLICT DO NOTHING"
    )

    async def add_one(delivery_id: str) -> bool:
        return await deliveries.add(delivery_id, job_id="job_d", event_type=EventType.FAILED, payload="{}")

    return add_one


async def test_an_event_is_added_once(add: Add) -> None:
    assert await add("job_d:1")
    assert not await add("job_d:1")


async def test_no_two_senders_claim_the_same(add: Add, deliveries: Deliveries) -> None:
    for number in range(20):
        await add(f"job_d:{number}")
    claims = await asyncio.gather(*(deliveries.claim(8, lease=60) for _ in range(4)))
    ids = [claim.id for some in claims for claim in some]
    assert sorted(ids) == sorted(set(ids))
    while more := await deliveries.claim(8, lease=60):
        ids += [claim.id for claim in more]
    assert sorted(ids) == sorted(f"job_d:{number}" for number in range(20))


async def test_a_claim_whose_lease_is_over_can_no_longer_settle(add: Add, deliveries: Deliveries, record: Pool) -> None:
    await add("job_d:1")
    (late,) = await deliveries.claim(1, lease=0)
    (current,) = await deliveries.claim(1, lease=60)
    assert (late.attempts, current.attempts) == (1, 2)
    await deliveries.settle(late, Dead(), status=410, error="answered 410")
    assert await record.fetchval("SELECT status FROM webhook_deliveries") == "pending"
    await deliveries.settle(current, Retry(0), status=500, error="x\0y")
    assert await record.fetchval("SELECT last_error FROM webhook_deliveries") == "xy"
    (again,) = await deliveries.claim(1, lease=60)
    await deliveries.settle(again, Delivered(), status=200, error=None)
    row = await record.fetchrow("SELECT status, next_attempt_at, attempts FROM webhook_deliveries")
    assert row is not None
    assert tuple(row) == ("delivered", None, 3)
