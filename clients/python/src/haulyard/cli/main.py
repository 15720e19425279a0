"""The commands and their options, and what the process ends with."""

import os
import sys
from importlib import metadata
from typing import Any

import click
import msgspec
from click.shell_completion import get_completion_class

from haulyard.cli import account, admin, files, jobs
from haulyard.cli.exits import Exit, exit_of
from haulyard.cli.get import CONNECTIONS_OPTION, FORCE_OPTION, OUTPUT_OPTION, VERIFY_OPTION, get
from haulyard.cli.interrupts import InterruptedByUser
from haulyard.cli.output import printable
from haulyard.cli.session import command
from haulyard.errors import ApiError, HaulyardError
from haulyard.models import JobStatus

PROGRAM = "haulyard"
_COMPLETE_VARIABLE = "_HAULYARD_COMPLETE"
_STATES = [status.value for status in JobStatus if status is not JobStatus.UNKNOWN]

_JOB = click.argument("job_id", metavar="JOB")
_JOBS = click.argument("job_ids", metavar="JOB...", nargs=-1, required=True)
_SEQUENCES = click.argument("sequences", metavar="[SEQUENCE]...", nargs=-1, type=click.IntRange(1))
_ALL = click.option("--all", "all_of_them", is_flag=True, help="All of them, or all from --stream.")
_STREAM = click.option(
    "--stream", type=click.Choice(["jobs", "tasks", "results", "events"]), help="Only those from this stream."
)
_LIMIT = click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Show this many at most.")


@click.group(name=PROGRAM, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(metadata.version(PROGRAM), prog_name=PROGRAM)
def cli() -> None:
    """Bulk downloads as one ZIP.

    HAULYARD_URL and HAULYARD_TOKEN say where the server is and who is asking, or `haulyard login`.
    """


@cli.group("jobs")
def jobs_group() -> None:
    """See, stop and repeat jobs, and get their archives."""


@cli.group("files")
def files_group() -> None:
    """Add files to the catalogue, and see what is in it."""


@cli.group("admin")
def admin_group() -> None:
    """What operators do; the token needs the scope `admin`."""


@admin_group.group("dead-letters")
def letters_group() -> None:
    """See messages that were given up, send them again, delete them."""


_GET_OPTIONS = (
    click.argument("file_ids", metavar="[FILE_IDS]...", nargs=-1),
    OUTPUT_OPTION,
    click.option("--job", "job_id", metavar="JOB", help="Wait for this job instead of starting one."),
    click.option("--detach", is_flag=True, help="Do not wait: show the job's id and end."),
    click.option(
        "--on-interrupt",
        type=click.Choice(["auto", "ask", "cancel", "detach"]),
        default="auto",
        help="What Ctrl-C does to the job. [default: ask on a terminal; else cancel a job that was started here]",
    ),
    click.option("--filename", help="The name that the archive has where --output does not say another."),
    click.option("--priority", type=click.IntRange(1, 10), help="10 is served first."),
    click.option("--compression", type=click.Choice(["store", "deflate"]), help="How data is kept in the archive."),
    click.option(
        "--on-missing", type=click.Choice(["skip", "fail"]), help="What a file does to the job that is not there."
    ),
    click.option("--webhook-url", metavar="URL", help="Is told when the job ends."),
    click.option("--idempotency-key", metavar="KEY", help="The same key is the same job, however often it is sent."),
    CONNECTIONS_OPTION,
    FORCE_OPTION,
    VERIFY_OPTION,
)


def _with(*options: Any) -> Any:
    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


command(cli, "get")(_with(*_GET_OPTIONS)(get))
command(cli, "login")(account.login)
command(cli, "logout")(account.logout)
command(jobs_group, "list")(
    _with(click.option("--status", type=click.Choice(_STATES), help="Only those in this state."), _LIMIT)(
        jobs.list_jobs
    )
)
command(jobs_group, "status")(_with(_JOB)(jobs.show_job))
command(jobs_group, "watch")(_with(_JOB)(jobs.watch_job))
command(jobs_group, "cancel")(_with(_JOBS)(jobs.cancel_jobs))
command(jobs_group, "retry")(_with(_JOB)(jobs.retry_job))
command(jobs_group, "rm")(_with(_JOBS)(jobs.remove_jobs))
command(jobs_group, "download")(
    _with(_JOB, OUTPUT_OPTION, CONNECTIONS_OPTION, FORCE_OPTION, VERIFY_OPTION)(jobs.download_job)
)
command(files_group, "add")(
    _with(
        click.argument("what", metavar="WHAT...", nargs=-1, required=True),
        click.option("--name", help="The file's path inside archives; for one file."),
        click.option("--prefix", default="", help="A path inside archives to put before the names of uploads."),
        click.option("--parallel", type=click.IntRange(1, 32), default=4, show_default=True, help="Uploads at once."),
        click.option("--ids", "ids_only", is_flag=True, help="Show ids only."),
    )(files.add_files)
)
command(files_group, "list")(
    _with(click.option("--prefix", help="Only those whose name begins so."), _LIMIT)(files.list_files)
)
command(files_group, "rm")(
    _with(click.argument("file_ids", metavar="FILE_ID...", nargs=-1, required=True))(files.remove_files)
)


command(admin_group, "job")(_with(_JOB)(admin.inspect_job))
command(letters_group, "list")(_with(_STREAM, _LIMIT)(admin.list_dead_letters))
command(letters_group, "show")(
    _with(click.argument("sequence", metavar="SEQUENCE", type=click.IntRange(1)))(admin.show_dead_letter)
)
command(letters_group, "replay")(_with(_SEQUENCES, _ALL, _STREAM)(admin.replay_dead_letters))
command(letters_group, "purge")(_with(_SEQUENCES, _ALL, _STREAM)(admin.purge_dead_letters))


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Show the script that makes a shell complete commands: eval "$(haulyard completion bash)"."""
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"There is no completion for {shell}.")
    click.echo(kind(cli, {}, PROGRAM, _COMPLETE_VARIABLE).source())


def main(argv: list[str] | None = None) -> int:
    """Run one command and return the exit code."""
    try:
        cli.main(args=argv, prog_name=PROGRAM, standalone_mode=False, complete_var=_COMPLETE_VARIABLE)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return Exit.USAGE
    except click.ClickException as error:
        error.show()
        return Exit.USAGE
    except (InterruptedByUser, click.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED
    except HaulyardError as error:
        _show(error, as_json="--json" in (sys.argv[1:] if argv is None else argv))
        return exit_of(error)
    except BrokenPipeError:
        # Whoever read our output has had enough. Python would complain once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    return Exit.OK


def _show(error: HaulyardError, *, as_json: bool) -> None:
    code = int(exit_of(error))
    if as_json:
        problem = error.to_dict() if isinstance(error, ApiError) else {"detail": str(error)}
        click.echo(msgspec.json.encode({"error": {**problem, "exit_code": code}}).decode(), err=True)
        return
    click.echo(f"{PROGRAM}: {printable(str(error))}", err=True)
    if isinstance(error, ApiError):
        for field in error.errors:
            where = field.pointer or field.parameter or ""
            click.echo(f"  {printable(where)}: {printable(field.detail)}", err=True)
        if error.trace_id:
            click.echo(f"  trace {printable(error.trace_id)}", err=True)


if __name__ == "__main__":
    sys.exit(main())
