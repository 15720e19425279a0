"""`haulyard files …`."""

from collections.abc import Sequence
from contextlib import aclosing

import click

from haulyard.cli.get import parse_ids
from haulyard.cli.interrupts import Interrupts, Reaction, noticed
from haulyard.cli.output import columns, printable, size_text, time_text
from haulyard.cli.session import Session
from haulyard.client import AsyncClient
from haulyard.errors import UploadError
from haulyard.models import File
from haulyard.transfer.naming import LocalFile, local_files


async def add_files(
    session: Session, what: tuple[str, ...], *, name: str | None, prefix: str, parallel: int, ids_only: bool
) -> None:
    """Add files to the catalogue, and show their ids.

    WHAT is a file or a folder of this machine, which are uploaded (a folder with all that is below it, under its own
    name), or an address of something that is there: s3://bucket/key, or a URL that the server may archive from.
    """
    sources = [item for item in what if "://" in item]
    local = [file for item in what if "://" not in item for file in local_files(item, prefix=prefix)]
    if name is not None:
        if len(sources) + len(local) != 1:
            raise click.UsageError("--name is for one file.")
        local = [LocalFile(path=file.path, name=name, size=file.size) for file in local]
    adding = _Adding(session, ids_only=ids_only)
    async with noticed() as interrupts, session.client() as client:
        if name is not None and sources:
            adding.show(await client.add_file(sources[0], name=name))
        elif sources:
            for file in await client.add_files(sources):
                adding.show(file)
        if local:
            await adding.upload(client, interrupts, local, parallel=parallel)


class _Adding:
    """Shows each file when it is there, and keeps what went wrong for the end."""

    def __init__(self, session: Session, *, ids_only: bool) -> None:
        self._output = session.output
        self._ids_only = ids_only

    def show(self, file: File) -> None:
        """Show a file that was added."""
        line = str(file.file_id) if self._ids_only else f"{file.file_id}\t{file.name}"
        # A tab is not printable, and names with one do not exist.
        if self._output.as_json:
            self._output.result(file)
        else:
            click.echo("\t".join(printable(cell) for cell in line.split("\t")))

    async def upload(
        self, client: AsyncClient, interrupts: Interrupts, local: Sequence[LocalFile], *, parallel: int
    ) -> None:
        """Upload all, and show each as soon as it is there.

        Raises:
            UploadError: some were not uploaded.
        """
        total = sum(file.size for file in local)
        failed = 0
        with self._output.bar(f"{len(local)} files", total) as bar:

            async def work() -> None:
                nonlocal failed
                async with aclosing(client.upload_many(local, parallel=parallel, on_sent=bar.advance)) as results:
                    async for result in results:
                        if result.file is not None:
                            self.show(result.file)
                        else:
                            failed += 1
                            self._output.warn(str(result.error))

            await interrupts.run(work(), self._stop)
        if failed:
            raise UploadError(f"{failed} of {len(local)} files were not uploaded")

    async def _stop(self) -> Reaction:
        self._output.note("Stopped; the files that were shown are there")
        return Reaction.STOP


async def list_files(session: Session, *, prefix: str | None, limit: int) -> None:
    """List files, the newest first."""
    async with session.client() as client:
        files = [file async for file in client.files(prefix=prefix, limit=limit)]
    if session.output.as_json:
        for file in files:
            session.output.result(file)
    elif files:
        for line in columns([_row(file) for file in files]):
            click.echo(line)


def _row(file: File) -> tuple[str, ...]:
    return (
        str(file.file_id),
        file.status,
        size_text(file.size_bytes),
        time_text(file.created_at),
        printable(file.name),
    )


async def remove_files(session: Session, file_ids: tuple[str, ...]) -> None:
    """Take files out of the catalogue; the bytes of those that were uploaded go, too."""
    async with session.client() as client:
        for file_id in parse_ids(file_ids):
            await client.delete_file(file_id)
            session.output.result({"file_id": file_id, "deleted": True}, str(file_id))
