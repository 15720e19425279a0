"""What the endpoints of files answer."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from haulyard_chassis.store import AccessDeniedError, StoreRefusedError, StoreUnavailableError
from haulyard_chassis.uploads import upload_folder
from haulyard_gateway.errors import CatalogueUnavailableError
from haulyard_gateway.file_validation import ObjectAt
from haulyard_gateway.ports import AddedFile
from haulyard_gateway.sources import may_register

if TYPE_CHECKING:
    from litestar import Litestar
    from litestar.testing import AsyncTestClient

    from unit.gateway.conftest import World

    Client = AsyncTestClient[Litestar]


async def test_an_object_that_is_there_is_registered(client: Client, world: World) -> None:
    world.store.put("sources", "2025/report.pdf", size=7, crc32=0xAB)
    answer = await client.post("/v1/files", json={"source": "s3://sources/2025/report.pdf"})
    assert answer.status_code == 201
    assert answer.headers["location"] == "https://api.example.com/v1/files/70000"
    assert answer.json() == {
        "file_id": 70000,
        "name": "report.pdf",
        "source": "s3://sources/2025/report.pdf",
        "status": "available",
        "size_bytes": 7,
        "etag": '"e"',
        "crc32": "000000ab",
        "created_at": "2025-12-12T10:00:00Z",
        "upload": None,
    }


async def test_an_upload_is_pending_until_its_object_is_there(client: Client, world: World) -> None:
    answer = await client.post("/v1/files", json={"name": "a/b.pdf"})
    body = answer.json()
    key = body["source"].removeprefix("s3://haulyard-files/")
    assert key.startswith(upload_folder("alice"))
    assert answer.headers["cache-control"] == "no-store"
    assert (body["name"], body["status"], body["size_bytes"]) == ("a/b.pdf", "pending", None)
    assert body["upload"]["method"] == "PUT"
    assert body["upload"]["url"] == f"https://store.test/haulyard-files/{key}?expires=900"

    path = f"/v1/files/{body['file_id']}"
    assert (await client.get(path)).json()["status"] == "pending"
    world.store.put("haulyard-files", key, size=9)
    body = (await client.get(path)).json()
    assert (body["status"], body["size_bytes"], body["upload"]) == ("available", 9, None)
    world.store.objects.clear()
    assert (await client.get(path)).json()["status"] == "available"


async def test_what_may_not_be_registered_is_not_even_looked_for(client: Client, world: World) -> None:
    world.store.broken = AssertionError("looked for")
    for source in ("s3://private/x", f"s3://haulyard-files/{upload_folder('bob')}x", "s3://haulyard-archives/x"):
        answer = await client.post("/v1/files", json={"source": source})
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["pointer"] == "#/source"


@pytest.mark.parametrize("broken", [None, AccessDeniedError("403"), StoreRefusedError("400")])
async def test_a_source_that_cannot_be_read_is_a_fault_of_the_request(
    client: Client, world: World, broken: Exception | None
) -> None:
    world.store.broken = broken
    answer = await client.post("/v1/files", json={"source": "s3://sources/nothing"})
    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == ["#/source"]


async def test_own_uploads_may_be_registered_again(client: Client, world: World) -> None:
    key = f"{upload_folder('alice')}01"
    world.store.put("haulyard-files", key)
    assert (await client.post("/v1/files", json={"source": f"s3://haulyard-files/{key}"})).status_code == 201


@pytest.mark.parametrize(
    ("bucket", "key", "allowed"),
    [
        ("a", "k", True),
        ("b", "k", False),
        ("a", "uploads/x", False),
        ("a", upload_folder("alice") + "1", True),
        ("a", upload_folder("bob") + "1", False),
        ("a", "uploaded", True),
    ],
)
def test_whose_objects_are_whose(bucket: str, key: str, allowed: bool) -> None:  # noqa: FBT001
    assert may_register("alice", bucket, key, buckets={"a"}) is allowed


async def test_a_list_sees_which_uploads_have_arrived(client: Client, world: World) -> None:
    added = [(await client.post("/v1/files", json={"name": name})).json() for name in ("a.txt", "b.txt")]
    world.store.put("haulyard-files", added[0]["source"].removeprefix("s3://haulyard-files/"), size=3)
    listed = {file["name"]: file["status"] for file in (await client.get("/v1/files")).json()["files"]}
    assert listed == {"a.txt": "available", "b.txt": "pending"}


async def test_a_store_that_is_away_does_not_hide_a_pending_file(client: Client, world: World) -> None:
    file_id = (await client.post("/v1/files", json={"name": "a"})).json()["file_id"]
    for broken in (StoreUnavailableError("503"), StoreRefusedError("400")):
        world.store.broken = broken
        answer = await client.get(f"/v1/files/{file_id}")
        assert (answer.status_code, answer.json()["status"]) == (200, "pending")
        assert "warning" in answer.headers


async def test_a_store_that_hangs_is_not_waited_for(
    client: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr("haulyard_gateway.looking._PATIENCE", 0.01)
    monkeypatch.setattr(world.store, "head", hang)
    assert (await client.post("/v1/files", json={"source": "s3://sources/x"})).status_code == 503


async def test_files_are_seen_by_their_owner_and_shared_ones_by_all(client: Client, world: World) -> None:
    world.store.put("sources", "k")
    file_id = (await client.post("/v1/files", json={"source": "s3://sources/k"})).json()["file_id"]
    file = world.catalogue.files[file_id]
    world.catalogue.files[1] = replace(file, file_id=1, owner_id=None)
    world.catalogue.files[2] = replace(file, file_id=2, owner_id="bob")
    wanted = [str(file_id), "1", "2", "3", "0", "-1", "x", "01", "9" * 16, "9" * 400, "%00"]
    statuses = [(await client.get(f"/v1/files/{wish}")).status_code for wish in wanted]
    assert statuses == [200, 200, 404, 404, 404, 404, 404, 404, 404, 404, 404]


async def test_a_catalogue_that_is_away_is_told(client: Client, world: World) -> None:
    world.catalogue.broken = CatalogueUnavailableError("gone")
    for answer in (await client.post("/v1/files", json={"name": "a"}), await client.get("/v1/files/70000")):
        assert answer.status_code == 503
        assert "retry-after" in answer.headers


async def test_many_are_added_in_their_order(client: Client, world: World) -> None:
    world.store.put("sources", "k", size=7)
    wanted = [{"name": "a"}, {"source": "s3://sources/k"}, {"source": "https://origin.example.com/x.bin"}]
    answer = await client.post("/v1/files", json={"files": wanted})
    assert answer.status_code == 201, answer.text
    files = answer.json()["files"]
    assert [file["name"] for file in files] == ["a", "k", "x.bin"]
    assert [file["status"] for file in files] == ["pending", "available", "available"]
    assert [file["upload"] is not None for file in files] == [True, False, False]
    assert files[2]["source"] == "https://origin.example.com/x.bin"
    assert "location" not in answer.headers


async def test_of_many_all_are_added_or_none(client: Client, world: World) -> None:
    world.store.put("sources", "k")
    bad = [{"source": "s3://sources/nothing"}, {"source": "s3://private/k"}]
    wanted = [{"source": "s3://sources/k"}, {"name": "a"}, *bad]
    answer = await client.post("/v1/files", json={"files": wanted})
    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == ["#/files/2/source", "#/files/3/source"]
    assert world.catalogue.files == {}


async def test_a_store_that_is_away_adds_none_of_many(client: Client, world: World) -> None:
    world.store.broken = StoreUnavailableError("503")
    answer = await client.post("/v1/files", json={"files": [{"source": f"s3://sources/{n}"} for n in range(50)]})
    assert answer.status_code == 503
    assert world.catalogue.files == {}


async def test_files_are_listed_page_by_page(client: Client, world: World) -> None:
    for number in range(5):
        world.catalogue.put(None if number % 2 else "alice", AddedFile(source=ObjectAt("b", "k"), name=str(number)))
    world.catalogue.put("bob", AddedFile(source=ObjectAt("b", "k"), name="bobs"))
    names: list[str] = []
    query = "?limit=2"
    while query:
        body = (await client.get(f"/v1/files{query}")).json()
        names += [file["name"] for file in body["files"]]
        query = f"?limit=2&cursor={body['next_cursor']}" if body["next_cursor"] else ""
    assert names == ["4", "3", "2", "1", "0"]


async def test_an_upload_goes_with_its_file(client: Client, world: World) -> None:
    body = (await client.post("/v1/files", json={"name": "a"})).json()
    key = body["source"].removeprefix("s3://haulyard-files/")
    world.store.put("haulyard-files", key)
    answer = await client.delete(f"/v1/files/{body['file_id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert world.store.objects == {}
    assert (await client.get(f"/v1/files/{body['file_id']}")).status_code == 404


@pytest.mark.parametrize("key", ["reports/a.pdf", upload_folder("bob") + "1", "uploads/x"])
async def test_what_was_registered_stays(client: Client, world: World, key: str) -> None:
    world.store.put("haulyard-files", key)
    file = world.catalogue.put("alice", AddedFile(source=ObjectAt("haulyard-files", key), name="a"))
    assert (await client.delete(f"/v1/files/{file.file_id}")).status_code == 204
    assert len(world.store.objects) == 1


async def test_an_upload_that_is_another_file_too_stays(client: Client, world: World) -> None:
    source = ObjectAt("haulyard-files", f"{upload_folder('alice')}1")
    world.store.put(source.bucket, source.key)
    first, second = (world.catalogue.put("alice", AddedFile(source=source, name="a")) for _ in range(2))
    await client.delete(f"/v1/files/{first.file_id}")
    assert len(world.store.objects) == 1
    await client.delete(f"/v1/files/{second.file_id}")
    assert world.store.objects == {}


async def test_what_cannot_be_deleted_now_is_still_there(client: Client, world: World) -> None:
    source = ObjectAt("haulyard-files", f"{upload_folder('alice')}1")
    file = world.catalogue.put("alice", AddedFile(source=source, name="a"))
    world.store.broken = StoreUnavailableError("503")
    assert (await client.delete(f"/v1/files/{file.file_id}")).status_code == 503
    assert file.file_id in world.catalogue.files


async def test_others_files_are_not_deleted(client: Client, world: World) -> None:
    shared = world.catalogue.put(None, AddedFile(source=ObjectAt("b", "k"), name="a"))
    foreign = world.catalogue.put("bob", AddedFile(source=ObjectAt("b", "k"), name="a"))
    assert (await client.delete(f"/v1/files/{shared.file_id}")).status_code == 403
    assert (await client.delete(f"/v1/files/{foreign.file_id}")).status_code == 404
    assert len(world.catalogue.files) == 2
