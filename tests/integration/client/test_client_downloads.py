"""Archives on their way to disk while connections break, links expire and archives change."""

import asyncio
import io
import json
import zipfile
from pathlib import Path

import pytest
from aiohttp import web

from haulyard import (
    ArchiveCorruptError,
    AsyncClient,
    DownloadError,
    JobNotReadyError,
)
from haulyard.transfer import download, remote
from support.client_double import JOB, Double, a_zip, problem

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a small archive is fetched as a large one is."""
    monkeypatch.setattr(download, "_SMALLEST_PIECE", 1000)
    monkeypatch.setattr(remote, "_BLOCK", 512)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_an_archive_is_fetched_side_by_side_and_named_when_it_is_whole(
    client: AsyncClient, double: Double, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    path = await client.download(JOB, tmp_path, verify=True, on_bytes=lambda done, size: seen.append((done, size)))
    assert path == tmp_path / "archive.zip"
    assert path.read_bytes() == double.archive
    assert names(tmp_path) == ["archive.zip"]
    assert len(double.ranges) > 10
    assert seen[0][0] == 0
    assert seen[-1] == (len(double.archive), len(double.archive))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert double.links_given == 1


@pytest.mark.parametrize("connections", [1, 4])
async def test_a_cut_connection_goes_on_at_the_byte_where_it_was(
    client: AsyncClient, double: Double, tmp_path: Path, connections: int
) -> None:
    double.archive = a_zip(3000)
    double.store = [double.part, double.cutting(700), double.cutting(0), double.cutting(100)]
    path = await client.download(JOB, tmp_path, connections=connections)
    assert path.read_bytes() == double.archive
    fetched = sum(_length(text) for text in double.ranges[1:])
    assert fetched < 2 * len(double.archive)


def _length(text: str) -> int:
    start, end = text.removeprefix("bytes=").split("-")
    return int(end) - int(start) + 1


async def test_what_has_arrived_survives_a_failure_and_is_not_fetched_again(
    client: AsyncClient, double: Double, tmp_path: Path
) -> None:
    target = tmp_path / "out.zip"
    half = len(double.archive) // 2

    async def no_second_half(request: web.Request) -> web.StreamResponse:
        first = int(request.headers["Range"].removeprefix("bytes=").split("-")[0])
        return await double.part(request) if first < half else web.Response(status=500)

    double.store = [no_second_half] * 1000
    with pytest.raises(DownloadError, match="500"):
        await client.download(JOB, target, connections=1)
    assert names(tmp_path) == ["out.zip.part", "out.zip.part.json"]
    done = json.loads((tmp_path / "out.zip.part.json").read_bytes())["done"]
    kept = sum(end - start for start, end in done)
    assert kept >= half
    double.store, double.ranges = [], []
    assert await client.download(JOB, target) == target
    assert target.read_bytes() == double.archive
    assert names(tmp_path) == ["out.zip"]
    assert sum(_length(text) for text in double.ranges[1:]) == len(double.archive) - kept


async def test_a_download_that_is_cancelled_goes_on_later(client: AsyncClient, double: Double, tmp_path: Path) -> None:
    target = tmp_path / "out.zip"
    started = asyncio.Event()
    task = asyncio.create_task(
        client.download(JOB, target, connections=2, on_bytes=lambda done, _: started.set() if done > 5000 else None)
    )
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    kept = sum(end - start for start, end in json.loads((tmp_path / "out.zip.part.json").read_bytes())["done"])
    assert kept > 5000
    double.ranges = []
    await client.download(JOB, target)
    assert target.read_bytes() == double.archive
    assert sum(_length(text) for text in double.ranges[1:]) == len(double.archive) - kept


async def test_a_link_that_expires_is_renewed(client: AsyncClient, double: Double, tmp_path: Path) -> None:
    async def expire(request: web.Request) -> web.StreamResponse:
        double.good_links.clear()
        return web.Response(status=403)

    double.store = [double.part, double.part, expire]
    path = await client.download(JOB, tmp_path, connections=3)
    assert path.read_bytes() == double.archive
    assert double.links_given == 2


async def test_a_link_is_renewed_before_it_expires(client: AsyncClient, double: Double, tmp_path: Path) -> None:
    double.archive = a_zip(2000)
    double.link_seconds = 10  # which is as good as none
    path = await client.download(JOB, tmp_path, connections=1)
    assert path.read_bytes() == double.archive
    assert double.links_given > 2


async def test_a_link_that_is_never_good_is_an_error(client: AsyncClient, double: Double, tmp_path: Path) -> None:
    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.Response(status=403)

    double.store = [refuse] * 100
    with pytest.raises(DownloadError, match="403"):
        await client.download(JOB, tmp_path)
    assert double.links_given == 2


async def test_bytes_of_two_archives_are_never_mixed(client: AsyncClient, double: Double, tmp_path: Path) -> None:
    other = a_zip(70_000, 6, 0)[: len(double.archive)]

    async def change(request: web.Request) -> web.StreamResponse:
        double.archive, double.etag = other, '"two"'
        return await double.part(request)

    double.archive = double.archive[: len(other)]
    double.store = [double.part, double.part, double.part, change]
    path = await client.download(JOB, tmp_path)
    assert path.read_bytes() == other


async def test_what_is_left_of_another_archive_is_not_used(client: AsyncClient, double: Double, tmp_path: Path) -> None:
    (tmp_path / "out.zip.part").write_bytes(b"x" * len(double.archive))
    for left in (
        {"identity": {"job_id": JOB, "size": len(double.archive), "etag": '"zero"'}, "done": [[0, 50_000]]},
        {"identity": {"job_id": "job_2", "size": len(double.archive), "etag": '"one"'}, "done": [[0, 50_000]]},
        {"identity": {"job_id": JOB, "size": 7, "etag": '"one"'}, "done": [[0, 7]]},
        {"done": "moo"},
    ):
        (tmp_path / "out.zip.part.json").write_text(json.dumps(left))
        path = await client.download(JOB, tmp_path / "out.zip", overwrite=True)
        assert path.read_bytes() == double.archive


async def test_a_store_without_ranges_gives_the_archive_in_one_go(
    client: AsyncClient, double: Double, tmp_path: Path
) -> None:
    async def whole(request: web.Request) -> web.StreamResponse:
        return web.Response(body=double.archive, headers={"ETag": double.etag})

    double.store = [whole] * 2
    path = await client.download(JOB, tmp_path)
    assert path.read_bytes() == double.archive
    assert len(double.ranges) == 2


async def test_an_archive_of_another_size_than_was_said_is_refused(
    client: AsyncClient, double: Double, tmp_path: Path
) -> None:
    async def shorter(request: web.Request) -> web.StreamResponse:
        double.archive = double.archive[:-1]
        return await double.part(request)

    double.store = [shorter]
    with pytest.raises(DownloadError, match="there should be"):
        await client.download(JOB, tmp_path)


def _flipped(archive: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        at = opened.getinfo("0.bin").header_offset + 40
    return archive[:at] + bytes([archive[at] ^ 1]) + archive[at + 1 :]


async def test_a_wrong_byte_is_found_when_it_is_asked_for(client: AsyncClient, double: Double, tmp_path: Path) -> None:
    double.archive = _flipped(double.archive)
    with pytest.raises(ArchiveCorruptError, match=r"0\.bin"):
        await client.download(JOB, tmp_path, verify=True)
    assert names(tmp_path) == []
    await client.download(JOB, tmp_path)
    assert names(tmp_path) == ["archive.zip"]


async def test_a_file_that_is_there_is_not_replaced_unless_that_is_wanted(
    client: AsyncClient, double: Double, tmp_path: Path
) -> None:
    target = tmp_path / "out.zip"
    target.write_bytes(b"mine")
    with pytest.raises(DownloadError, match="exists already"):
        await client.download(JOB, target)
    assert target.read_bytes() == b"mine"
    await client.download(JOB, target, overwrite=True)
    assert target.read_bytes() == double.archive


async def test_two_downloads_to_one_file_do_not_meet(client: AsyncClient, double: Double, tmp_path: Path) -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def wait(request: web.Request) -> web.StreamResponse:
        inside.set()
        await go_on.wait()
        return await double.part(request)

    double.store = [wait]
    first = asyncio.create_task(client.download(JOB, tmp_path / "out.zip"))
    await inside.wait()
    with pytest.raises(DownloadError, match="Another download"):
        await client.download(JOB, tmp_path / "out.zip")
    go_on.set()
    assert (await first).read_bytes() == double.archive


async def test_a_folder_that_is_not_there_is_said(client: AsyncClient, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="cannot be written"):
        await client.download(JOB, tmp_path / "nothing" / "out.zip")


async def test_the_api_says_why_there_is_no_archive(client: AsyncClient, double: Double, tmp_path: Path) -> None:
    async def not_ready(request: web.Request) -> web.StreamResponse:
        return problem(409, "job-not-ready")

    double.next.append(not_ready)
    with pytest.raises(JobNotReadyError):
        await client.download(JOB, tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("cuts", [0, 5])
async def test_a_stream_is_the_archive_in_order_whatever_is_cut(client: AsyncClient, double: Double, cuts: int) -> None:
    double.store = [double.part, *(double.cutting(2000) for _ in range(cuts))]
    assert b"".join([block async for block in client.stream(JOB)]) == double.archive
    assert len(double.ranges) == 2 + cuts
