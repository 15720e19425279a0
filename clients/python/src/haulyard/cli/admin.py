"""`haulyard admin …`: what operators do; the token has the scope ``admin``."""

import click
import msgspec

from haulyard.cli.output import columns, printable, size_text, time_text
from haulyard.cli.session import Session
from haulyard.models import DeadLetter, InspectedJob


async def list_dead_letters(session: Session, *, stream: str | None, limit: int) -> None:
    """List messages that were given up, the oldest first."""
    async with session.client() as client:
        letters = [letter async for letter in client.dead_letters(stream=stream, limit=limit)]
    if session.output.as_json:
        for letter in letters:
            session.output.result(letter)
    elif letters:
        for line in columns([_row(letter) for letter in letters]):
            click.echo(line)


def _row(letter: DeadLetter) -> tuple[str, ...]:
    cells = (
        str(letter.sequence),
        letter.stream,
        time_text(letter.given_up_at),
        size_text(letter.size_bytes),
        letter.job_id or "-",
        letter.reason,
    )
    return tuple(printable(cell) for cell in cells)


async def show_dead_letter(session: Session, sequence: int) -> None:
    """Show a message that was given up, with what it says."""
    async with session.client() as client:
        letter = await client.dead_letter(sequence)
    session.output.result(letter, *_description(letter))


def _description(letter: DeadLetter) -> list[str]:
    lines = [
        ("sequence", str(letter.sequence)),
        ("stream", letter.stream),
        ("subject", letter.subject or "-"),
        ("given up", time_text(letter.given_up_at)),
        ("reason", letter.reason),
        ("job", letter.job_id or "-"),
        ("trace", letter.traceparent or "-"),
    ]
    shown = [f"{name:<10}{value}" for name, value in lines]
    if letter.payload_base64 is not None:
        return [*shown, f"{'base64':<10}{letter.payload_base64}"]
    text = msgspec.json.format(msgspec.json.encode(letter.payload), indent=2).decode()
    return [*shown, *text.splitlines()]


async def replay_dead_letters(
    session: Session, sequences: tuple[int, ...], *, all_of_them: bool, stream: str | None
) -> None:
    """Send messages that were given up again, as they were, to where they were."""
    _check_choice(sequences, all_of_them=all_of_them, stream=stream)
    async with session.client() as client:
        if all_of_them:
            done = await client.replay_dead_letters(stream=stream)
            session.output.result(done, f"{done.replayed} sent again")
            if done.kept:
                session.output.warn(f"{done.kept} cannot be: it is not known where they came from")
            return
        for sequence in sequences:
            await client.replay_dead_letter(sequence)
            session.output.result({"sequence": sequence, "replayed": True}, str(sequence))


async def purge_dead_letters(
    session: Session, sequences: tuple[int, ...], *, all_of_them: bool, stream: str | None
) -> None:
    """Delete messages that were given up, for good."""
    _check_choice(sequences, all_of_them=all_of_them, stream=stream)
    async with session.client() as client:
        if all_of_them:
            deleted = await client.purge_dead_letters(stream=stream)
            session.output.result({"deleted": deleted}, f"{deleted} deleted")
            return
        for sequence in sequences:
            await client.delete_dead_letter(sequence)
            session.output.result({"sequence": sequence, "deleted": True}, str(sequence))


def _check_choice(sequences: tuple[int, ...], *, all_of_them: bool, stream: str | None) -> None:
    if all_of_them == bool(sequences):
        raise click.UsageError("Give either sequences, or --all.")
    if stream is not None and not all_of_them:
        raise click.UsageError("--stream goes with --all.")


async def inspect_job(session: Session, job_id: str) -> None:
    """Show anybody's job, with its tasks and their attempts."""
    async with session.client() as client:
        job = await client.inspect(job_id)
    session.output.result(job, *_inspection(job))


def _inspection(job: InspectedJob) -> list[str]:
    lines = [
        ("job", job.job_id),
        ("user", job.user_id),
        ("status", job.status),
        ("plan", str(job.generation)),
        ("files", _counts(job.files)),
        *((phase, _counts(counts)) for phase, counts in job.tasks.items()),
        ("attempts", str(job.attempts)),
        ("follows", job.follows or "-"),
        ("followers", str(job.followers)),
        ("digest", job.digest or "-"),
        ("updated", time_text(job.updated_at)),
    ]
    if job.error is not None:
        lines.append(("error", f"{job.error.code}: {job.error.message}"))
    shown = [f"{name:<10}{value}" for name, value in lines]
    rows = [
        (
            f"  {task.phase} {task.number}",
            task.status,
            f"{task.attempts} attempts",
            printable(f"{task.error.code}: {task.error.message}" if task.error else "-"),
        )
        for task in job.tried
    ]
    return [*shown, *(columns(rows) if rows else [])]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items()) or "-"
