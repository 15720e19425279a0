"""Sends tasks to their lanes, again when they are due, and takes them back."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import nats.js.errors
from nats.js import JetStreamContext

from haulyard_chassis.broker import TRACEPARENT, AlreadyPendingError, Publisher
from haulyard_chassis.database import Connection, Pool
from haulyard_contracts import TERMINAL, Task, TaskKind, Topology
from haulyard_orchestrator import job_records, part_records
from haulyard_orchestrator.job_records import Job

_SEND_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Window:
    """How much of a job is sent at a time: what is not sent yet cannot hold the work of others up.

    Args:
        per_user: tasks of one user that are under way, shared by the jobs of that user.
        per_job: tasks that a job may have under way in any case.
    """

    per_user: int = 64
    per_job: int = 8

    def room(self, *, jobs: int, sent: int) -> int:
        """Return how many more tasks of a job may be sent; negative if there are more than enough.

        Args:
            jobs: of the same user that run, this one among them.
            sent: tasks of this job that are under way.
        """
        return max(self.per_user // max(jobs, 1), self.per_job) - sent


class Dispatcher:
    """The way of tasks to archivers. Sending one twice is harmless: its lane takes it once."""

    def __init__(
        self, *, pool: Pool, publisher: Publisher, stream: JetStreamContext, topology: Topology, window: Window
    ) -> None:
        self._window = window
        self._pool = pool
        self._publisher = publisher
        self._stream = stream
        self._topology = topology

    @property
    def can_send(self) -> bool:
        """Whether the broker is there."""
        return self._publisher.is_connected

    async def send_ready(self, connection: Connection, job: Job, *, sent: int) -> None:
        """Send tasks of a job that are ready, as many as its user may have under way. The job must be locked.

        Args:
            connection: inside a transaction.
            job: the job.
            sent: tasks of it that are under way already.
        """
        room = self._window.room(jobs=await job_records.running(connection, job.user_id), sent=sent)
        if room > 0:
            ready = await part_records.take_ready(connection, job.id, limit=room)
            await self.send(job, [row.task for row in ready])

    async def send(self, job: Job, tasks: Sequence[Task]) -> None:
        """Send tasks."""
        for start in range(0, len(tasks), _SEND_AT_ONCE):
            await asyncio.gather(*(self.send_task(job, task) for task in tasks[start : start + _SEND_AT_ONCE]))

    async def send_task(self, job: Job, task: Task) -> bool:
        """Publish a task; return False if it is in its lane already."""
        subject = self._topology.task(job.priority, task.kind, task.job_id, task.generation, task.number)
        phase = "p" if task.kind is TaskKind.PREPARE else ""
        message_id = f"{task.job_id}:{task.generation}:{phase}{task.number}:{task.attempt}"
        headers = {TRACEPARENT: job.traceparent} if job.traceparent else {}
        try:
            await self._publisher.publish(subject, task, message_id=message_id, headers=headers)
        except AlreadyPendingError:
            return False
        return True

    async def send_due(self, *, limit: int) -> int:
        """Send the tasks whose next attempt is due; return how many."""
        async with self._pool.acquire() as connection, connection.transaction():
            due = await part_records.due(connection, limit=limit)
            for job_id, phase, number in due:
                job = await job_records.get(connection, job_id)
                row = await part_records.get_task(connection, job_id, phase, number)
                if job is None or row is None:
                    continue
                if job.status in TERMINAL or await self.send_task(job, row.task):
                    await part_records.mark_queued(connection, job_id, phase, number)
                else:
                    # The last attempt's message is not acknowledged yet.
                    await part_records.put_off(connection, job_id, phase, number, timedelta(seconds=1))
        return len(due)

    async def is_requested(self, job_id: str) -> bool:
        """Whether the request for a job is in its stream."""
        try:
            await self._stream.get_last_msg(self._topology.jobs.name, self._topology.any_job_requested(job_id))
        except nats.js.errors.NotFoundError:
            return False
        return True

    async def recall(self, job: Job) -> None:
        """Take the tasks of a job out of their lanes; what an archiver is working on ends in a void result."""
        await self._stream.purge_stream(self._topology.tasks.name, subject=self._topology.tasks_of(job.id))

    async def forget_events(self, job_id: str) -> None:
        """Take the events of a job out of their stream."""
        await self._stream.purge_stream(self._topology.events.name, subject=self._topology.events_of(job_id))
