"""`haulyard jobs …`."""

import click
import msgspec

from haulyard.cli.following import Following, show_archive
from haulyard.cli.get import checked_target
from haulyard.cli.interrupts import noticed
from haulyard.cli.output import columns, printable, size_text, time_text
from haulyard.cli.session import Session
from haulyard.client import raise_for_end
from haulyard.models import Job, JobStatus, Update


async def list_jobs(session: Session, *, status: str | None, limit: int) -> None:
    """List jobs, the newest first."""
    async with session.client() as client:
        jobs = [job async for job in client.jobs(status=JobStatus(status) if status else None, limit=limit)]
    if session.output.as_json:
        for job in jobs:
            session.output.result(job)
    elif jobs:
        for line in columns([_row(job) for job in jobs]):
            click.echo(line)


def _row(job: Job) -> tuple[str, ...]:
    progress = f"{job.progress.current}/{job.progress.total}"
    cells = (job.job_id, job.status, progress, size_text(job.size_bytes), time_text(job.created_at), job.filename or "")
    return tuple(printable(cell) for cell in cells)


async def show_job(session: Session, job_id: str) -> None:
    """Show how a job is, file by file."""
    async with session.client() as client:
        job = await client.status(job_id)
    session.output.result(job, *_description(job))


def _description(job: Job) -> list[str]:
    progress = job.progress
    lines = [
        ("job", job.job_id),
        ("status", job.status),
        ("files", f"{progress.current} of {progress.total}"),
        ("bytes", f"{size_text(progress.bytes_current)} of {size_text(progress.bytes_total or None)}"),
        ("archive", f"{job.filename or '-'}, {size_text(job.size_bytes)}"),
        ("created", time_text(job.created_at)),
        ("completed", time_text(job.completed_at)),
        ("expires", time_text(job.expires_at)),
    ]
    if job.error is not None:
        lines.append(("error", f"{job.error.code}: {job.error.message}"))
    shown = [f"{name:<10}{value}" for name, value in lines]
    if job.files:
        rows = [
            (
                f"  {file.file_id}",
                file.status,
                size_text(file.size_bytes),
                printable(file.name or "") + (f"  {file.error.message}" if file.error else ""),
            )
            for file in job.files
        ]
        shown += columns(rows)
    return shown


async def cancel_jobs(session: Session, job_ids: tuple[str, ...]) -> None:
    """Stop jobs; nothing of them is left in the store."""
    async with session.client() as client:
        for job_id in job_ids:
            await client.cancel(job_id)
            session.output.result({"job_id": job_id, "cancelled": True}, job_id)


async def retry_job(session: Session, job_id: str) -> None:
    """Start a new job for the files of a job that failed, and show its id."""
    async with session.client() as client:
        accepted = await client.retry(job_id)
    session.output.result(accepted, accepted.job_id)


async def remove_jobs(session: Session, job_ids: tuple[str, ...]) -> None:
    """Delete jobs and their archives."""
    async with session.client() as client:
        for job_id in job_ids:
            await client.delete(job_id)
            session.output.result({"job_id": job_id, "deleted": True}, job_id)


async def watch_job(session: Session, job_id: str) -> None:
    """Follow a job until it is over; Ctrl-C leaves it."""

    def show(update: Update) -> None:
        if session.output.as_json:
            session.output.result(msgspec.structs.replace(update))
        elif not session.output.is_live:
            progress = update.progress
            click.echo(f"{update.status}  {progress.current}/{progress.total}  {size_text(progress.bytes_current)}")

    async with noticed() as interrupts, session.client() as client:
        following = Following(
            client=client,
            output=session.output,
            interrupts=interrupts,
            job=job_id,
            is_ours=False,
            on_interrupt="detach",
            go_on=f"haulyard jobs watch {job_id}",
        )
        job = await following.until_over(each=show)
    session.output.note(f"{job_id} is {job.status}")
    raise_for_end(job)


async def download_job(
    session: Session, job_id: str, *, output: str | None, connections: int, force: bool, verify: bool
) -> None:
    """Download the archive of a job that is completed."""
    target = checked_target(output, force=force, piped=session.output.as_json)
    async with noticed() as interrupts, session.client() as client:
        job = await client.status(job_id)
        raise_for_end(job)
        following = Following(
            client=client,
            output=session.output,
            interrupts=interrupts,
            job=job,
            is_ours=False,
            on_interrupt="detach",
            go_on=f"haulyard jobs download {job_id}" + (f" -o {output}" if output else ""),
        )
        path = await following.fetch(target, connections=connections, overwrite=force, verify=verify)
    if path is not None:
        show_archive(session.output, job, path)
