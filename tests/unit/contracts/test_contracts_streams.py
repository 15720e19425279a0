"""Subjects, streams and consumers agree with each other and with the design's table."""

from itertools import combinations

import pytest

from haulyard_contracts import (
    RETRYABLE,
    TERMINAL,
    ConsumerSpec,
    ErrorCode,
    EventType,
    JobAction,
    JobStatus,
    Retention,
    TaskKind,
    Topology,
)

TOPOLOGY = Topology()
DAY = 86_400.0
CONSUMERS = [
    TOPOLOGY.requests_consumer,
    TOPOLOGY.control_consumer,
    TOPOLOGY.results_consumer,
    TOPOLOGY.webhooks_consumer,
    *TOPOLOGY.task_lanes,
]


def contains(outer: str, inner: str) -> bool:
    """Whether every subject that matches ``inner`` matches ``outer``."""
    left, right = outer.split("."), inner.split(".")
    for place, token in enumerate(left):
        if token == ">":
            return len(right) > place
        if place >= len(right) or right[place] == ">" or token not in ("*", right[place]):
            return False
    return len(left) == len(right)


def overlaps(one: str, other: str) -> bool:
    """Whether some subject matches both patterns."""
    left, right = one.split("."), other.split(".")
    for a, b in zip(left, right, strict=False):
        if ">" in (a, b):
            return True
        if "*" not in (a, b) and a != b:
            return False
    return len(left) == len(right)


def test_the_subjects_are_those_of_the_design() -> None:
    assert TOPOLOGY.job_requested(7, "job_1") == "haulyard.jobs.requested.7.job_1"
    assert TOPOLOGY.any_job_requested("job_1") == "haulyard.jobs.requested.*.job_1"
    assert TOPOLOGY.job_control("job_1", JobAction.CANCEL) == "haulyard.jobs.control.job_1.cancel"
    assert TOPOLOGY.user_erasure("erasure_1") == "haulyard.jobs.erase.erasure_1"
    assert TOPOLOGY.task(10, TaskKind.PUT, "job_1", 2, 3) == "haulyard.tasks.10.put.job_1.2.3"
    assert TOPOLOGY.tasks_of("job_1") == "haulyard.tasks.*.*.job_1.>"
    assert TOPOLOGY.result("job_1") == "haulyard.results.job_1"
    assert TOPOLOGY.event("job_1", EventType.COMPLETED) == "haulyard.events.v1.job_1.completed"
    assert TOPOLOGY.events_of("job_1") == "haulyard.events.v1.job_1.*"
    assert TOPOLOGY.dead("HAULYARD_TASKS") == "haulyard.dead.HAULYARD_TASKS"


def test_the_streams_are_those_of_the_design() -> None:
    assert [(spec.name, spec.subjects, spec.retention, spec.max_age) for spec in TOPOLOGY.streams] == [
        (
            "HAULYARD_JOBS",
            ("haulyard.jobs.requested.*.*", "haulyard.jobs.control.*.*", "haulyard.jobs.erase.*"),
            Retention.WORK_QUEUE,
            None,
        ),
        ("HAULYARD_TASKS", ("haulyard.tasks.>",), Retention.WORK_QUEUE, None),
        ("HAULYARD_RESULTS", ("haulyard.results.*",), Retention.WORK_QUEUE, None),
        ("HAULYARD_EVENTS", ("haulyard.events.v1.*.*",), Retention.LIMITS, 7 * DAY),
        ("HAULYARD_DEAD", ("haulyard.dead.*",), Retention.LIMITS, 30 * DAY),
    ]


def test_only_requests_and_tasks_are_one_per_subject() -> None:
    """A second result or event of a job must not be refused because the first is still there."""
    assert {spec.name for spec in TOPOLOGY.streams if spec.one_per_subject} == {"HAULYARD_JOBS", "HAULYARD_TASKS"}


def test_no_subject_belongs_to_two_streams() -> None:
    for one, other in combinations(TOPOLOGY.streams, 2):
        assert not [(a, b) for a in one.subjects for b in other.subjects if overlaps(a, b)]


@pytest.mark.parametrize(
    ("subject", "stream"),
    [
        (TOPOLOGY.job_requested(1, "j"), TOPOLOGY.jobs),
        *((TOPOLOGY.job_control("j", action), TOPOLOGY.jobs) for action in JobAction),
        (TOPOLOGY.user_erasure("e"), TOPOLOGY.jobs),
        *((TOPOLOGY.task(5, kind, "j", 1, 1), TOPOLOGY.tasks) for kind in TaskKind),
        (TOPOLOGY.tasks_of("j"), TOPOLOGY.tasks),
        (TOPOLOGY.result("j"), TOPOLOGY.results),
        *((TOPOLOGY.event("j", kind), TOPOLOGY.events) for kind in EventType),
        (TOPOLOGY.dead("HAULYARD_JOBS"), TOPOLOGY.dead_letters),
    ],
)
def test_each_subject_goes_into_its_stream(subject: str, stream: object) -> None:
    takers = [spec for spec in TOPOLOGY.streams if any(contains(taken, subject) for taken in spec.subjects)]
    assert takers == [stream]


@pytest.mark.parametrize("consumer", CONSUMERS, ids=lambda consumer: consumer.durable)
def test_a_consumer_filters_inside_its_stream(consumer: ConsumerSpec) -> None:
    subjects = next(spec.subjects for spec in TOPOLOGY.streams if spec.name == consumer.stream)
    assert consumer.filters
    for wanted in consumer.filters:
        assert any(contains(taken, wanted) for taken in subjects)


def test_consumers_of_a_work_queue_do_not_overlap() -> None:
    """The broker refuses two consumers of a work queue that want the same message."""
    queues = {spec.name for spec in TOPOLOGY.streams if spec.retention is Retention.WORK_QUEUE}
    for one, other in combinations(CONSUMERS, 2):
        if one.stream == other.stream and one.stream in queues:
            assert not [(a, b) for a in one.filters for b in other.filters if overlaps(a, b)]


def test_every_message_of_a_work_queue_has_a_consumer() -> None:
    """What nobody consumes would stay in the queue for ever."""
    wishes = [TOPOLOGY.job_control("j", action) for action in JobAction]
    for subject in (TOPOLOGY.job_requested(3, "j"), *wishes, TOPOLOGY.user_erasure("e"), TOPOLOGY.result("j")):
        assert len([c for c in CONSUMERS if any(contains(wanted, subject) for wanted in c.filters)]) == 1
    for priority in range(1, 11):
        subject = TOPOLOGY.task(priority, TaskKind.PART, "j", 1, 1)
        assert len([c for c in CONSUMERS if any(contains(wanted, subject) for wanted in c.filters)]) == 1


def test_durables_are_unique() -> None:
    assert len({(consumer.stream, consumer.durable) for consumer in CONSUMERS}) == len(CONSUMERS)


def test_the_most_urgent_lane_comes_first() -> None:
    assert [lane.durable for lane in TOPOLOGY.task_lanes] == [f"archiver-lane-{n}" for n in range(10, 0, -1)]
    assert TOPOLOGY.task_lanes[0].filters == ("haulyard.tasks.10.>",)


def test_a_lane_of_priority_1_does_not_take_priority_10() -> None:
    assert not contains(TOPOLOGY.task_lanes[-1].filters[0], TOPOLOGY.task(10, TaskKind.PUT, "j", 1, 1))


def test_webhooks_hear_of_every_end_that_is_the_users_business() -> None:
    wanted = TOPOLOGY.webhooks_consumer.filters
    assert wanted == ("haulyard.events.v1.*.completed", "haulyard.events.v1.*.failed")


def test_two_namespaces_share_nothing() -> None:
    other = Topology("t-1_x")
    assert other.jobs.name == "T-1_X_JOBS"
    assert not {spec.name for spec in other.streams} & {spec.name for spec in TOPOLOGY.streams}
    assert not [
        (a, b)
        for one in TOPOLOGY.streams
        for two in other.streams
        for a in one.subjects
        for b in two.subjects
        if overlaps(a, b)
    ]


@pytest.mark.parametrize("namespace", ["", "a.b", "a b", "*", ">", "a>", "é", "²", "-", "a\n", "a/b"])
def test_a_namespace_that_would_be_more_than_one_token_is_refused(namespace: str) -> None:
    with pytest.raises(ValueError, match="namespace"):
        Topology(namespace)


def test_the_error_codes_are_public_and_do_not_change() -> None:
    assert {code.name for code in ErrorCode} == {
        "FILE_NOT_FOUND",
        "INVALID_FILE_ID",
        "PERMISSION_DENIED",
        "SOURCE_CHANGED",
        "SOURCE_UNAVAILABLE",
        "STORE_UNAVAILABLE",
        "CHECKSUM_MISMATCH",
        "UPLOAD_GONE",
        "ARCHIVE_TOO_LARGE",
        "JOB_TIMEOUT",
        "PROCESSING_FAILED",
        "INTERNAL",
    }
    assert all(code.name == code.value for code in ErrorCode)


def test_only_what_may_go_away_by_itself_is_tried_again() -> None:
    assert {"SOURCE_UNAVAILABLE", "STORE_UNAVAILABLE"} <= RETRYABLE
    assert not {"FILE_NOT_FOUND", "INVALID_FILE_ID", "PERMISSION_DENIED", "SOURCE_CHANGED"} & RETRYABLE


def test_queued_and_processing_jobs_are_not_over() -> None:
    assert set(JobStatus) - TERMINAL == {JobStatus.QUEUED, JobStatus.PROCESSING}
