"""Streams, subjects and consumers, defined once; the chassis creates or updates them when a service starts.

All names carry a namespace (``haulyard`` unless set), so that several installations, or tests, share one broker.
"""

from dataclasses import dataclass
from enum import StrEnum

from haulyard_contracts.events import EventType
from haulyard_contracts.requests import JobAction
from haulyard_contracts.tasks import TaskKind

PRIORITIES = range(1, 11)
"""1 to 10; 10 is served first."""

_DAY = 86_400.0


class Retention(StrEnum):
    """When a stream lets go of a message."""

    WORK_QUEUE = "workqueue"
    """As soon as it is acknowledged."""
    LIMITS = "limits"
    """When it is too old."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSpec:
    """A stream: its name, what goes into it, and how long it keeps it."""

    name: str
    subjects: tuple[str, ...]
    retention: Retention
    max_age: float | None = None
    """Seconds; None keeps messages until they are acknowledged."""
    one_per_subject: bool = False
    """Refuse a message while one with the same subject is in the stream: exact, unlike the duplicate window."""
    duplicate_window: float = 120.0
    """Seconds in which a message id is accepted only once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerSpec:
    """A durable pull consumer with explicit acknowledgement."""

    stream: str
    durable: str
    filters: tuple[str, ...]
    ack_wait: float
    """Seconds until a message that nobody answered for is delivered again; receivers at work extend it."""
    max_deliver: int
    """Deliveries after which a receiver moves the message to the dead stream."""
    max_ack_pending: int = 1_000


@dataclass(frozen=True, slots=True)
class Topology:
    """All names of one installation.

    Args:
        namespace: letters, digits, ``-`` and ``_``; the first token of every subject.
    """

    namespace: str = "haulyard"

    def __post_init__(self) -> None:
        plain = self.namespace.replace("-", "").replace("_", "")
        if not plain.isalnum() or not plain.isascii():
            raise ValueError(f"namespace {self.namespace!r} must be letters, digits, '-' and '_'")

    def _stream(self, name: str) -> str:
        return f"{self.namespace.upper()}_{name}"

    # Subjects

    def job_requested(self, priority: int, job_id: str) -> str:
        """Subject of a request; ``*`` for all priorities or jobs."""
        return f"{self.namespace}.jobs.requested.{priority}.{job_id}"

    def any_job_requested(self, job_id: str) -> str:
        """Subject under which a job's request is, whatever its priority."""
        return f"{self.namespace}.jobs.requested.*.{job_id}"

    def job_control(self, job_id: str, action: JobAction) -> str:
        """Subject of a wish about a job; each kind of wish waits at most once."""
        return f"{self.namespace}.jobs.control.{job_id}.{action}"

    def user_erasure(self, erasure_id: str) -> str:
        """Subject of a user's wish to be forgotten."""
        return f"{self.namespace}.jobs.erase.{erasure_id}"

    def task(self, priority: int, kind: TaskKind, job_id: str, generation: int, number: int) -> str:
        """Subject of one task; unique, so that a task is in its stream at most once."""
        return f"{self.namespace}.tasks.{priority}.{kind}.{job_id}.{generation}.{number}"

    def tasks_of(self, job_id: str) -> str:
        """Subject filter for all tasks of a job."""
        return f"{self.namespace}.tasks.*.*.{job_id}.>"

    def result(self, job_id: str) -> str:
        """Subject of the results of a job."""
        return f"{self.namespace}.results.{job_id}"

    def event(self, job_id: str, kind: EventType) -> str:
        """Subject of an event."""
        return f"{self.namespace}.events.v1.{job_id}.{kind}"

    def events_of(self, job_id: str) -> str:
        """Subject filter for all events of a job."""
        return f"{self.namespace}.events.v1.{job_id}.*"

    def dead(self, stream: str) -> str:
        """Subject of what was given up from a stream."""
        return f"{self.namespace}.dead.{stream}"

    # Streams

    @property
    def jobs(self) -> StreamSpec:
        """Requests and wishes, gateway to orchestrator."""
        ns = self.namespace
        return StreamSpec(
            name=self._stream("JOBS"),
            subjects=(f"{ns}.jobs.requested.*.*", f"{ns}.jobs.control.*.*", f"{ns}.jobs.erase.*"),
            retention=Retention.WORK_QUEUE,
            one_per_subject=True,
        )

    @property
    def tasks(self) -> StreamSpec:
        """Tasks, orchestrator to archivers."""
        return StreamSpec(
            name=self._stream("TASKS"),
            subjects=(f"{self.namespace}.tasks.>",),
            retention=Retention.WORK_QUEUE,
            one_per_subject=True,
        )

    @property
    def results(self) -> StreamSpec:
        """Results, archivers to orchestrator."""
        return StreamSpec(
            name=self._stream("RESULTS"),
            subjects=(f"{self.namespace}.results.*",),
            retention=Retention.WORK_QUEUE,
        )

    @property
    def events(self) -> StreamSpec:
        """Events, orchestrator to notifier and to anyone."""
        return StreamSpec(
            name=self._stream("EVENTS"),
            subjects=(f"{self.namespace}.events.v1.*.*",),
            retention=Retention.LIMITS,
            max_age=7 * _DAY,
        )

    @property
    def dead_letters(self) -> StreamSpec:
        """What could not be handled, for operators."""
        return StreamSpec(
            name=self._stream("DEAD"),
            subjects=(f"{self.namespace}.dead.*",),
            retention=Retention.LIMITS,
            max_age=30 * _DAY,
        )

    @property
    def streams(self) -> tuple[StreamSpec, ...]:
        """All streams."""
        return (self.jobs, self.tasks, self.results, self.events, self.dead_letters)

    # Consumers

    @property
    def requests_consumer(self) -> ConsumerSpec:
        """The orchestrators' share of new jobs."""
        return ConsumerSpec(
            stream=self.jobs.name,
            durable="orchestrator-requests",
            filters=(f"{self.namespace}.jobs.requested.*.*",),
            ack_wait=15.0,
            max_deliver=8,
        )

    @property
    def control_consumer(self) -> ConsumerSpec:
        """The orchestrators' share of wishes about jobs, and of users to be forgotten."""
        return ConsumerSpec(
            stream=self.jobs.name,
            durable="orchestrator-control",
            filters=(f"{self.namespace}.jobs.control.*.*", f"{self.namespace}.jobs.erase.*"),
            ack_wait=15.0,
            max_deliver=50,  # a wish waits until its job is recorded
        )

    @property
    def results_consumer(self) -> ConsumerSpec:
        """The orchestrators' share of results."""
        return ConsumerSpec(
            stream=self.results.name,
            durable="orchestrator-results",
            filters=(f"{self.namespace}.results.*",),
            ack_wait=15.0,
            max_deliver=20,
        )

    @property
    def webhooks_consumer(self) -> ConsumerSpec:
        """The notifiers' share of events that webhooks are told."""
        ended = (EventType.COMPLETED, EventType.FAILED)
        return ConsumerSpec(
            stream=self.events.name,
            durable="notifier-webhooks",
            filters=tuple(f"{self.namespace}.events.v1.*.{kind}" for kind in ended),
            ack_wait=15.0,
            max_deliver=20,
        )

    @property
    def task_lanes(self) -> tuple[ConsumerSpec, ...]:
        """The archivers' lanes, the most urgent first."""
        return tuple(
            ConsumerSpec(
                stream=self.tasks.name,
                durable=f"archiver-lane-{priority}",
                filters=(f"{self.namespace}.tasks.{priority}.>",),
                ack_wait=15.0,
                max_deliver=10,
                max_ack_pending=10_000,
            )
            for priority in reversed(PRIORITIES)
        )
