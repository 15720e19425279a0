"""`make demo`: real files of this machine, one real job, and the proof that its archive is right."""

import asyncio
import io
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec

from haulyard_devstack.demo_check import differences, self_test
from haulyard_devstack.demo_client import AcceptedJob, DemoClient, Progress
from haulyard_devstack.demo_errors import DemoError
from haulyard_devstack.demo_files import DemoFile, places, select_files
from haulyard_devstack.demo_progress import megabytes, progress
from haulyard_devstack.demo_stack import Target, demo_target
from haulyard_devstack.stack import default_root

_PARALLEL_UPLOADS = 12
_JOB_TIMEOUT = 600.0
_SHOWN_DIFFERENCES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """A file that is in the store."""

    file: DemoFile
    file_id: int
    sha256: str


async def run(root: Path | None = None) -> int:
    """Run the demonstration from start to end; return the exit code.

    Raises:
        DevstackError: Something could not be started, did not answer, or was not right.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # names of files may be beyond what the terminal can show
    root = (root or default_root()).absolute()
    async with demo_target(root) as target:
        work = asyncio.create_task(_demonstrate(target, _folder(root)))
        watch = asyncio.ensure_future(target.child_ended())
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise DemoError(f"{watch.result()} (logs: {root / 'logs'})")
            work.result()
        except (OSError, httpx.HTTPError, msgspec.MsgspecError) as error:
            raise DemoError(f"{type(error).__name__}: {error} (logs: {root / 'logs'})") from error
        finally:
            work.cancel()
            watch.cancel()
            await asyncio.gather(work, watch, return_exceptions=True)
        if not target.stays:
            print("\nStopping everything; the data and the archive stay.", flush=True)
    return 0


def _folder(root: Path) -> Path:
    """Return where the archive goes: beside the default data directory, inside of one that was chosen."""
    return root / "demo" if os.environ.get("HAULYARD_HOME") else root.parent / "demo"


async def _demonstrate(target: Target, folder: Path) -> None:
    work = folder / "work"
    await asyncio.to_thread(_clear, folder, work)
    try:
        async with DemoClient(target.api_url, target.token) as client:
            selection = await asyncio.to_thread(select_files, work, places())
            uploaded = await _upload(client, selection.all)
            wanted = uploaded[: len(selection.job)]
            job, seconds = await _do_job(client, wanted)
            archive = await _download(client, job, folder)
            await _check(client, job, wanted, archive)
            again = await _do_again(client, wanted[:-1])
    finally:
        await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)
    _summarize(target, wanted, archive, seconds, again)


def _clear(folder: Path, work: Path) -> None:
    """Remove what an earlier run left behind."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for leftover in (*folder.glob("*.zip"), *folder.glob("*.part")):
        leftover.unlink()


async def _upload(client: DemoClient, files: Sequence[DemoFile]) -> list[Uploaded]:
    """Upload all files, several at a time; return them in the same order."""
    total = sum(file.size for file in files)
    sizes = f"{min(file.size for file in files)} bytes to {megabytes(max(file.size for file in files))}"
    _say(f"\n1. Uploading {len(files)} files of this machine, {sizes}, through presigned links")
    done: dict[int, Uploaded] = {}
    sent = 0
    started = time.monotonic()
    added = await client.add_files([file.name for file in files])
    # Large files first: the small ones fill the gaps.
    waiting = iter(sorted(enumerate(files), key=lambda item: -item[1].size))
    with progress("uploading", total) as report:

        def on_bytes(count: int) -> None:
            nonlocal sent
            sent += count
            report(sent)

        async def work() -> None:
            for position, file in waiting:
                place = added[position]
                sha256 = await client.upload(place.upload, file.path, file.size, on_bytes)
                done[position] = Uploaded(file=file, file_id=place.file_id, sha256=sha256)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(_PARALLEL_UPLOADS):
                    group.create_task(work())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
    _say(f"   {megabytes(total)} in {time.monotonic() - started:.1f} s; the SHA-256 of each was noted")
    return [done[position] for position in range(len(files))]


async def _do_job(client: DemoClient, wanted: Sequence[Uploaded]) -> tuple[AcceptedJob, float]:
    """Ask for the archive and follow the job to its end; return how long it took."""
    total = sum(upload.file.size for upload in wanted)
    _say(f"\n2. Asking for {len(wanted)} of them, {megabytes(total)}, as one ZIP")
    return await _follow_job(client, wanted, total)


async def _follow_job(client: DemoClient, wanted: Sequence[Uploaded], total: int) -> tuple[AcceptedJob, float]:
    started = time.monotonic()
    job = await client.start_job([upload.file_id for upload in wanted])
    _say(f"   {job.job_id} was accepted in {(time.monotonic() - started) * 1000:.0f} ms; following it over WebSocket")
    with progress("archiving", total) as report:

        def on_progress(state: Progress) -> None:
            report(state.bytes_current)

        try:
            async with asyncio.timeout(_JOB_TIMEOUT):
                await client.follow(job.websocket_url, on_progress)
        except TimeoutError:
            raise DemoError(f"{job.job_id} was not completed in {_JOB_TIMEOUT:.0f} s") from None
        seconds = time.monotonic() - started
        report(total)
    _say(f"   completed in {seconds:.1f} s")
    return job, seconds


@dataclass(frozen=True, slots=True)
class Again:
    """How a second job went, for files whose checksums are known by then."""

    total: int
    seconds: float
    through: int
    """Bytes of the files that went through the services; the store copied the rest by itself."""


async def _do_again(client: DemoClient, wanted: Sequence[Uploaded]) -> Again:
    """Ask for all of the files but one: no archive is there for these yet, but everything is known of them."""
    total = sum(upload.file.size for upload in wanted)
    _say(f"\n5. Asking for {len(wanted)} of the same files: now their checksums are known")
    job, seconds = await _follow_job(client, wanted, total)
    transfer = (await client.status(job.job_id)).transfer
    return Again(total, seconds, transfer.bytes_through)


async def _download(client: DemoClient, job: AcceptedJob, folder: Path) -> Path:
    """Fetch the archive by its presigned link."""
    link = await client.archive_link(job.job_id)
    archive = folder / Path(link.filename).name
    partial = archive.with_name(f"{archive.name}.part")
    _say(f"\n3. Downloading {archive.name} by its presigned link, straight from the object store")
    received = 0
    started = time.monotonic()
    with progress("downloading", link.size_bytes) as report:

        def on_bytes(count: int) -> None:
            nonlocal received
            received += count
            report(received)

        await client.download(link.download_url, partial, on_bytes)
    if received != link.size_bytes:
        raise DemoError(f"{partial} has {received} bytes, and {link.size_bytes} were announced")
    partial.replace(archive)
    _say(f"   {megabytes(received)} in {time.monotonic() - started:.1f} s")
    return archive


async def _check(client: DemoClient, job: AcceptedJob, wanted: Sequence[Uploaded], archive: Path) -> None:
    """Compare the archive with the files that it was made from.

    Raises:
        DemoError: Something differs.
    """
    _say("\n4. Checking the archive")
    _say(f"   {await self_test(archive)}: no errors")
    state = await client.status(job.job_id)
    name_of = {file.file_id: file.name for file in state.files if file.status == "completed"}
    found = [
        f"not archived: {upload.file.name} (file {upload.file_id})"
        for upload in wanted
        if name_of.get(upload.file_id) is None
    ]
    missing = len(found)
    expected = {name: upload.sha256 for upload in wanted if (name := name_of.get(upload.file_id)) is not None}
    found += await asyncio.to_thread(differences, archive, expected)
    if found:
        more = f"\n  and {len(found) - _SHOWN_DIFFERENCES} more" if len(found) > _SHOWN_DIFFERENCES else ""
        lines = "\n".join(f"  {line}" for line in found[:_SHOWN_DIFFERENCES])
        raise DemoError(f"{archive} is not what was asked for:\n{lines}{more}")
    _say(f"   {len(expected)} of {len(wanted)} members have the SHA-256 of their source; {missing} files are missing")


def _summarize(target: Target, wanted: Sequence[Uploaded], archive: Path, seconds: float, again: Again) -> None:
    total = sum(upload.file.size for upload in wanted)
    until = "" if target.stays else " (while it runs: `make up` starts it, keeps it running and signs you in)"
    _say(f"""
All is right.
  Files               {len(wanted)}, {total:,} bytes ({megabytes(total)})
  Job                 {seconds:.2f} s from the request to the finished archive, {total / 1e6 / seconds:,.0f} MB/s
  Second job          {again.seconds:.2f} s; {again.through / again.total:.1%} of the bytes went through the services
  Archive             {archive}
  Page                {target.api_url}/{until}
  API                 {target.api_url}/v1
  API docs            {target.api_url}/docs""")


def _say(text: str) -> None:
    print(text, flush=True)
