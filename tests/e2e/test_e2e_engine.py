"""The archive engine as its users see it: what they get is read by programs of others, whatever way it was made."""

import asyncio
import random
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from support.client import ApiClient, members, sha256

MIB = 1024 * 1024


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(f"{seed}:{size}").randbytes(size)


def text(size: int) -> bytes:
    words = [noise(6, each).hex().encode() for each in range(300)]
    return b" ".join(random.Random(size).choices(words, k=size // 12 + 1))[:size]


CONTENTS = {
    "empty.txt": b"",
    "novel.txt": text(30 * MIB),
    "写真/夏 🏖.jpg": noise(20 * MIB),
    "Übersicht/größe.txt": text(70_000),
    "Übersicht/GRÖSSE.txt": text(70_001),
    "مرحبا.txt": text(10),
    **{f"many/{number:03}.txt": text(number * 50) for number in range(90)},
}


async def ask(command: list[str], *, stdin: Path | None = None) -> None:
    """Let another program read an archive, if it is installed; whatever it complains of is a failure."""
    program = shutil.which(command[0])
    if program is None:
        return

    def run() -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            [program, *command[1:]],
            input=stdin.read_bytes() if stdin else b"",
            capture_output=True,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
            check=False,
        )

    done = await asyncio.to_thread(run)
    assert done.returncode == 0, (done.stdout[-2_000:] + done.stderr[-2_000:]).decode(errors="replace")


@pytest.mark.parametrize("compression", ["store", "deflate"])
async def test_strangers_read_what_the_service_makes(api: ApiClient, tmp_path: Path, compression: str) -> None:
    ids = [await api.upload(name, data) for name, data in CONTENTS.items()]
    job = await api.initiate(*ids, compression=compression)
    status = await api.wait(job["job_id"])
    assert (status["status"], status["error"]) == ("completed", None)
    archive = await api.download(job["job_id"])
    assert sorted(members(archive).values()) == sorted(sha256(data) for data in CONTENTS.values())
    path = tmp_path / "archive.zip"
    path.write_bytes(archive)
    await ask(["unzip", "-tq", str(path)])
    await ask(["7z", "t", str(path)])
    await ask(["bsdtar", "-xOf", "-"], stdin=path)
    with zipfile.ZipFile(path) as opened:
        methods = {info.filename: info.compress_type for info in opened.infolist()}
    assert methods["写真/夏 🏖.jpg"] == zipfile.ZIP_STORED
    wanted = zipfile.ZIP_DEFLATED if compression == "deflate" else zipfile.ZIP_STORED
    assert methods["novel.txt"] == wanted


async def test_the_second_archive_of_a_file_is_copied_by_the_store(api: ApiClient) -> None:
    data = noise(40 * MIB, 1)
    file_id, other = await api.upload("a.bin", data), await api.upload("b.txt", b"b")
    first = await api.wait((await api.initiate(file_id))["job_id"])
    second = await api.wait((await api.initiate(file_id, other))["job_id"])
    assert (first["status"], second["status"]) == ("completed", "completed")
    assert second["transfer"]["bytes_copied"] >= len(data) - 6 * MIB
    assert second["transfer"]["bytes_through"] <= 6 * MIB
    assert members(await api.download(second["job_id"]))["a.bin"] == sha256(data)


async def test_the_same_files_are_the_same_archive_at_once(api: ApiClient) -> None:
    ids = [await api.upload(f"{number}.bin", noise(30_000, number)) for number in range(3)]
    first = await api.initiate(*ids)
    await api.wait(first["job_id"])
    jobs = [await api.initiate(*ids) for _ in range(3)]
    archives = set()
    for job in [first, *jobs]:
        status = await api.wait(job["job_id"])
        assert (status["status"], status["progress"]["percentage"]) == ("completed", 100)
        archives.add(sha256(await api.download(job["job_id"])))
    assert len(archives) == 1


async def test_a_job_can_be_cancelled_as_soon_as_it_is_accepted(api: ApiClient) -> None:
    """The wish may overtake the request on its way; it is granted all the same."""
    ids = [await api.upload(f"{number}.bin", noise(60 * MIB, number)) for number in range(2)]

    async def cancelled(number: int) -> dict[str, Any]:
        job = await api.initiate(*ids, filename=f"{number}.zip")
        answer = await api.http.post(f"/v1/jobs/{job['job_id']}/cancel")
        assert answer.status_code == 202, answer.text
        return await api.wait(job["job_id"])

    statuses = [await cancelled(number) for number in range(5)]
    assert [status["status"] for status in statuses] == ["cancelled"] * 5


async def test_a_job_can_fail_instead_of_leaving_files_out(api: ApiClient) -> None:
    file_id = await api.upload("a.txt", b"a")
    job = await api.initiate(file_id, 999_999_999, on_missing="fail")
    status = await api.wait(job["job_id"])
    assert status["status"] == "failed"
    assert status["error"]["code"] == "FILE_NOT_FOUND"
