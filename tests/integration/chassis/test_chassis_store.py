"""The store's client against a real S3 server."""

import asyncio
import os
import random
import secrets
import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr
from yarl import URL

from haulyard_chassis.outgoing import BodyLengthError
from haulyard_chassis.settings import ServiceSettings
from haulyard_chassis.staging import staged
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
from haulyard_chassis.store_profile import StoreProfile, probe
from support.quirky_s3 import serving

MIB = 1024 * 1024
ODD_KEYS = ["a b+c&d=e?f#g", "ä/写真/📷.txt", "100%/%2e", "~-_.!*'()", "a//b", 'quo"te\\back']


@pytest.fixture(params=["real", "quirky"])
async def store(request: pytest.FixtureRequest, settings: ServiceSettings) -> AsyncIterator[ObjectStore]:
    """A client: of the real server, and of the double that stands in for other kinds, which earns its trust here."""
    async with AsyncExitStack() as running:
        if request.param == "quirky":
            settings = (await running.enter_async_context(serving("ceph"))).settings()
        opened = ObjectStore(settings)
        await opened.open()
        running.push_async_callback(opened.close)
        yield opened


real = pytest.mark.parametrize("store", ["real"], indirect=True)
"""What the double does not do: it knows no signatures and has no rules."""


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
    listed, _ = await store._requests.call("GET", bucket, "k", query={"uploadId": upload})
    assert b"ListPartsResult" in listed
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


async def copy(store: ObjectStore, bucket: str, upload: str, number: int, source: str, **other: Any) -> UploadedPart:
    request = {"etag": (await store.head(bucket, source)).etag, "offset": 0, "length": 5 * MIB, **other}
    copied = await store.copy_part(
        bucket, "k", upload_id=upload, number=number, source_bucket=bucket, source_key=source, **request
    )
    return UploadedPart(number, copied.etag, copied.crc32)


@pytest.mark.parametrize("key", ["plain.txt", *ODD_KEYS])
async def test_a_copied_part_has_the_bytes_of_its_range(store: ObjectStore, bucket: str, key: str) -> None:
    if not (await probe(store, bucket)).can_copy(key):
        pytest.skip("the store would take this key for another, and some fall over")
    data = random.Random(key).randbytes(11 * MIB)
    await put(store, bucket, key, data)
    upload = await store.create_upload(bucket, "k", content_type="x/y")
    third = await store.upload_part(bucket, "k", upload_id=upload, number=3, body=b"end", size=3)
    parts = [
        await copy(store, bucket, upload, 1, key, offset=1, length=5 * MIB),
        await copy(store, bucket, upload, 2, key, offset=5 * MIB + 7, length=6 * MIB - 7),
        UploadedPart(3, third),
    ]
    await store.complete_upload(bucket, "k", upload_id=upload, parts=parts)
    assert await store.get(bucket, "k") == data[1 : 5 * MIB + 1] + data[5 * MIB + 7 :] + b"end"


async def test_a_part_copied_twice_counts_once(store: ObjectStore, bucket: str) -> None:
    await put(store, bucket, "source", b"a" * 5 * MIB + b"b" * 5 * MIB)
    upload = await store.create_upload(bucket, "k", content_type="x/y")
    await copy(store, bucket, upload, 1, "source", offset=0)
    part = await copy(store, bucket, upload, 1, "source", offset=5 * MIB)
    await store.complete_upload(bucket, "k", upload_id=upload, parts=[part])
    assert await store.get(bucket, "k") == b"b" * 5 * MIB


async def test_a_multipart_object_is_copied_from_too(store: ObjectStore, bucket: str) -> None:
    """A copied range may span the parts that its source was made of."""
    async with staged(store, bucket, "source", content_type="x/y", part_size=5 * MIB) as writer:
        await writer.write(b"a" * 5 * MIB + b"b" * 5 * MIB)
        made = await writer.finish()
    upload = await store.create_upload(bucket, "k", content_type="x/y")
    part = await copy(store, bucket, upload, 1, "source", etag=made.etag, offset=2 * MIB, length=6 * MIB)
    await store.complete_upload(bucket, "k", upload_id=upload, parts=[part])
    assert await store.get(bucket, "k") == b"a" * 3 * MIB + b"b" * 3 * MIB


async def test_a_copy_of_what_is_not_there_says_what_is_missing(store: ObjectStore, bucket: str) -> None:
    upload = await store.create_upload(bucket, "k", content_type="x/y")
    with pytest.raises(ObjectNotFoundError):
        await copy(store, bucket, upload, 1, "source", etag='"e"')
    await put(store, bucket, "source", b"x" * 6 * MIB)
    await store.abort_upload(bucket, "k", upload_id=upload)
    with pytest.raises(UploadGoneError):
        await copy(store, bucket, upload, 1, "source")


async def test_this_store_copies_from_a_source_that_changed(store: ObjectStore, bucket: str) -> None:
    """So that nobody relies on it: the source must be looked at before and after."""
    profile = await probe(store, bucket)
    await put(store, bucket, "source", b"x" * 6 * MIB)
    upload = await store.create_upload(bucket, "k", content_type="x/y")
    with pytest.raises(ObjectChangedError) if profile.copy_checks_etag else nullcontext():
        await copy(store, bucket, upload, 1, "source", etag='"00000000000000000000000000000000"')
    await store.abort_upload(bucket, "k", upload_id=upload)


async def test_a_checksum_is_told_of_copied_parts_only_if_the_profile_says_so(store: ObjectStore, bucket: str) -> None:
    profile = await probe(store, bucket)
    await put(store, bucket, "source", b"x" * 6 * MIB)
    upload = await store.create_upload(bucket, "k", content_type="x/y", crc32=profile.copy_crc32)
    copied = await copy(store, bucket, upload, 1, "source")
    assert copied.crc32 == (zlib.crc32(b"x" * 5 * MIB) if profile.copy_crc32 else None)
    await store.abort_upload(bucket, "k", upload_id=upload)


async def test_the_store_is_known_for_what_it_is_and_the_probe_leaves_nothing(store: ObjectStore, bucket: str) -> None:
    profile = await probe(store, bucket)
    if "HAULYARD_S3_ENDPOINT" not in os.environ and os.environ.get("HAULYARD_TEST_INFRA") != "containers":
        assert profile == StoreProfile(  # Ceph
            copy=True,
            copy_checks_etag=False,
            copy_crc32=False,
            equal_parts=False,
            min_part=5 * MIB,
            copy_any_key=False,
        )
    assert [listed async for listed in store.list_objects(bucket, prefix="")] == []
    assert await store.pending_uploads(bucket) == []


@pytest.mark.parametrize("size", [0, 1, 5 * MIB, 5 * MIB + 1, 17 * MIB])
async def test_an_object_of_unknown_length_is_stored(store: ObjectStore, bucket: str, size: int) -> None:
    data = random.Random(size).randbytes(size)
    async with staged(store, bucket, "k", content_type="x/y", part_size=5 * MIB) as writer:
        for start in range(0, size, 700_001):
            await writer.write(data[start : start + 700_001])
        made = await writer.finish()
    info = await store.head(bucket, "k")
    assert (made.etag, made.size, info.size, info.content_type) == (info.etag, size, size, "x/y")
    assert await read(store, bucket, "k", etag=made.etag, offset=0, length=size) == data


async def test_an_object_that_is_given_up_midway_leaves_nothing(store: ObjectStore, bucket: str) -> None:
    async with staged(store, bucket, "k", content_type="x/y", part_size=5 * MIB) as writer:
        await writer.write(b"x" * 17 * MIB)
    assert await store.pending_uploads(bucket) == []
    with pytest.raises(ObjectNotFoundError):
        await store.head(bucket, "k")


async def test_objects_are_listed_and_deleted(store: ObjectStore, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = sorted([*(f"p/{key}" for key in ODD_KEYS), "p/a\nb", "p/\x01"])
    for key in [*keys, "other"]:
        await put(store, bucket, key)
    call, pages = store._requests.call, []

    async def three_a_page(method: str, bucket: str, key: str, *, query: dict[str, str]) -> object:
        pages.append(query)
        return await call(method, bucket, key, query={**query, "max-keys": "3"})

    monkeypatch.setattr(store._requests, "call", three_a_page)
    found = [listed async for listed in store.list_objects(bucket, prefix="p/")]
    monkeypatch.undo()
    assert [listed.key for listed in found] == sorted(keys, key=str.encode)
    assert len(pages) == 3
    assert {listed.size for listed in found} == {10}
    assert all(abs(datetime.now(UTC) - listed.modified) < timedelta(minutes=5) for listed in found)
    await store.delete_all(bucket, [*keys, "never there"])
    assert [listed.key async for listed in store.list_objects(bucket, prefix="")] == ["other"]


async def test_more_objects_are_deleted_than_one_request_can_name(store: ObjectStore, bucket: str) -> None:
    await put(store, bucket, "last")
    await store.delete_all(bucket, [*(f"never there {n}" for n in range(1000)), "last"])
    assert [listed async for listed in store.list_objects(bucket, prefix="")] == []


async def test_nothing_is_deleted_from_a_bucket_that_is_not_there(store: ObjectStore, bucket: str) -> None:
    with pytest.raises(ObjectNotFoundError):
        await store.delete_all(f"{bucket}-none", ["k"])


async def test_pending_uploads_are_listed_over_pages(
    store: ObjectStore, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {f"p/{n} ä&<" for n in range(5)}
    ids = {key: await store.create_upload(bucket, key, content_type="x/y") for key in [*keys, "other"]}
    call, pages = store._requests.call, []

    async def two_a_page(method: str, bucket: str, key: str, *, query: dict[str, str]) -> object:
        pages.append(query)
        return await call(method, bucket, key, query={**query, "max-uploads": "2"})

    monkeypatch.setattr(store._requests, "call", two_a_page)
    found = await store.pending_uploads(bucket, prefix="p/")
    monkeypatch.undo()
    assert {upload.key: upload.upload_id for upload in found} == {key: ids[key] for key in keys}
    assert len(pages) == 3
    assert all(abs(datetime.now(UTC) - upload.initiated) < timedelta(minutes=5) for upload in found)
    for key, upload in ids.items():
        await store.abort_upload(bucket, key, upload_id=upload)
    assert await store.pending_uploads(bucket) == []


@real
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


@real
@pytest.mark.parametrize("key", ["plain.txt", *ODD_KEYS])
async def test_a_link_lets_anyone_upload(store: ObjectStore, bucket: str, key: str) -> None:
    link = store.presign_put(bucket, key, expires=60)
    async with aiohttp.ClientSession() as session, session.put(URL(link, encoded=True), data=b"hello") as response:
        assert response.status == 200
    assert await store.get(bucket, key) == b"hello"


@real
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


@real
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
    cors, _ = await store._requests.call("GET", bucket, "", query={"cors": ""})
    assert b"<AllowedOrigin>https://page.example</AllowedOrigin>" in cors
    assert b"<AllowedMethod>PUT</AllowedMethod>" in cors
    lifecycle, _ = await store._requests.call("GET", bucket, "", query={"lifecycle": ""})
    assert b"<Days>7</Days>" in lifecycle
    assert b"<DaysAfterInitiation>2</DaysAfterInitiation>" in lifecycle


@real
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
