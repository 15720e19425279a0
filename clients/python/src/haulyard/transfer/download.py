"""An archive from the store to disk: in parallel, resumed where it was left, checked, and named when it is whole."""

import asyncio
import contextlib
import zipfile
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path

from haulyard.errors import ArchiveCorruptError, DownloadError
from haulyard.http import Http
from haulyard.models import ArchiveLink
from haulyard.transfer.naming import safe_filename
from haulyard.transfer.partial import PartialFile
from haulyard.transfer.ranges import Range, pieces
from haulyard.transfer.remote import ArchiveChangedError, GetLink, RemoteArchive

_SMALLEST_PIECE = 8 * 1024 * 1024
_LARGEST_PIECE = 256 * 1024 * 1024
_BEGINNINGS = 3
"""How often a download begins anew because the archive has changed meanwhile."""

OnBytes = Callable[[int, int], None]
"""Is called with the bytes that are here and the bytes of all."""


async def download_archive(
    http: Http,
    get_link: GetLink,
    target: Path,
    *,
    connections: int,
    overwrite: bool,
    verify: bool,
    on_bytes: OnBytes | None,
) -> Path:
    """Bring an archive to disk and return where it is.

    Args:
        http: connections.
        get_link: asks the API for a link.
        target: a file's name, or a folder, in which the archive gets the name that its job gave it.
        connections: how many at the same time.
        overwrite: whether a file of this name may be replaced.
        verify: whether to read it all again and check each member's CRC-32.
        on_bytes: is told how far it is.

    Raises:
        ApiError, ConnectionFailedError: the API gives no link.
        DownloadError: it cannot be done; what has arrived is kept for the next try.
        ArchiveCorruptError: what has arrived is not right; nothing is kept.
    """
    remote = RemoteArchive(http, get_link)
    link = await remote.link()
    path = _path_of(target, link)
    if not overwrite:
        _check_free(path)
    with PartialFile(path) as part:
        for _ in range(_BEGINNINGS):
            with contextlib.suppress(ArchiveChangedError):
                await _fetch(remote, part, connections=connections, on_bytes=on_bytes)
                break
        else:
            raise DownloadError("The archive changed again and again while it was downloaded")
        if verify:
            await _verify(part)
        part.finish(overwrite=overwrite)
    return path


def _path_of(target: Path, link: ArchiveLink) -> Path:
    """Return the file's name: in a folder, the one that the job gave the archive."""
    return target / safe_filename(link.filename, fallback=f"{link.job_id}.zip") if target.is_dir() else target


def _check_free(path: Path) -> None:
    if path.exists():
        raise DownloadError(f"{path} exists already")


async def stream_archive(http: Http, get_link: GetLink) -> AsyncGenerator[bytes, None]:
    """Yield an archive's bytes in order.

    Raises:
        ApiError, ConnectionFailedError: the API gives no link.
        DownloadError: it cannot be done, or the archive has changed midway.
    """
    remote = RemoteArchive(http, get_link)
    identity = await remote.identify()
    try:
        async for block in remote.read(identity, 0, identity.size):
            yield block
    except ArchiveChangedError as error:
        raise DownloadError("The archive has changed while it was read") from error


async def _fetch(remote: RemoteArchive, part: PartialFile, *, connections: int, on_bytes: OnBytes | None) -> None:
    identity = await remote.identify()
    part.begin(identity)
    left = part.left() if remote.has_ranges else [(0, identity.size)]
    if remote.has_ranges:
        left = pieces(left, connections=connections, smallest=_SMALLEST_PIECE, largest=_LARGEST_PIECE)
    todo = iter(left)

    def told() -> None:
        if on_bytes is not None:
            on_bytes(part.bytes_done, identity.size)

    async def work(todo: Iterator[Range]) -> None:
        for start, end in todo:  # shared: whoever is free takes the next
            position = start
            async with contextlib.aclosing(remote.read(identity, start, end)) as blocks:
                async for block in blocks:
                    await part.write(position, block)
                    position += len(block)
                    told()

    told()
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(connections, len(left))):
                group.create_task(work(todo))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _verify(part: PartialFile) -> None:
    reason = await asyncio.to_thread(_fault_of_zip, part.path)
    if reason is not None:
        part.discard()
        raise ArchiveCorruptError(f"{part.target.name}: {reason}")


def _fault_of_zip(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError) as error:
        return str(error) or type(error).__name__
    return None if wrong is None else f"the checksum of {wrong} is wrong"
