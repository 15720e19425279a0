"""The Python client and the command line with the real services."""

import asyncio
import json
import os
import pty
import random
import secrets
import signal
import sys
import zipfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from haulyard import (
    AcceptedJob,
    ApiError,
    AsyncClient,
    Client,
    InvalidRequestError,
    JobEndedBadlyError,
    JobStatus,
    LocalFile,
    NotFoundError,
    RetryPolicy,
    Way,
    local_files,
)
from haulyard_devstack import Stack
from support.client import members, sha256
from support.cutting_proxy import CuttingProxy, cutting_proxy

MIB = 1024 * 1024
DEAD = "127.0.0.1:1"
"""Where nobody listens."""
PATIENCE = 60.0
"""Seconds after which a command counts as stuck."""
INTERRUPTED = 130
COMMAND = Path(sys.executable).with_name("haulyard")


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(f"{seed}:{size}").randbytes(size)


@pytest.fixture
def token(stack: Stack) -> str:
    """The token of a user of whom nobody has heard before."""
    return stack.token(f"user-{secrets.token_hex(4)}")


@pytest.fixture
async def client(stack: Stack, token: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(stack.api_url, token, retries=RetryPolicy(first_delay=0.1)) as made:
        yield made


@pytest.fixture
async def proxy() -> AsyncIterator[CuttingProxy]:
    async with cutting_proxy() as running:
        yield running


@pytest.fixture
def still(stack: Stack) -> Iterator[None]:
    """The archivers stand still, so that a job stays at work."""
    pids = [stack.processes[name].pid for name in ("archiver-1", "archiver-2")]
    for pid in pids:
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        go_on(stack)


def go_on(stack: Stack) -> None:
    for name in ("archiver-1", "archiver-2"):
        pid = stack.processes[name].pid
        assert pid is not None
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def folder(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A folder of files; what they are called in an archive, and their SHA-256."""
    contents = {
        "photos/a b.jpg": noise(70_000),
        "photos/2026/写真 1.jpg": noise(2 * MIB, 1),
        "photos/2026/empty.txt": b"",
        "photos/large.bin": noise(20 * MIB, 2),
    }
    for name, data in contents.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "photos", {name: sha256(data) for name, data in contents.items()}


async def upload(client: AsyncClient, *sizes: int) -> list[int]:
    """Upload files of noise and return their ids."""
    ids = []
    for number, size in enumerate(sizes):
        path = Path(os.environ.get("TMPDIR", "/tmp")) / f"haulyard-{secrets.token_hex(6)}"
        path.write_bytes(noise(size, number))
        try:
            ids.append((await client.upload(path, name=f"{number}.bin")).file_id)
        finally:
            path.unlink()
    return ids


# The library


async def test_a_folder_becomes_one_zip(
    client: AsyncClient, folder: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    path, contents = folder
    sent: list[int] = []
    uploaded = [result async for result in client.upload_many(local_files(path), on_sent=sent.append)]
    assert sum(sent) == sum(result.local.size for result in uploaded)
    assert all(result.error is None for result in uploaded)
    ids = [result.file.file_id for result in uploaded if result.file is not None]
    job = await client.initiate(ids, filename="trip.zip", priority=9)
    ended = await client.wait(job, timeout=PATIENCE)
    assert ended.status is JobStatus.COMPLETED
    seen: list[tuple[int, int]] = []
    archive = await client.download(job, tmp_path, verify=True, on_bytes=lambda *seen_now: seen.append(seen_now))
    assert archive == tmp_path / "trip.zip"
    assert members(archive.read_bytes()) == contents
    assert seen[-1] == (archive.stat().st_size, archive.stat().st_size)
    assert b"".join([block async for block in client.stream(job)]) == archive.read_bytes()


async def test_the_synchronous_client_does_the_same(stack: Stack, token: str, tmp_path: Path) -> None:
    source = tmp_path / "a.bin"
    source.write_bytes(noise(3 * MIB))

    def use() -> Path:
        with Client(stack.api_url, token) as client:
            file = client.upload(source)
            assert client.file(file.file_id).size_bytes == 3 * MIB
            job = client.initiate([file.file_id])
            updates = list(client.watch(job))
            assert updates[-1].status is JobStatus.COMPLETED
            assert [listed.job_id for listed in client.jobs(limit=5)] == [job.job_id]
            assert [listed.file_id for listed in client.files()] == [file.file_id]
            assert b"".join(client.stream(job))[:4] == b"PK\x03\x04"
            path = client.get([file.file_id], tmp_path / "out.zip")
            client.delete(job)
            client.delete_file(file.file_id)
            with pytest.raises(NotFoundError):
                client.file(file.file_id)
            return path

    assert members((await asyncio.to_thread(use)).read_bytes()) == {"a.bin": sha256(noise(3 * MIB))}


@pytest.mark.parametrize(
    ("dead", "way"),
    [((), Way.WEBSOCKET), (("websocket_url",), Way.EVENTS), (("websocket_url", "events_url"), Way.POLLING)],
)
async def test_each_way_tells_of_a_job_to_its_end(
    client: AsyncClient, dead: Sequence[str], way: Way, tmp_path: Path
) -> None:
    ids = await upload(client, 30 * MIB, 70_000)
    job = without(await client.initiate(ids), dead)
    updates = [update async for update in client.watch(job)]
    assert updates[-1].status is JobStatus.COMPLETED
    assert {update.via for update in updates} == {way}
    done = [update.progress.bytes_current for update in updates]
    assert done == sorted(done)
    sequences = [update.sequence for update in updates]
    assert None not in sequences
    assert sequences == sorted(set(sequences))  # type: ignore[type-var] # there is no None


def without(job: AcceptedJob, dead: Sequence[str]) -> AcceptedJob:
    """Return the job with links that lead nowhere."""
    return msgspec.structs.replace(job, **{name: f"{'ws' if 'web' in name else 'http'}://{DEAD}/x" for name in dead})


@pytest.mark.parametrize("dead", [(), ("websocket_url",)])
async def test_a_way_that_is_cut_all_the_time_misses_nothing(
    client: AsyncClient, stack: Stack, proxy: CuttingProxy, monkeypatch: pytest.MonkeyPatch, dead: Sequence[str]
) -> None:
    ids = await upload(client, *[8 * MIB] * 10)
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    job = without(await client.initiate(ids), dead)
    updates = []
    async for update in client.watch(job):
        updates.append(update)
        proxy.cut_all()
    assert updates[-1].status is JobStatus.COMPLETED
    sequences = [update.sequence or 0 for update in updates]
    assert sequences == sorted(set(sequences))
    assert proxy.connections > 2


async def test_a_job_can_be_joined_by_its_id(client: AsyncClient) -> None:
    job = await client.initiate(await upload(client, 70_000))
    updates = [update async for update in client.watch(job.job_id)]
    assert updates[-1].status is JobStatus.COMPLETED
    assert len({update.sequence for update in updates}) == len(updates)


async def test_a_job_that_fails_is_an_error_with_a_reason(client: AsyncClient, tmp_path: Path) -> None:
    with pytest.raises(JobEndedBadlyError, match="not found") as caught:
        await client.get([999_999_999], tmp_path)
    assert caught.value.status == "failed"
    with pytest.raises(ApiError):
        await client.link(caught.value.job_id)


async def test_what_is_wrong_with_a_request_is_said_in_detail(client: AsyncClient) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await client.initiate([1, 1], priority=11)
    assert {error.pointer for error in caught.value.errors} == {"#/file_ids/1", "#/priority"}


async def test_one_key_is_one_job(client: AsyncClient) -> None:
    ids = await upload(client, 10)
    key = secrets.token_hex(8)
    jobs = await asyncio.gather(*(client.initiate(ids, idempotency_key=key) for _ in range(5)))
    assert len({job.job_id for job in jobs}) == 1


async def test_a_cut_download_goes_on_where_it_was(
    client: AsyncClient, proxy: CuttingProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job = await client.initiate(await upload(client, 40 * MIB))
    await client.wait(job, timeout=PATIENCE)
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    proxy.cut_after.extend([10**9, 10**9, *[3 * MIB] * 6])  # link, first byte, and then the pieces
    archive = await client.download(job, tmp_path / "out.zip", verify=True)
    assert members(archive.read_bytes()) == {"0.bin": sha256(noise(40 * MIB))}
    assert proxy.connections > 8


async def test_files_that_cannot_be_read_do_not_stop_the_others(client: AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a")
    shrunk = tmp_path / "b.txt"
    shrunk.write_bytes(b"b")
    files = [
        LocalFile(path=tmp_path / "a.txt", name="a.txt", size=1),
        LocalFile(path=shrunk, name="b.txt", size=1000),
        LocalFile(path=tmp_path / "gone.txt", name="gone.txt", size=5),
    ]
    results = {result.local.name: result async for result in client.upload_many(files)}
    assert results["a.txt"].file is not None
    assert "became shorter" in str(results["b.txt"].error)
    assert "No such file" in str(results["gone.txt"].error)
    assert [file.name async for file in client.files()] == ["a.txt"]


# The command line


@dataclass
class Shell:
    """Runs commands as a user."""

    environment: dict[str, str]
    folder: Path

    async def start(
        self, *words: str, stdin: int | None = None, stderr: int | None = None, env: dict[str, str] | None = None
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            COMMAND,
            *words,
            cwd=self.folder,
            env=self.environment | (env or {}),
            stdin=asyncio.subprocess.PIPE if stdin is None else stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE if stderr is None else stderr,
        )

    async def run(
        self, *words: str, code: int = 0, given: str = "", env: dict[str, str] | None = None
    ) -> tuple[str, str]:
        """Run a command to its end; return what it says on its two outputs."""
        process = await self.start(*words, env=env)
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate(given.encode())
        assert process.returncode == code, err.decode()
        return out.decode(), err.decode()

    async def interrupt(self, process: asyncio.subprocess.Process, *, code: int = INTERRUPTED) -> tuple[str, str]:
        """Press Ctrl-C and wait for the end."""
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate()
        assert process.returncode == code, err.decode()
        return out.decode(), err.decode()


@pytest.fixture
def shell(stack: Stack, token: str, tmp_path: Path) -> Shell:
    folder = tmp_path / "shell"
    folder.mkdir()
    environment = {
        "HAULYARD_URL": stack.api_url,
        "HAULYARD_TOKEN": token,
        "HAULYARD_CONFIG": str(tmp_path / "config.toml"),
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "TERM": "xterm",
    }
    return Shell(environment, folder)


async def said(process: asyncio.subprocess.Process, text: str) -> str:
    """Return the first line on the standard error that has ``text``."""
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE):
        while line := (await process.stderr.readline()).decode():
            if text in line:
                return line
    raise AssertionError(f"{text!r} was not said")


async def test_a_folder_goes_up_and_comes_down_as_one_zip(shell: Shell, folder: tuple[Path, dict[str, str]]) -> None:
    path, contents = folder
    listed, _ = await shell.run("files", "add", str(path))
    assert {line.split("\t")[1] for line in listed.splitlines()} == contents.keys()
    out, err = await shell.run("get", "-", "-o", "out.zip", "--verify", given=listed)
    assert out == "out.zip\n"
    assert "4 of 4 files" in err
    assert members((shell.folder / "out.zip").read_bytes()) == contents
    await shell.run("get", "1", "-o", "out.zip", code=7)
    names, _ = await shell.run("files", "list")
    assert len(names.splitlines()) == 4
    ids = [line.split("\t")[0] for line in listed.splitlines()]
    await shell.run("files", "rm", *ids)
    assert await shell.run("files", "list") == ("", "")


async def test_json_is_for_programs(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a")
    out, err = await shell.run("files", "add", "--json", str(tmp_path / "a.txt"), "--name", "x/y.txt")
    file = json.loads(out)
    assert (file["name"], file["size_bytes"], err) == ("x/y.txt", 1, "")
    out, err = await shell.run("get", str(file["file_id"]), "--json", "-o", ".", "--filename", "mine")
    ended = json.loads(out)
    assert (ended["status"], ended["path"], err) == ("completed", "mine.zip", "")
    assert (shell.folder / "mine.zip").exists()
    out, _ = await shell.run("jobs", "list", "--json")
    assert [json.loads(line)["job_id"] for line in out.splitlines()] == [ended["job_id"]]
    out, _ = await shell.run("jobs", "status", "--json", ended["job_id"])
    assert json.loads(out)["files"][0]["name"] == "x/y.txt"
    out, _ = await shell.run("jobs", "watch", "--json", ended["job_id"])
    assert json.loads(out.splitlines()[-1])["status"] == "completed"
    _, err = await shell.run("jobs", "status", "--json", "job_x", code=4)
    assert json.loads(err)["error"]["status"] == 404


async def test_an_archive_goes_through_a_pipe(shell: Shell, client: AsyncClient) -> None:
    [file_id] = await upload(client, 5 * MIB)
    process = await shell.start("get", str(file_id), "-o", "-")
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert members(out) == {"0.bin": sha256(noise(5 * MIB))}


async def test_a_job_is_started_here_and_fetched_there(shell: Shell, client: AsyncClient) -> None:
    [file_id] = await upload(client, 70_000)
    job_id = (await shell.run("get", str(file_id), "--detach", "--priority", "10"))[0].strip()
    assert (await shell.run("get", "--job", job_id, "-q", "-o", "a.zip"))[1] == ""
    assert (await shell.run("jobs", "download", job_id, "-o", "b.zip"))[0] == "b.zip\n"
    assert (shell.folder / "a.zip").read_bytes() == (shell.folder / "b.zip").read_bytes()
    shown, _ = await shell.run("jobs", "status", job_id)
    assert "completed" in shown
    shown, _ = await shell.run("jobs", "list", "--status", "completed")
    assert shown.startswith(job_id)
    assert (await shell.run("jobs", "rm", job_id))[0] == f"{job_id}\n"
    await shell.run("jobs", "status", job_id, code=4)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["get"], 2, "Give either file ids or --job"),
        (["get", "x"], 2, "is no id of a file"),
        (["get", "1", "1"], 2, "#/file_ids/1"),
        (["get", "1", "--priority", "11"], 2, "--priority"),
        (["frobnicate"], 2, "No such command"),
        (["get", "999999999"], 1, "not found"),
        (["get", "1", "-o", "nothing/out.zip"], 7, "no such folder"),
        (["get", "--job", "job_x"], 4, "no job"),
        (["files", "rm", "999999999"], 4, "no file"),
        (["files", "add", "nothing"], 7, "no such file"),
        (["jobs", "list", "--url", f"http://{DEAD}"], 5, "cannot be reached"),
        (["jobs", "list", "--url", "moo"], 3, "no address"),
    ],
)
async def test_the_exit_code_says_what_went_wrong(shell: Shell, words: list[str], code: int, says: str) -> None:
    _, err = await shell.run(*words, code=code)
    assert says in err
    assert "Traceback" not in err


async def test_without_a_good_token_nothing_is_done(shell: Shell) -> None:
    _, err = await shell.run("jobs", "list", code=3, env={"HAULYARD_TOKEN": ""})
    assert "haulyard login" in err
    await shell.run("jobs", "list", code=3, env={"HAULYARD_TOKEN": "moo"})


async def test_who_logs_in_needs_no_environment(shell: Shell, token: str, tmp_path: Path) -> None:
    await shell.run("login", code=3, given="wrong\n", env={"HAULYARD_TOKEN": ""})
    out, _ = await shell.run("login", given=f"{token}\n", env={"HAULYARD_TOKEN": ""})
    assert out.startswith("Logged in to http")
    nothing = {"HAULYARD_TOKEN": "", "HAULYARD_URL": ""}
    await shell.run("jobs", "list", env=nothing)
    await shell.run("logout", env=nothing)
    await shell.run("jobs", "list", code=3, env=nothing)
    assert not (tmp_path / "config.toml").exists()


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
async def test_shells_complete_commands(shell: Shell, name: str) -> None:
    out, _ = await shell.run("completion", name)
    assert "_HAULYARD_COMPLETE" in out
    out, _ = await shell.run(
        env={"_HAULYARD_COMPLETE": "bash_complete", "COMP_WORDS": "haulyard jobs wa", "COMP_CWORD": "2"}
    )
    assert "watch" in out


async def until_at_work(client: AsyncClient, job_id: str) -> None:
    async with asyncio.timeout(PATIENCE):
        async for update in client.watch(job_id):
            if update.status is JobStatus.PROCESSING:
                return


async def test_ctrl_c_cancels_the_job_that_was_started_here(shell: Shell, client: AsyncClient, still: None) -> None:
    [file_id] = await upload(client, MIB)
    process = await shell.start("get", str(file_id))
    job_id = (await said(process, "job_")).partition(":")[0]
    await until_at_work(client, job_id)
    _, err = await shell.interrupt(process)
    assert f"{job_id} is cancelled" in err
    ended = await client.wait(job_id, timeout=PATIENCE)
    assert ended.status is JobStatus.CANCELLED
    _, err = await shell.run("jobs", "watch", job_id, code=1)
    assert "cancelled" in err


async def test_ctrl_c_leaves_a_job_that_was_joined(
    shell: Shell, client: AsyncClient, stack: Stack, still: None
) -> None:
    [file_id] = await upload(client, MIB)
    job = await client.initiate([file_id])
    process = await shell.start("jobs", "watch", job.job_id)
    assert process.stdout is not None
    assert b"0/1" in await process.stdout.readline()
    _, err = await shell.interrupt(process)
    assert "goes on without you" in err
    process = await shell.start("get", str(file_id), "--on-interrupt", "detach", "-o", "b.zip")
    await said(process, "job_")
    _, err = await shell.interrupt(process)
    again = err.partition("to come back: ")[2].split()
    assert again[:3] == ["haulyard", "get", "--job"]
    go_on(stack)
    await shell.run(*again[1:])
    assert (shell.folder / "b.zip").exists()


@dataclass
class Terminal:
    """The screen and keyboard of one command."""

    process: asyncio.subprocess.Process
    master: int
    shown: bytes = b""

    async def sees(self, text: str) -> None:
        """Wait until something is on the screen, from what was seen last."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            while text.encode() not in self.shown:
                readable = asyncio.Event()
                loop.add_reader(self.master, readable.set)
                try:
                    await readable.wait()
                finally:
                    loop.remove_reader(self.master)
                self.shown += os.read(self.master, 65536)
        self.shown = self.shown.partition(text.encode())[2]

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def press_ctrl_c(self) -> None:
        self.process.send_signal(signal.SIGINT)


@asynccontextmanager
async def on_terminal(shell: Shell, *words: str) -> AsyncIterator[Terminal]:
    """Run a command on a terminal; it has to end as one that was interrupted."""
    master, slave = pty.openpty()
    try:
        process = await shell.start(*words, stdin=slave, stderr=slave)
        yield Terminal(process, master)
        assert await asyncio.wait_for(process.wait(), PATIENCE) == INTERRUPTED
    finally:
        os.close(master)
        os.close(slave)


async def test_on_a_terminal_ctrl_c_asks(shell: Shell, client: AsyncClient, still: None) -> None:
    job = await client.initiate(await upload(client, 5 * MIB))
    await until_at_work(client, job.job_id)
    words = ("get", "--job", job.job_id, "-o", "out.zip")
    async with on_terminal(shell, *words) as terminal:
        await terminal.sees("%")  # the bar
        terminal.press_ctrl_c()
        await terminal.sees("[c]ancel")
        terminal.type("\n")
        await terminal.sees("%")
        terminal.press_ctrl_c()
        await terminal.sees("[d]etach")
        terminal.press_ctrl_c()  # once more is an answer, too
        await terminal.sees("goes on without you")
    async with on_terminal(shell, *words) as terminal:
        await terminal.sees("%")
        terminal.press_ctrl_c()
        await terminal.sees("[c]ancel")
        terminal.type("c\n")
        await terminal.sees("is cancelled")
    ended = await client.wait(job, timeout=PATIENCE)
    assert ended.status is JobStatus.CANCELLED


async def test_ctrl_c_keeps_what_was_downloaded(shell: Shell, client: AsyncClient, proxy: CuttingProxy) -> None:
    job = await client.initiate(await upload(client, 30 * MIB))
    await client.wait(job, timeout=PATIENCE)
    proxy.stop_after = 4 * MIB
    words = ("jobs", "download", job.job_id, "-o", "out.zip")
    process = await shell.start(*words, env={"HTTP_PROXY": proxy.url})
    part = shell.folder / "out.zip.part"
    async with asyncio.timeout(PATIENCE):
        await proxy.stopped.wait()
        # What the proxy has let through is still on its way to the file for a moment.
        while not part.exists() or part.stat().st_blocks * 512 < 2 * MIB:  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.05)
    _, err = await shell.interrupt(process)
    assert "to go on where it stopped: haulyard jobs download" in err
    kept = json.loads((shell.folder / "out.zip.part.json").read_bytes())["done"]
    assert sum(end - start for start, end in kept) > MIB
    assert not (shell.folder / "out.zip").exists()
    await shell.run(*words)
    with zipfile.ZipFile(shell.folder / "out.zip") as archive:
        assert archive.testzip() is None
    assert not (shell.folder / "out.zip.part.json").exists()
