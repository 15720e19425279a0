"""What ``/archive`` answers, by how far the archive is and by what the client has of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from haulyard_chassis.identity import Purpose, Tickets, mint_token
from haulyard_contracts import ArchiveLocation, ErrorCode, Failure, JobStatus, ObjectSource
from haulyard_gateway.archive_contents import Built, LaidOut
from haulyard_gateway.errors import RecordUnavailableError
from haulyard_zipline import Entry, archive_size

if TYPE_CHECKING:
    import httpx
    from litestar import Litestar
    from litestar.testing import AsyncTestClient

    from haulyard_gateway.settings import GatewaySettings
    from unit.gateway.conftest import World

    Client = AsyncTestClient[Litestar]

JOB = "job_01KC8ZB0J0W8G3R5Q2T7V9X4YZ"
PATH = f"/v1/jobs/{JOB}/archive"
ENTRIES = (Entry("a.bin", 300, 7, 1_700_000_000), Entry("b.bin", 200, 8, 1_700_000_000))
SOURCE = ObjectSource(bucket="files", key="k", etag='"e"')
LAID_OUT = LaidOut(etag='"d-1"', size=archive_size(ENTRIES), entries=ENTRIES, sources=(SOURCE, SOURCE))
BUILT = Built(etag='"d-1"', size=LAID_OUT.size, location=ArchiveLocation(bucket="archives", key="k.zip"))
CONTENT = bytes(range(256)) * 4
SIZE = LAID_OUT.size


@pytest.fixture
def streaming(world: World) -> World:
    """A job at work whose archive is laid out."""
    world.add_job(filename="Fotos für Oma.zip")
    world.archives.states[JOB] = LAID_OUT
    world.archives.content = CONTENT[:SIZE]
    return world


def finish(world: World) -> None:
    now = datetime.now(UTC)
    world.add_job(
        status=JobStatus.COMPLETED,
        completed_at=now,
        expires_at=now + timedelta(days=1),
        size_bytes=SIZE,
        archive=BUILT.location,
    )
    world.archives.states[JOB] = BUILT


async def get(client: Client | httpx.AsyncClient, **headers: str) -> Any:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.get(PATH, headers=given, follow_redirects=False)


# While it is being built


async def test_it_is_sent_whole_with_all_that_a_browser_needs_to_resume(client: Client, streaming: World) -> None:
    answer = await get(client)
    assert (answer.status_code, answer.content) == (200, CONTENT[:SIZE])
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-length"] == str(SIZE)
    assert answer.headers["etag"] == '"d-1"'
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["cache-control"] == "private, no-cache, no-transform"
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"Fotos f_r Oma.zip\"; filename*=UTF-8''Fotos%20f%C3%BCr%20Oma.zip"
    )
    assert "content-range" not in answer.headers


async def test_a_range_is_sent(client: Client, streaming: World) -> None:
    for header, start, stop in (("bytes=10-19", 10, 20), ("bytes=100-", 100, SIZE), ("bytes=-7", SIZE - 7, SIZE)):
        answer = await get(client, range=header, if_range='"d-1"')
        assert (answer.status_code, answer.content) == (206, CONTENT[start:stop])
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{SIZE}"
        assert answer.headers["content-length"] == str(stop - start)


async def test_a_part_of_another_archive_is_not_gone_on_with(client: Client, streaming: World) -> None:
    answer = await get(client, range="bytes=100-", if_range='"d-2"')
    assert (answer.status_code, answer.content) == (200, CONTENT[:SIZE])
    answer = await get(client, range="bytes=100-", if_match='"d-2"')
    assert (answer.status_code, answer.json()["type"]) == (412, "/problems/precondition-failed")
    assert answer.headers["etag"] == '"d-1"'


async def test_a_range_behind_the_end(client: Client, streaming: World) -> None:
    answer = await get(client, range=f"bytes={SIZE}-")
    assert (answer.status_code, answer.json()["type"]) == (416, "/problems/range-not-satisfiable")
    assert answer.headers["content-range"] == f"bytes */{SIZE}"


async def test_what_the_client_has_is_not_sent_again(client: Client, streaming: World) -> None:
    answer = await get(client, if_none_match='"x", W/"d-1"')
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == '"d-1"'
    assert streaming.archives.opened == []


async def test_head_tells_what_get_would(client: Client, streaming: World) -> None:
    for finished in (False, True):
        if finished:
            finish(streaming)
        answer = await client.head(PATH, headers={"Range": "bytes=5-"}, follow_redirects=False)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == str(SIZE)
        assert answer.headers["etag"] == '"d-1"'
    assert streaming.archives.opened == []


async def test_head_reads_nothing_for_checksums(client: Client, streaming: World, settings: GatewaySettings) -> None:
    huge = (Entry("a.bin", settings.archive_probe_bytes + 1, None, 1_700_000_000),)
    streaming.archives.states[JOB] = LaidOut(etag='"d-1"', size=archive_size(huge), entries=huge, sources=(SOURCE,))
    assert (await client.head(PATH)).headers["content-length"] == str(archive_size(huge))


# When it is built


async def test_once_it_is_built_clients_are_led_to_the_store(client: Client, streaming: World) -> None:
    finish(streaming)
    for headers in (
        {},
        {"range": "bytes=5-"},
        {"range": "bytes=5-", "if_range": '"of-the-store"'},
        {"if_match": '"of-the-store"'},
        {"if_none_match": "*"},
    ):
        answer = await get(client, **headers)
        assert answer.status_code == 307, headers
        assert answer.headers["location"].startswith("https://store.test/archives/k.zip?")
        assert answer.headers["cache-control"] == "no-store"
    assert streaming.archives.opened == []


async def test_the_rest_of_what_was_streamed_is_sent_from_here(client: Client, streaming: World) -> None:
    finish(streaming)
    for condition in ("if_range", "if_match"):
        answer = await get(client, **{"range": "bytes=100-", condition: '"d-1"'})
        assert (answer.status_code, answer.content) == (206, CONTENT[100:SIZE])
        assert answer.headers["etag"] == '"d-1"'
    assert (await get(client, if_none_match='"d-1"')).status_code == 304
    assert [wanted.archive for wanted in streaming.archives.opened] == [BUILT, BUILT]


async def test_a_job_that_the_record_has_no_longer(client: Client, streaming: World) -> None:
    finish(streaming)
    del streaming.archives.states[JOB]
    assert (await get(client, range="bytes=5-", if_range='"d-1"')).status_code == 307
    assert (await client.head(PATH, follow_redirects=False)).status_code == 404


async def test_leading_to_the_store_needs_no_database(client: Client, streaming: World) -> None:
    finish(streaming)
    streaming.archives.broken = RecordUnavailableError("away")
    assert (await get(client, range="bytes=5-")).status_code == 307
    answer = await get(client, range="bytes=5-", if_range='"d-1"')
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")


# When there is none


async def test_what_is_not_laid_out_is_waited_for_and_then_not_ready(client: Client, streaming: World) -> None:
    del streaming.archives.states[JOB]
    streaming.changes.full = True  # so there is no waiting
    answer = await get(client)
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/job-not-ready")
    assert answer.headers["retry-after"] == "2"


async def test_it_is_sent_as_soon_as_it_is_laid_out(patient: httpx.AsyncClient, streaming: World) -> None:
    job = streaming.add_job()
    del streaming.archives.states[JOB]
    asking = asyncio.create_task(get(patient))
    watch = await streaming.changes.next_watch()
    streaming.archives.states[JOB] = LAID_OUT
    streaming.add_job(sequence=job.sequence + 1)
    watch.change(job.sequence + 1)
    answer = await asking
    assert (answer.status_code, answer.content) == (200, CONTENT[:SIZE])


async def test_who_waits_is_led_to_the_store_when_it_is_built_meanwhile(
    patient: httpx.AsyncClient, streaming: World
) -> None:
    job = streaming.add_job()
    del streaming.archives.states[JOB]
    asking = asyncio.create_task(get(patient))
    watch = await streaming.changes.next_watch()
    finish(streaming)
    watch.change(job.sequence + 1)
    assert (await asking).status_code == 307


async def test_too_much_to_read_first_is_not_ready(client: Client, streaming: World, settings: GatewaySettings) -> None:
    streaming.changes.full = True
    entries = (Entry("a.bin", settings.archive_probe_bytes + 1, None, 1_700_000_000), *ENTRIES)
    archive = LaidOut(etag='"d-1"', size=archive_size(entries), entries=entries, sources=(SOURCE,) * 3)
    streaming.archives.states[JOB] = archive
    assert (await get(client)).status_code == 409
    # But a range without its header can be had.
    answer = await get(client, range="bytes=1000-1099")
    assert answer.status_code == 206
    known = tuple(replace(entry, crc32=1) for entry in entries)
    streaming.archives.states[JOB] = replace(archive, entries=known)
    assert (await get(client, range="bytes=0-9")).status_code == 206


@pytest.mark.parametrize(
    ("changes", "status", "slug"),
    [
        ({"status": JobStatus.CANCELLED}, 409, "job-failed"),
        (
            {"status": JobStatus.FAILED, "error": Failure(code=ErrorCode.PROCESSING_FAILED, message="no")},
            409,
            "job-failed",
        ),
        ({"status": JobStatus.EXPIRED}, 410, "archive-expired"),
    ],
)
async def test_a_job_without_an_archive(
    client: Client, streaming: World, changes: dict[str, Any], status: int, slug: str
) -> None:
    streaming.add_job(completed_at=datetime.now(UTC), **changes)
    for headers in ({}, {"range": "bytes=5-", "if_range": '"d-1"'}):
        answer = await get(client, **headers)
        assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}")
    assert (await client.get(f"/v1/jobs/{JOB}/status")).json()["archive_url"] is None


# Who may


async def test_a_ticket_is_as_good_as_a_token_for_this_job_only(
    client: Client, streaming: World, settings: GatewaySettings
) -> None:
    url = (await client.get(f"/v1/jobs/{JOB}/status")).json()["archive_url"]
    del client.headers["Authorization"]
    assert url.startswith(f"https://api.example.com{PATH}?ticket=")
    answer = await client.get(url.removeprefix("https://api.example.com"))
    assert (answer.status_code, answer.content) == (200, CONTENT[:SIZE])
    tickets = Tickets(settings.ticket_secret.get_secret_value())
    issue: Any = tickets.issue
    for ticket in (
        "",
        "x.y.z",
        issue("job_another", "alice", ttl_seconds=60, purpose=Purpose.ARCHIVE),
        issue(JOB, "alice", ttl_seconds=-1, purpose=Purpose.ARCHIVE),
        issue(JOB, "alice", ttl_seconds=60, purpose=Purpose.FOLLOW),
        Tickets("x" * 32).issue(JOB, "alice", ttl_seconds=60, purpose=Purpose.ARCHIVE),
    ):
        assert (await client.get(PATH, params={"ticket": ticket})).status_code == 401
    good = issue(JOB, "alice", ttl_seconds=60, purpose=Purpose.ARCHIVE)
    assert (await client.get(PATH, params={"ticket": good})).status_code == 200
    for other in (f"/v1/jobs/{JOB}/download", f"/v1/jobs/{JOB}/status", "/v1/jobs"):
        assert (await client.get(other, params={"ticket": good})).status_code == 401
    # One that is of another user than the job's.
    theirs = issue(JOB, "bob", ttl_seconds=60, purpose=Purpose.ARCHIVE)
    assert (await client.get(PATH, params={"ticket": theirs})).status_code == 404


async def test_others_do_not_see_that_there_is_one(client: Client, streaming: World, settings: GatewaySettings) -> None:
    assert settings.jwt_secret is not None
    secret = settings.jwt_secret.get_secret_value()
    bob = {"Authorization": f"Bearer {mint_token(secret, 'bob')}"}
    assert (await client.get(PATH, headers=bob)).status_code == 404
    narrow = {"Authorization": f"Bearer {mint_token(secret, 'alice', scopes=['jobs:write'])}"}
    assert (await client.get(PATH, headers=narrow)).status_code == 403
    assert (await client.get("/v1/jobs/nonsense/archive")).status_code == 404
    assert streaming.archives.opened == []


async def test_a_query_that_nobody_knows_is_refused(client: Client, streaming: World) -> None:
    assert (await client.get(PATH, params={"tikcet": "x"})).status_code == 400


async def test_downloads_leave_an_audit_line(
    client: Client, streaming: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="audit"):
        await get(client, range="bytes=5-9")
        finish(streaming)
        await get(client)
    lines = [str(record.msg) for record in caplog.records if record.name == "audit"]
    assert len(lines) == 2
    assert "archive streamed" in lines[0]
    assert "archive link issued" in lines[1]
