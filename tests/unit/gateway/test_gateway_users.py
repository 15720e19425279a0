"""What users get of their data, and how they are forgotten."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from haulyard_chassis.broker import BrokerUnavailableError
from haulyard_chassis.identity import mint_token
from haulyard_contracts import UserErasure
from haulyard_gateway.errors import RecordUnavailableError
from haulyard_gateway.personal_data import user_hash
from unit.gateway.conftest import CREATED, JWT_SECRET, TICKET_SECRET

if TYPE_CHECKING:
    from litestar import Litestar
    from litestar.testing import AsyncTestClient

    from unit.gateway.conftest import World

    Client = AsyncTestClient[Litestar]

DATA = "/v1/users/me/data"


@pytest.mark.parametrize(
    ("batches", "expected"),
    [
        ([("jobs", []), ("files", [])], {"jobs": [], "files": []}),
        ([("jobs", [b"1", b"2"]), ("jobs", [b"3"]), ("files", [])], {"jobs": [1, 2, 3], "files": []}),
        ([("jobs", [b"1"]), ("jobs", []), ("files", [b"{}"])], {"jobs": [1], "files": [{}]}),
    ],
)
async def test_all_that_is_held_is_one_document(
    client: Client, world: World, batches: list[tuple[str, list[bytes]]], expected: dict[str, list[object]]
) -> None:
    world.personal_data.batches = batches
    answer = await client.get(DATA)
    assert answer.status_code == 200
    assert json.loads(answer.content) == expected
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-disposition"] == 'attachment; filename="haulyard-data.json"'


async def test_a_record_that_is_away_is_told_before_the_document_begins(client: Client, world: World) -> None:
    world.personal_data.broken = RecordUnavailableError("gone")
    assert (await client.get(DATA)).status_code == 503


async def test_a_wish_to_be_forgotten_gets_a_receipt(client: Client, world: World) -> None:
    answer = await client.delete(DATA)
    assert answer.status_code == 202, answer.text
    receipt = answer.json()
    assert receipt["status"] == "pending"
    assert answer.headers["location"] == receipt["status_url"]
    [(subject, wish, message_id, _)] = world.broker.sent
    assert isinstance(wish, UserErasure)
    assert wish.user_id == "alice"
    assert wish.erasure_id == message_id == receipt["erasure_id"]
    assert subject == f"haulyard.jobs.erase.{wish.erasure_id}"
    [erasure] = world.personal_data.erasures.values()
    assert "alice" not in repr(erasure)
    assert erasure.user_hash == user_hash("alice", TICKET_SECRET)

    path = f"{DATA}/erasures/{wish.erasure_id}"
    assert (await client.get(path)).json() == receipt
    world.personal_data.erasures[wish.erasure_id] = replace(
        erasure, completed_at=CREATED + timedelta(seconds=1), counts={"jobs": 2}
    )
    done = await client.get(path)
    assert (done.json()["status"], done.json()["counts"]) == ("completed", {"jobs": 2})
    assert "retry-after" not in done.headers


async def test_a_receipt_is_its_users_own(client: Client) -> None:
    path = f"{DATA}/erasures/{(await client.delete(DATA)).json()['erasure_id']}"
    bob = {"Authorization": f"Bearer {mint_token(JWT_SECRET, 'bob')}"}
    for other, headers in ((path, bob), (path[:-1] + "x", {}), (f"{DATA}/erasures/x", {})):
        assert (await client.get(other, headers=headers)).status_code == 404


async def test_a_wish_that_nobody_took_leaves_no_receipt(client: Client, world: World) -> None:
    world.broker.broken = BrokerUnavailableError("gone")
    assert (await client.delete(DATA)).status_code == 503
    assert world.personal_data.erasures == {}


def test_a_receipt_cannot_be_guessed_without_the_secret() -> None:
    assert user_hash("alice", "one secret") != user_hash("alice", "another secret")
    assert len(user_hash("alice", "one secret")) == 64
