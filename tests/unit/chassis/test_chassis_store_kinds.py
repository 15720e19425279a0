"""The client with kinds of store that cannot be run here: copies and checksums, as far as each goes."""

import zlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from haulyard_chassis.store import (
    ObjectChangedError,
    ObjectNotFoundError,
    ObjectStore,
    StoreError,
    StoreRefusedError,
    UploadedPart,
    UploadGoneError,
)
from support.quirky_s3 import KINDS, MIB, Asked, QuirkyS3, client_of, serving

DATA = bytes(range(256)) * 4 * 1024 * 6  # 6 MiB
RANGE = DATA[100 : 100 + 5 * MIB]


@pytest.fixture(params=sorted(KINDS))
async def server(request: pytest.FixtureRequest) -> AsyncIterator[QuirkyS3]:
    """A store of each kind."""
    async with serving(request.param) as running:
        yield running


@pytest.fixture
async def client(server: QuirkyS3) -> AsyncIterator[ObjectStore]:
    """A client of it, with a source to copy from."""
    async with client_of(server, bucket="b") as opened:
        await opened.put("b", "source ä+", DATA, size=len(DATA), content_type="x/y")
        yield opened


def only(*kinds: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("server", kinds, indirect=True)


async def copy(client: ObjectStore, upload: str, *, etag: str | None = None, key: str = "source ä+") -> UploadedPart:
    copied = await client.copy_part(
        "b",
        "made",
        upload_id=upload,
        number=1,
        source_bucket="b",
        source_key=key,
        etag=etag or (await client.head("b", key)).etag,
        offset=100,
        length=5 * MIB,
    )
    return UploadedPart(1, copied.etag, copied.crc32)


@only("aws", "minio", "r2", "ceph")
async def test_a_copied_part_has_the_bytes_of_its_range(client: ObjectStore) -> None:
    upload = await client.create_upload("b", "made", content_type="x/y")
    first = await copy(client, upload)
    assert first.crc32 is None
    second = UploadedPart(2, await client.upload_part("b", "made", upload_id=upload, number=2, body=b"end", size=3))
    await client.complete_upload("b", "made", upload_id=upload, parts=[first, second])
    assert await client.get("b", "made") == RANGE + b"end"


@only("gcs")
async def test_a_store_that_does_not_copy_says_so(client: ObjectStore) -> None:
    upload = await client.create_upload("b", "made", content_type="x/y")
    with pytest.raises(StoreRefusedError, match="NotImplemented"):
        await copy(client, upload)


@only("aws", "minio", "r2")
async def test_a_source_that_changed_is_not_copied(client: ObjectStore) -> None:
    upload = await client.create_upload("b", "made", content_type="x/y")
    with pytest.raises(ObjectChangedError):
        await copy(client, upload, etag='"other"')


@only("ceph")
async def test_ceph_copies_from_a_source_that_changed(client: ObjectStore) -> None:
    upload = await client.create_upload("b", "made", content_type="x/y")
    assert (await copy(client, upload, etag='"other"')).etag


@only("ceph")
async def test_ceph_takes_a_key_for_another(client: ObjectStore) -> None:
    upload = await client.create_upload("b", "made", content_type="x/y")
    await client.put("b", "a%41", b"0" * 6 * MIB, size=6 * MIB, content_type="x/y")
    await client.put("b", "aA", b"1" * 6 * MIB, size=6 * MIB, content_type="x/y")
    part = await copy(client, upload, key="a%41")
    await client.complete_upload("b", "made", upload_id=upload, parts=[part])
    assert await client.get("b", "made") == b"1" * 5 * MIB


@only("aws", "ceph")
async def test_what_is_not_there_is_told_apart(client: ObjectStore) -> None:
    upload = await client.create_upload("b", "made", content_type="x/y")
    with pytest.raises(ObjectNotFoundError):
        await copy(client, upload, key="nothing", etag='"e"')
    await client.abort_upload("b", "made", upload_id=upload)
    with pytest.raises(UploadGoneError):
        await copy(client, upload)


@only("aws")
async def test_an_upload_with_crc32_tells_that_of_copied_parts_and_checks_that_of_written_ones(
    client: ObjectStore,
) -> None:
    upload = await client.create_upload("b", "made", content_type="x/y", crc32=True)
    first = await copy(client, upload)
    assert first.crc32 == zlib.crc32(RANGE)

    async def write(crc32: int | None) -> UploadedPart:
        etag = await client.upload_part("b", "made", upload_id=upload, number=2, body=b"end", size=3, crc32=crc32)
        return UploadedPart(2, etag, crc32)

    with pytest.raises(StoreRefusedError, match="BadDigest"):
        await write(zlib.crc32(b"END"))
    with pytest.raises(StoreRefusedError, match="InvalidRequest"):
        await write(None)
    second = await write(zlib.crc32(b"end"))
    unlisted = UploadedPart(2, second.etag)
    with pytest.raises(StoreRefusedError, match="InvalidRequest"):
        await client.complete_upload("b", "made", upload_id=upload, parts=[first, unlisted])
    await client.complete_upload("b", "made", upload_id=upload, parts=[first, second])
    assert await client.get("b", "made") == RANGE + b"end"
    assert (await client.head("b", "made")).crc32 is None  # it is one of checksums of parts


@only("minio")
async def test_minio_refuses_a_copy_into_an_upload_with_crc32(client: ObjectStore) -> None:
    upload = await client.create_upload("b", "made", content_type="x/y", crc32=True)
    with pytest.raises(StoreRefusedError):
        await copy(client, upload)


async def test_parts_of_any_sizes_unless_the_store_wants_equal_ones(client: ObjectStore, server: QuirkyS3) -> None:
    async def made_of(*sizes: int) -> None:
        upload = await client.create_upload("b", "made", content_type="x/y")
        parts = [
            UploadedPart(n, await client.upload_part("b", "made", upload_id=upload, number=n, body=bytes(s), size=s))
            for n, s in enumerate(sizes, start=1)
        ]
        await client.complete_upload("b", "made", upload_id=upload, parts=parts)

    await made_of(5 * MIB, 5 * MIB, 1)
    await made_of(6 * MIB)
    with pytest.raises(StoreRefusedError, match="EntityTooSmall"):
        await made_of(1, 1)
    if server.kind.equal_parts:
        with pytest.raises(StoreRefusedError, match="InvalidPart"):
            await made_of(5 * MIB, 6 * MIB, 1)
    else:
        await made_of(5 * MIB, 6 * MIB, 1)


async def test_objects_are_listed_and_deleted_over_pages(client: ObjectStore, server: QuirkyS3) -> None:
    server.page = 2
    keys = sorted(f"p/{n} ä&<+\n" for n in range(5))
    for key in [*keys, "other"]:
        await client.put("b", key, b"xyz", size=3, content_type="x/y")
    server.operations.clear()
    found = [listed async for listed in client.list_objects("b", prefix="p/")]
    assert [(listed.key, listed.size) for listed in found] == [(key, 3) for key in keys]
    assert server.operations == ["GET bucket"] * 3
    await client.delete_all("b", [*keys, "never there"])
    assert sorted(server.buckets["b"]) == ["other", "source ä+"]


async def test_a_listing_that_is_left_early_asks_no_more(client: ObjectStore, server: QuirkyS3) -> None:
    server.page = 1
    await client.put("b", "another", b"", size=0, content_type="x/y")
    server.operations.clear()
    listing = client.list_objects("b", prefix="")
    assert (await anext(listing)).key == "another"
    await listing.aclose()
    assert server.operations == ["GET bucket"]


@only("aws")
async def test_an_answer_of_the_tests_own_comes_first(client: ObjectStore, server: QuirkyS3) -> None:
    def refuse(asked: Asked) -> web.Response | None:
        return web.Response(status=403) if asked.operation == "HEAD object" else None

    server.instead = refuse
    with pytest.raises(StoreError):
        await client.head("b", "source ä+")
    assert await client.get("b", "source ä+") == DATA


@only("aws")
async def test_what_it_does_not_know_is_not_implemented(client: ObjectStore, server: QuirkyS3) -> None:
    with pytest.raises(StoreRefusedError, match="NotImplemented"):
        await client._requests.call("POST", "b", "key")
    assert server.operations[-1] == "POST object"
