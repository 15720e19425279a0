"""What a probe finds out about each kind of store, and that it leaves nothing."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from aiohttp import web

from haulyard_chassis import store_profile, store_requests
from haulyard_chassis.store import AccessDeniedError, ObjectNotFoundError, StoreRefusedError, StoreUnavailableError
from haulyard_chassis.store_profile import PROBE_PREFIX, StoreProfile, probe
from support.quirky_s3 import KINDS, MIB, Asked, Kind, QuirkyS3, client_of, serving

LIKE_THE_API = StoreProfile(
    copy=True, copy_checks_etag=True, copy_crc32=True, equal_parts=False, min_part=5 * MIB, copy_any_key=True
)
PROFILES = {
    "aws": LIKE_THE_API,
    "minio": replace(LIKE_THE_API, copy_crc32=False),
    "r2": replace(LIKE_THE_API, copy_crc32=False, equal_parts=True),
    "gcs": replace(LIKE_THE_API, copy=False, copy_checks_etag=False, copy_crc32=False, copy_any_key=False),
    "ceph": replace(LIKE_THE_API, copy_checks_etag=False, copy_crc32=False, copy_any_key=False),
}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow each other at once."""
    monkeypatch.setattr(store_requests, "FIRST_PAUSE", 0.0)


async def probed(server: QuirkyS3) -> StoreProfile:
    """Probe a store that has an object already, which must stay the only thing it has."""
    async with asyncio.timeout(30), client_of(server, bucket="b") as client:
        await client.put("b", "mine", b"x", size=1, content_type="x/y")
        server.operations.clear()
        try:
            return await probe(client, "b")
        finally:
            assert list(server.buckets["b"]) == ["mine"]
            assert server.uploads == {}


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_each_kind_is_known_for_what_it_is(kind: str) -> None:
    async with serving(kind) as server:
        assert await probed(server) == PROFILES[kind]
        assert len(server.operations) <= 40


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda _: b"", id="nothing"),
        pytest.param(lambda data: bytes(len(data)), id="zeros"),
        pytest.param(lambda data: data[1:] + data[:1], id="a byte off"),
        pytest.param(lambda data: data[:-1], id="a byte short"),
    ],
)
async def test_a_store_that_copies_wrong_bytes_does_not_copy(wrong: Callable[[bytes], bytes]) -> None:
    async with serving(Kind(copied_bytes=wrong)) as server:
        assert await probed(server) == PROFILES["gcs"]


async def test_a_store_without_a_least_size_takes_small_parts() -> None:
    async with serving(Kind(min_part=0)) as server:
        assert await probed(server) == replace(LIKE_THE_API, min_part=0)


async def test_a_store_that_ignores_all_ranges_does_not_copy() -> None:
    whole = Kind(copied_bytes=lambda data: data + b"more")
    async with serving(whole) as server:
        assert not (await probed(server)).copy


async def test_a_store_that_finds_only_plain_keys_does_not_copy() -> None:
    async with serving(Kind(decodes=0)) as server:
        assert await probed(server) == PROFILES["gcs"]


async def test_a_checksum_that_is_wrong_is_not_used() -> None:
    def lie(asked: Asked) -> web.Response | None:
        if not asked.operation.endswith("copy") or not server.uploads[asked.query["uploadId"]].crc32:
            return None
        answer = "<CopyPartResult><ETag>e</ETag><ChecksumCRC32>AAAAAA==</ChecksumCRC32></CopyPartResult>"
        return web.Response(text=answer)

    async with serving("aws") as server:
        server.instead = lie
        assert await probed(server) == replace(LIKE_THE_API, copy_crc32=False)


async def test_a_store_that_makes_nothing_of_parts_is_refused() -> None:
    async with serving(Kind(min_part=7 * MIB)) as server:
        with pytest.raises(StoreRefusedError, match="parts of 5 MiB"):
            await probed(server)


@pytest.mark.parametrize(
    "operation",
    ["PUT object", "POST object uploads", "PUT object uploadId", "PUT object uploadId copy", "POST object uploadId"],
)
async def test_a_store_that_is_away_is_told_and_nothing_is_left(operation: str) -> None:
    async with serving("aws") as server:
        server.instead = lambda asked: web.Response(status=503) if asked.operation == operation else None
        with pytest.raises(StoreUnavailableError):
            await probed(server)


async def test_a_store_that_goes_away_for_good_is_told_as_well() -> None:
    def gone(asked: Asked) -> web.Response | None:
        return web.Response(status=503) if "PUT object uploadId copy" in server.operations else None

    async with serving("aws") as server, client_of(server, bucket="b") as client:
        server.instead = gone
        with pytest.raises(StoreUnavailableError):
            await probe(client, "b")
        assert all(key.startswith(PROBE_PREFIX) for key in server.buckets["b"])


async def test_what_may_not_be_done_is_told() -> None:
    async with serving("aws") as server:
        server.instead = lambda asked: web.Response(status=403) if asked.operation == "PUT object" else None
        with pytest.raises(AccessDeniedError):
            await probed(server)
        async with client_of(server, bucket="b") as client:
            server.instead = lambda _: None
            with pytest.raises(ObjectNotFoundError):
                await probe(client, "other")


async def test_a_store_that_does_not_come_to_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_profile, "PATIENCE", 0.5)
    over = asyncio.Event()

    async with serving("aws") as server:
        handle = server.handle

        async def hang(request: web.BaseRequest) -> web.StreamResponse:
            if "x-amz-copy-source" in request.headers:
                await over.wait()
            return await handle(request)

        monkeypatch.setattr(server, "handle", hang)
        with pytest.raises(StoreUnavailableError, match="did not answer all questions"):
            await probed(server)
        over.set()


def test_the_log_gets_every_field() -> None:
    assert LIKE_THE_API.describe() == {
        "copy": True,
        "copy_checks_etag": True,
        "copy_crc32": True,
        "equal_parts": False,
        "min_part": 5_242_880,
        "copy_any_key": True,
    }


@pytest.mark.parametrize(
    ("kind", "key", "can"),
    [
        ("aws", "100%/a?versionId=b", True),
        ("ceph", "a b/ä+&#.txt", True),
        ("ceph", "a%41", False),
        ("ceph", "100%", False),
        ("ceph", "a?versionId=b", False),
        ("gcs", "plain", False),
    ],
)
def test_a_key_that_the_store_may_misread_is_not_copied_from(kind: str, key: str, can: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert PROFILES[kind].can_copy(key) is can
