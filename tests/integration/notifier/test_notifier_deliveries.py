"""The table of deliveries: claimed by one sender at a time, settled only by the one that made the attempt."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from haulyard_chassis.database import Pool
from haulyard_chassis.webhook_records import deliveries_of, forget_webhooks, rotate_secrets, valid_secrets
from haulyard_contracts import EventType
from haulyard_notifier.webhooks.deliveries import Deliveries
from haulyard_notifier.webhooks.hosts import Hosts
from haulyard_notifier.webhooks.policy import HOST_PATIENCE, Dead, Delivered, Retry
from haulyard_notifier.webhooks.signature import signing_key

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


async def test_what_is_put_off_counts_no_attempt(add: Add, deliveries: Deliveries, record: Pool) -> None:
    await add("job_d:1")
    (claim,) = await deliveries.claim(1, lease=60)
    await deliveries.put_off(claim, 0)
    (again,) = await deliveries.claim(1, lease=60)
    assert again.attempts == 1


async def test_busy_hosts_and_those_left_alone_are_passed_over(add: Add, deliveries: Deliveries, record: Pool) -> None:
    hosts = Hosts(record)
    await add("job_d:1")
    assert await deliveries.claim(1, lease=60, busy=["example.com"]) == []
    for _ in range(HOST_PATIENCE - 1):
        assert await hosts.failed("alice", "example.com", random=0.5) == 0
    assert await hosts.failed("alice", "example.com", random=0.5) == 60
    assert await deliveries.claim(1, lease=60) == []
    assert not await hosts.may_try("alice", "example.com", lease=60)
    await record.execute("UPDATE webhook_hosts SET open_until = now()")
    (claim,) = await deliveries.claim(1, lease=60)
    assert (claim.host, claim.failures, claim.is_trial) == ("example.com", HOST_PATIENCE, True)
    tries = await asyncio.gather(*(hosts.may_try("alice", "example.com", lease=60) for _ in range(5)))
    assert sum(tries) == 1, "one of all may try"
    await hosts.answered("alice", "example.com")
    assert await record.fetchval("SELECT count(*) FROM webhook_hosts") == 0


async def test_a_users_first_secret_is_made_once_however_many_ask(record: Pool) -> None:
    found = await asyncio.gather(*(valid_secrets(record, "carol") for _ in range(5)))
    assert len({secrets[0].secret for secrets in found}) == 1
    assert len(signing_key(found[0][0].secret)) == 32
    assert found[0][0].secret not in repr(found)


async def test_two_secrets_are_valid_while_they_are_exchanged_and_no_more(record: Pool) -> None:
    (first,) = await valid_secrets(record, "dave")
    async with record.acquire() as connection:
        second, older = await rotate_secrets(connection, "dave")
        assert (older.secret, second.expires_at) == (first.secret, None)
        assert older.expires_at is not None
        third, older = await rotate_secrets(connection, "dave")
        assert (older.secret, [each.secret for each in await valid_secrets(record, "dave")]) == (
            second.secret,
            [third.secret, second.secret],
        )
        fourth, *gone = await rotate_secrets(connection, "dave", overlap=0)
    assert gone == []
    assert [each.secret for each in await valid_secrets(record, "dave")] == [fourth.secret]


async def test_secrets_rotated_at_once_leave_one_that_is_current(record: Pool) -> None:
    async def rotate() -> None:
        async with record.acquire() as connection:
            await rotate_secrets(connection, "erin")

    await asyncio.gather(*(rotate() for _ in range(6)))
    current = await record.fetchval(
        "SELECT count(*) FROM webhook_secrets WHERE user_id = 'erin' AND expires_at IS NULL"
    )
    assert (current, len(await valid_secrets(record, "erin"))) == (1, 2)


async def test_users_see_their_own_deliveries(add: Add, record: Pool) -> None:
    await add("job_d:1")
    async with record.acquire() as connection:
        (seen,) = await deliveries_of(connection, "job_d", "alice")
        assert (seen.id, seen.status, seen.attempts, seen.url) == ("job_d:1", "pending", 0, "https://example.com/hook")
        assert await deliveries_of(connection, "job_d", "mallory") == []


async def test_a_host_that_fails_one_user_is_called_for_the_others(
    add: Add, deliveries: Deliveries, record: Pool
) -> None:
    hosts = Hosts(record)
    for _ in range(HOST_PATIENCE):
        await hosts.failed("mallory", "example.com", random=0.5)
    await add("job_d:1")
    (claim,) = await deliveries.claim(1, lease=60)
    assert (claim.user_id, claim.failures) == ("alice", 0)


async def test_a_user_who_is_forgotten_leaves_nothing(record: Pool) -> None:
    await valid_secrets(record, "frank")
    await Hosts(record).failed("frank", "example.com", random=0.5)
    async with record.acquire() as connection:
        await forget_webhooks(connection, "frank")
    for table in ("webhook_secrets", "webhook_hosts"):
        assert await record.fetchval(f"SELECT count(*) FROM {table} WHERE user_id = 'frank'") == 0
