"""A job on the screen until it is over, and its archive on its way to disk; what Ctrl-C means in both."""

import contextlib
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from haulyard.cli.interrupts import Interrupts, Reaction
from haulyard.cli.output import Output, size_text
from haulyard.client import AnyJob, AsyncClient, raise_for_end
from haulyard.errors import ConflictError, HaulyardError
from haulyard.models import Job, JobStatus, Update

OnInterrupt = Literal["auto", "ask", "cancel", "detach"]

STDOUT = "-"


@dataclass(frozen=True, kw_only=True)
class Following:
    """One job that the user waits for."""

    client: AsyncClient
    output: Output
    interrupts: Interrupts
    job: AnyJob
    is_ours: bool
    """Whether this command started it."""
    on_interrupt: OnInterrupt
    go_on: str
    """The command with which to go on later."""

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self.job if isinstance(self.job, str) else self.job.job_id

    async def until_over(self, *, each: Callable[[Update], None] | None = None) -> Job:
        """Show a bar until the job is over; return how it ended.

        Args:
            each: is called with each state, too.

        Raises:
            InterruptedByUser: the user wants no more of it.
            HaulyardError: it cannot be followed.
        """
        with self.output.bar(JobStatus.QUEUED) as bar:

            async def follow() -> None:
                async with contextlib.aclosing(self.client.watch(self.job)) as updates:
                    async for update in updates:
                        bar.job(update)
                        if each is not None:
                            each(update)

            await self.interrupts.run(follow(), self._decide)
        return await self.client.status(self.job)

    async def until_archived(self) -> Job:
        """Wait until there is an archive, and warn of the files that are not in it.

        Raises:
            JobEndedBadlyError: there will be none.
            InterruptedByUser, HaulyardError: as `until_over`.
        """
        job = await self.until_over()
        raise_for_end(job)
        for file in job.failed_files:
            reason = f": {file.error.message}" if file.error else ""
            self.output.warn(f"not in the archive: file {file.file_id}{reason}")
        return job

    async def _decide(self) -> Reaction:
        """Say what becomes of the job now that Ctrl-C was pressed."""
        match await self._wish():
            case "go on":
                return Reaction.GO_ON
            case "cancel":
                await self._cancel()
            case _:
                self.output.note(f"{self.job_id} goes on without you; to come back: {self.go_on}")
        return Reaction.STOP

    async def _wish(self) -> str:
        wish = self.on_interrupt
        if wish == "auto":
            # Who started a job ends it; who joined one leaves it.
            wish = "ask" if self.output.can_ask else "cancel" if self.is_ours else "detach"
        if wish != "ask":
            return wish
        with self.output.paused():
            answer = await self.interrupts.answer("\n[c]ancel the job, [d]etach and let it go on, or [Enter] to wait? ")
        if answer is None:
            return "detach"
        return {"c": "cancel", "d": "detach"}.get(answer[:1].lower(), "go on")

    async def _cancel(self) -> None:
        try:
            await self.client.cancel(self.job)
        except ConflictError:
            self.output.note(f"{self.job_id} is over already; to come back: {self.go_on}")
        except HaulyardError as error:
            self.output.warn(f"{self.job_id} could not be cancelled: {error}")
        else:
            self.output.note(f"{self.job_id} is cancelled")

    async def fetch(self, target: str, *, connections: int, overwrite: bool, verify: bool) -> Path | None:
        """Bring the archive to disk, or to the standard output, for which None is returned.

        Raises:
            InterruptedByUser: what has arrived is kept.
            HaulyardError: it cannot be done.
        """
        if target == STDOUT:
            await self.interrupts.run(self._to_stdout(), self._leave(""))
            return None
        with self.output.bar("downloading") as bar:

            def show(done: int, total: int) -> None:
                bar.show("downloading" if done < total or not verify else "checking", done, total)

            work = self.client.download(
                self.job, target, connections=connections, overwrite=overwrite, verify=verify, on_bytes=show
            )
            return await self.interrupts.run(work, self._leave(f"; to go on where it stopped: {self.go_on}"))

    async def _to_stdout(self) -> None:
        async with contextlib.aclosing(self.client.stream(self.job)) as blocks:
            async for block in blocks:
                sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()

    def _leave(self, hint: str) -> Callable[[], Awaitable[Reaction]]:
        async def react() -> Reaction:
            self.output.note(f"The download was stopped{hint}")
            return Reaction.STOP

        return react


def show_archive(output: Output, job: Job, path: Path) -> None:
    """Show where an archive is now."""
    size = path.stat().st_size
    output.note(f"{len(job.files) - len(job.failed_files)} of {len(job.files)} files, {size_text(size)}")
    output.result({**job.to_dict(), "path": str(path)}, str(path))
