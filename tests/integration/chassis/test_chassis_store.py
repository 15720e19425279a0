"""The store's client against a real S3 server."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from pydantic import SecretStr
from yarl import URL

from haulyard_chassis.outgoing import BodyLengthError
from haulyard_chassis.settings import ServiceSettings
from haulyard_chassis.store import (
    AccessDeniedError,
    ObjectChangedError,
    ObjectNotFoundError,
    ObjectStore,
    StoreRefusedError,
    StoreUnavailableError,
    UploadedPart,
    UploadGoneError,
)

MIB = 1024 * 1024
ODD_KEYS = ["a b+c&d=e?f#g", "ä/写真/📷.txt", "100%/%2e", "~-_.!*'()", "a//b", 'quo"te\\back']


@pytest.fixture
async def store(settings: ServiceSettings) -> AsyncIterator[ObjectStore]:
    """A client."""
    opened = ObjectStore(settings)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def bucket(store: ObjectStore) -> str:
    """An empty bucket."""
    name = f"c{secrets.token_hex(6)}"
    await store.ensure_bucket(name)
    return name


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def failing(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    raise StoreUnavailableError("the source broke")


async def read(store: ObjectStore, bucket: str, key: str, *, etag: str, offset: int, length: int) -> bytes:
    async with store.read(bucket, key, etag=etag, offset=offset, length=length) as body:
        return b"".join([chunk async for chunk in body])


async def put(store: ObjectStore, bucket: str, key: str, data: bytes = b"0123456789") -> str:
    return await store.put(bucket, key, data, size=len(data), content_type="text/plain")


@pytest.mark.parametrize("key", ["plain.txt", *ODD_KEYS])
async def test_an_object_comes_back_as_it_was_put(store: ObjectStore, bucket: str, key: str) -> None:
    etag = await put(store, bucket, key)
    assert await store.get(bucket, key) == b"0123456789"
    info = await store.head(bucket, key)
    assert (info.size, info.etag, info.content_type) == (10, etag, "text/plain")
    assert abs(datetime.now(UTC) - info.modified) < timedelta(minutes=5)
    assert await read(store, bucket, key, etag=etag, offset=2, length=5) == b"23456"
    await store.delete(bucket, key)
    with pytest.raises(ObjectNotFoundError):
        await store.get(bucket, key)


async def test_an_empty_object_is_an_object(store: ObjectStore, bucket: str) -> None:
    etag = await put(store, bucket, "empty", b"")
    assert (await store.head(bucket, "empty")).size == 0
    assert await read(store, bucket, "empty", etag=etag, offset=0, length=0) == b""


async def test_a_stream_of_known_length_is_stored(store: ObjectStore, bucket: str) -> None:
    parts = [bytes([n]) * MIB for n in range(20)]
    etag = await store.put(bucket, "k", chunks(*parts), size=20 * MIB, content_type="x/y")
    assert await read(store, bucket, "k", etag=etag, offset=0, length=20 * MIB) == b"".join(parts)
    assert await read(store, bucket, "k", etag=etag, offset=MIB - 1, length=2) == b"\x00\x01"


async def test_an_object_that_was_replaced_is_not_read(store: ObjectStore, bucket: str) -> None:
    etag = await put(store, bucket, "k")
    await put(store, bucket, "k", b"abcdefghij")
    with pytest.raises(ObjectChangedError):
        await read(store, bucket, "k", etag=etag, offset=0, length=10)


async def test_an_object_that_is_not_there_is_not_found(store: ObjectStore, bucket: str) -> None:
    with pytest.raises(ObjectNotFoundError):
        await read(store, bucket, "nothing", etag='"e"', offset=0, length=10)
    with pytest.raises(ObjectNotFoundError):
        await store.head(bucket, "nothing")
    with pytest.raises(ObjectNotFoundError):
        await store.head(f"{bucket}-none", "nothing")
    await store.delete(bucket, "nothing")


async def test_a_range_beyond_the_end_is_an_error(store: ObjectStore, bucket: str) -> None:
    etag = await put(store, bucket, "k")
    with pytest.raises(StoreUnavailableError, match="5 of 10"):
        await read(store, bucket, "k", etag=etag, offset=5, length=10)
    with pytest.raises(StoreRefusedError):
        await read(store, bucket, "k", etag=etag, offset=10, length=1)


@pytest.mark.parametrize("size", [MIB, 2 * MIB, 3 * MIB])
async def test_a_source_that_breaks_leaves_no_object(store: ObjectStore, bucket: str, size: int) -> None:
    """Even when it breaks after its last byte."""
    async with asyncio.timeout(20):
        with pytest.raises(StoreUnavailableError, match="the source broke"):
            await store.put(bucket, "k", failing(b"x" * MIB), size=size, content_type="x/y")
    with pytest.raises(ObjectNotFoundError):
        await store.head(bucket, "k")


async def test_an_object_survives_a_failed_overwrite(store: ObjectStore, bucket: str) -> None:
    await put(store, bucket, "k")
    with pytest.raises(StoreUnavailableError):
        await store.put(bucket, "k", failing(b"x"), size=10, content_type="x/y")
    assert await store.get(bucket, "k") == b"0123456789"


@pytest.mark.parametrize("size", [MIB - 1, MIB + 1, 10 * MIB])
async def test_a_body_of_another_length_leaves_no_object(store: ObjectStore, bucket: str, size: int) -> None:
    async with asyncio.timeout(20):
        with pytest.raises(BodyLengthError):
            await store.put(bucket, "k", chunks(b"x" * MIB), size=size, content_type="x/y")
    with pytest.raises(ObjectNotFoundError):
        await store.head(bucket, "k")


async def test_parts_become_an_object(store: ObjectStore, bucket: str) -> None:
    upload = await store.create_upload(bucket, "k", content_type="application/zip")
    second = await store.upload_part(bucket, "k", upload_id=upload, number=2, body=b"end", size=3)
    first = await store.upload_part(bucket, "k", upload_id=upload, number=1, body=b"a" * 5 * MIB, size=5 * MIB)
    await store.complete_upload(bucket, "k", upload_id=upload, parts=[UploadedPart(1, first), UploadedPart(2, second)])
    info = await store.head(bucket, "k")
    assert (info.size, info.content_type) == (5 * MIB + 3, "application/zip")
    assert await read(store, bucket, "k", etag=info.etag, offset=5 * MIB - 1, length=4) == b"aend"
    assert await store.pending_uploads(bucket) == []


async def test_a_part_that_was_stored_twice_counts_once(store: ObjectStore, bucket: str) -> None:
    upload = await store.create_upload(bucket, "k", content_type="x/y")
    await store.upload_part(bucket, "k", upload_id=upload, number=1, body=b"old", size=3)
    etag = await store.upload_part(bucket, "k", upload_id=upload, number=1, body=b"new", size=3)
    await store.complete_upload(bucket, "k", upload_id=upload, parts=[UploadedPart(1, etag)])
    assert await store.get(bucket, "k") == b"new"


async def test_a_part_whose_source_breaks_is_not_stored(store: ObjectStore, bucket: str) -> None:
    upload = await store.create_upload(bucket, "k", content_type="x/y")
    with pytest.raises(StoreUnavailableError, match="the source broke"):
        await store.upload_part(bucket, "k", upload_id=upload, number=1, body=failing(b"x" * MIB), size=2 * MIB)
    listed, _ = await store._call("GET", bucket, "k", query={"uploadId": upload})
    assert b"<Part>" not in listed
    await store.abort_upload(bucket, "k", upload_id=upload)


async def test_an_upload_is_gone_once_it_is_completed(store: ObjectStore, bucket: str) -> None:
    upload = await store.create_upload(bucket, "k", content_type="x/y")
    etag = await store.upload_part(bucket, "k", upload_id=upload, number=1, body=b"x", size=1)
    await store.complete_upload(bucket, "k", upload_id=upload, parts=[UploadedPart(1, etag)])
    with suppress(UploadGoneError):  # some stores take the same parts again, and leave the object as it is
        await store.complete_upload(bucket, "k", upload_id=upload, parts=[UploadedPart(1, etag)])
    with pytest.raises(UploadGoneError):
        await store.upload_part(bucket, "k", upload_id=upload, number=2, body=b"x", size=1)
    await store.abort_upload(bucket, "k", upload_id=upload)
    assert await store.get(bucket, "k") == b"x"


async def test_an_upload_is_gone_once_it_is_aborted(store: ObjectStore, bucket: str) -> None:
    upload = await store.create_upload(bucket, "k", content_type="x/y")
    await store.abort_upload(bucket, "k", upload_id=upload)
    await store.abort_upload(bucket, "k", upload_id=upload)
    with pytest.raises(UploadGoneError):
        await store.upload_part(bucket, "k", upload_id=upload, number=1, body=b"x", size=1)


async def test_a_part_that_is_not_there_cannot_be_completed(store: ObjectStore, bucket: str) -> None:
    upload = await store.create_upload(bucket, "k", content_type="x/y")
    await store.upload_part(bucket, "k", upload_id=upload, number=1, body=b"x", size=1)
    with pytest.raises(StoreRefusedError):
        await store.complete_upload(bucket, "k", upload_id=upload, parts=[UploadedPart(1, '"not this"')])
    await store.abort_upload(bucket, "k", upload_id=upload)


async def test_pending_uploads_are_listed_over_pages(
    store: ObjectStore, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {f"p/{n} ä&<" for n in range(5)}
    ids = {key: await store.create_upload(bucket, key, content_type="x/y") for key in [*keys, "other"]}
    call, pages = store._call, []

    async def two_a_page(method: str, bucket: str, key: str, *, query: dict[str, str]) -> object:
        pages.append(query)
        return await call(method, bucket, key, query={**query, "max-uploads": "2"})

    monkeypatch.setattr(store, "_call", two_a_page)
    found = await store.pending_uploads(bucket, prefix="p/")
    monkeypatch.undo()
    assert {upload.key: upload.upload_id for upload in found} == {key: ids[key] for key in keys}
    assert len(pages) == 3
    assert all(abs(datetime.now(UTC) - upload.initiated) < timedelta(minutes=5) for upload in found)
    for key, upload in ids.items():
        await store.abort_upload(bucket, key, upload_id=upload)
    assert await store.pending_uploads(bucket) == []


@pytest.mark.parametrize("key", ["plain.zip", *ODD_KEYS])
async def test_a_link_lets_anyone_download_under_the_right_name(store: ObjectStore, bucket: str, key: str) -> None:
    await put(store, bucket, key)
    link = store.presign_get(bucket, key, expires=60, filename='Übersicht "1" 100%+.zip')
    async with aiohttp.ClientSession() as session, session.get(URL(link, encoded=True)) as response:
        assert (response.status, await response.read()) == (200, b"0123456789")
        assert response.headers["Content-Disposition"] == (
            'attachment; filename="_bersicht _1_ 100_+.zip"; '
            "filename*=UTF-8''%C3%9Cbersicht%20%221%22%20100%25%2B.zip"
        )


@pytest.mark.parametrize("key", ["plain.txt", *ODD_KEYS])
async def test_a_link_lets_anyone_upload(store: ObjectStore, bucket: str, key: str) -> None:
    link = store.presign_put(bucket, key, expires=60)
    async with aiohttp.ClientSession() as session, session.put(URL(link, encoded=True), data=b"hello") as response:
        assert response.status == 200
    assert await store.get(bucket, key) == b"hello"


async def test_a_link_is_good_for_its_object_method_and_time_only(store: ObjectStore, bucket: str) -> None:
    await put(store, bucket, "k")
    await put(store, bucket, "other")
    link = store.presign_get(bucket, "k", expires=60, filename="a.zip")
    tries = [
        ("GET", link.replace("/k?", "/other?")),
        ("PUT", link),
        ("GET", link.replace("X-Amz-Expires=60", "X-Amz-Expires=6000")),
        ("GET", link.replace("a.zip", "b.zip")),
        ("GET", link.partition("?")[0]),
        ("GET", store.presign_get(bucket, "k", expires=-1, filename="a.zip")),
    ]
    async with aiohttp.ClientSession() as session:
        for method, url in tries:
            async with session.request(method, URL(url, encoded=True)) as response:
                assert 400 <= response.status < 500, (method, url)
    assert await store.get(bucket, "k") == b"0123456789"


async def test_links_lead_to_the_public_address(settings: ServiceSettings) -> None:
    public = ObjectStore(settings.model_copy(update={"s3_public_endpoint": "https://files.example/"}))
    assert public.presign_put("b", "k", expires=60).startswith("https://files.example/b/k?")


@pytest.mark.parametrize("wrong", ["s3_access_key", "s3_secret_key"])
async def test_wrong_credentials_are_denied(settings: ServiceSettings, bucket: str, wrong: str) -> None:
    stranger = ObjectStore(settings.model_copy(update={wrong: SecretStr("wrong")}))
    await stranger.open()
    with pytest.raises(AccessDeniedError):
        await stranger.get(bucket, "k")
    with pytest.raises(AccessDeniedError):
        await stranger.head_bucket(bucket)
    with pytest.raises(AccessDeniedError):
        await put(stranger, bucket, "k")
    await stranger.close()


async def test_a_store_that_is_not_there_is_unavailable(settings: ServiceSettings) -> None:
    nowhere = ObjectStore(settings.model_copy(update={"s3_endpoint": "http://127.0.0.1:1"}))
    await nowhere.open()
    with pytest.raises(StoreUnavailableError):
        await nowhere.get("b", "k")
    with pytest.raises(StoreUnavailableError):
        await put(nowhere, "b", "k")
    with pytest.raises(StoreUnavailableError):
        await read(nowhere, "b", "k", etag='"e"', offset=0, length=1)
    await nowhere.close()


async def test_a_bucket_may_be_made_twice_and_by_all_at_once(store: ObjectStore) -> None:
    name = f"c{secrets.token_hex(6)}"
    with pytest.raises(ObjectNotFoundError):
        await store.head_bucket(name)
    await asyncio.gather(*(store.ensure_bucket(name) for _ in range(4)))
    await store.ensure_bucket(name)
    await store.head_bucket(name)


async def test_rules_are_stored(store: ObjectStore, bucket: str) -> None:
    for _ in range(2):
        await store.set_cors(bucket, origins=["https://page.example", "http://127.0.0.1:8080"])
        await store.set_lifecycle(bucket, expire_days=7, abort_upload_days=2)
    cors, _ = await store._call("GET", bucket, "", query={"cors": ""})
    assert b"<AllowedOrigin>https://page.example</AllowedOrigin>" in cors
    assert b"<AllowedMethod>PUT</AllowedMethod>" in cors
    lifecycle, _ = await store._call("GET", bucket, "", query={"lifecycle": ""})
    assert b"<Days>7</Days>" in lifecycle
    assert b"<DaysAfterInitiation>2</DaysAfterInitiation>" in lifecycle


async def test_a_page_of_an_allowed_origin_may_upload(store: ObjectStore, bucket: str) -> None:
    """What a browser asks before it uses a link."""
    await store.set_cors(bucket, origins=["https://page.example"])
    link = URL(store.presign_put(bucket, "k", expires=60), encoded=True)
    asks = {"Origin": "https://page.example", "Access-Control-Request-Method": "PUT"}
    async with aiohttp.ClientSession() as session:
        async with session.options(link, headers=asks) as response:
            assert response.headers["Access-Control-Allow-Origin"] in ("https://page.example", "*")
        async with session.options(link, headers={**asks, "Origin": "https://other.example"}) as response:
            assert "Access-Control-Allow-Origin" not in response.headers
