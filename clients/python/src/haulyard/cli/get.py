"""`haulyard get`: files to one archive on disk, in one command."""

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from haulyard.cli.following import STDOUT, Following, OnInterrupt, show_archive
from haulyard.cli.interrupts import noticed
from haulyard.cli.session import Session
from haulyard.errors import DownloadError
from haulyard.models import AcceptedJob

OUTPUT_OPTION = click.option(
    "-o", "--output", metavar="PATH", help="A file's name, a folder, or - for the standard output. [default: .]"
)
CONNECTIONS_OPTION = click.option(
    "--connections", type=click.IntRange(1, 32), default=4, show_default=True, help="Ranges fetched side by side."
)
FORCE_OPTION = click.option("-f", "--force", is_flag=True, help="Replace a file that is there.")
VERIFY_OPTION = click.option("--verify", is_flag=True, help="Read the archive again and check each member's CRC-32.")


async def get(
    session: Session,
    file_ids: tuple[str, ...],
    *,
    output: str | None,
    job_id: str | None,
    detach: bool,
    on_interrupt: OnInterrupt,
    connections: int,
    force: bool,
    verify: bool,
    **options: Any,
) -> None:
    """Get files as one ZIP.

    FILE_IDS are ids of files; - reads them from the standard input. Ctrl-C asks whether to cancel the job or to let it
    go on; with --job, an existing job is waited for, and a download that was cut short goes on where it was.
    """
    if bool(file_ids) == bool(job_id):
        raise click.UsageError("Give either file ids or --job.")
    target = checked_target(output, force=force, piped=session.output.as_json)
    async with noticed() as interrupts, session.client() as client:
        job: AcceptedJob | str
        if job_id:
            job = job_id
        else:
            job = await client.initiate(parse_ids(file_ids), **options)
            session.output.note(f"{job.job_id}: {job.total_files} files")
            if detach:
                session.output.result(job, job.job_id)
                return
        following = Following(
            client=client,
            output=session.output,
            interrupts=interrupts,
            job=job,
            is_ours=not job_id,
            on_interrupt=on_interrupt,
            go_on=_go_on(job, output),
        )
        ended = await following.until_archived()
        path = await following.fetch(target, connections=connections, overwrite=force, verify=verify)
        if path is not None:
            show_archive(session.output, ended, path)


def parse_ids(given: Iterable[str]) -> list[int]:
    """Return the ids of files that the user named, those of the standard input among them.

    Raises:
        click.UsageError: one of them is none.
    """
    words: list[str] = []
    for word in given:
        # Of a line only the first word: so the output of `files add` and `files list` can be read as it is.
        words += [line.split()[0] for line in sys.stdin if line.strip()] if word == "-" else [word]
    for word in words:
        if not (word.isascii() and word.isdigit()):
            raise click.UsageError(f"{word!r} is no id of a file: that is a number, such as 70000.")
    return [int(word) for word in words]


def checked_target(output: str | None, *, force: bool, piped: bool) -> str:
    """Return where the archive goes; say what is wrong with that before there is a job."""
    target = output or "."
    if target == STDOUT:
        if piped or sys.stdout.isatty():
            raise click.UsageError("The archive goes to the standard output only if it is no terminal, without --json.")
        return target
    path = Path(target)
    if path.exists() and not path.is_dir() and not force:
        raise DownloadError(f"{target} exists already; --force replaces it")
    if not path.parent.is_dir():
        raise DownloadError(f"{path.parent}: there is no such folder")
    return target


def _go_on(job: AcceptedJob | str, output: str | None) -> str:
    job_id = job if isinstance(job, str) else job.job_id
    return f"haulyard get --job {job_id}" + (f" -o {shlex.quote(output)}" if output else "")
