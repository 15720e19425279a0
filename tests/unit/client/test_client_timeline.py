import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haulyard.errors import UnexpectedAnswerError
from haulyard.live.timeline import Timeline
from haulyard.models import Job, JobStatus, Progress, Update, Way

TOTAL = 6


def progress_at(sequence: int) -> dict[str, int]:
    return {
        "current": sequence,
        "total": TOTAL,
        "percentage": 100 * sequence // TOTAL,
        "bytes_current": 10 * sequence,
        "bytes_total": 10 * TOTAL,
    }


def message(sequence: int, *, end: str | None = None, **more: Any) -> str:
    """What WebSocket and SSE say of the state with this sequence; the last one is the end of the job."""
    fields: dict[str, Any]
    if sequence == TOTAL:
        kind = end or "completed"
        fields = {"error": {"code": "PROCESSING_FAILED", "message": "no"}} if kind == "error" else {"failed_files": [7]}
    else:
        kind = "status_update"
        fields = {"status": "processing", "progress": progress_at(sequence)}
    body = {"type": kind, "job_id": "job_1", "sequence": sequence, "timestamp": "2026-11-25T12:00:00Z", **fields}
    return json.dumps(body | more)


def polled(sequence: int, *, tells_sequence: bool) -> Job:
    return Job(
        job_id="job_1",
        status=JobStatus.COMPLETED if sequence == TOTAL else JobStatus.PROCESSING,
        progress=Progress(**progress_at(sequence)),
        sequence=sequence if tells_sequence else None,
    )


def hear(timeline: Timeline, sequence: int, way: Way, *, tells_sequence: bool) -> Update | None:
    if way is Way.POLLING:
        return timeline.hear_status(polled(sequence, tells_sequence=tells_sequence))
    return timeline.hear_message(message(sequence), via=way)


heard = st.lists(st.tuples(st.integers(1, TOTAL), st.sampled_from(Way)), max_size=30)


@given(heard, st.booleans())
def test_whichever_way_states_are_heard_each_is_told_once_and_never_a_step_back(
    states: list[tuple[int, Way]],
    tells_sequence: bool,  # noqa: FBT001
) -> None:
    timeline = Timeline("job_1")
    told = []
    newest = 0
    for sequence, way in states:
        update = hear(timeline, sequence, way, tells_sequence=tells_sequence)
        is_news = sequence > newest and newest < TOTAL
        assert (update is not None) == is_news
        newest = max(newest, sequence)
        if update is not None:
            told.append(update)
            assert update.via is way
    done = [update.progress.bytes_current for update in told]
    assert done == sorted(set(done))
    assert timeline.is_over == (newest == TOTAL)
    assert [update.status.is_over for update in told[:-1]] == [False] * len(told[:-1])


@given(st.lists(st.integers(1, TOTAL - 1), unique=True).map(sorted), st.sampled_from(Way))
def test_a_listener_that_comes_back_with_its_last_event_id_is_told_only_what_is_newer(
    first: list[int], way: Way
) -> None:
    before = Timeline("job_1")
    for sequence in first:
        hear(before, sequence, way, tells_sequence=True)
    after = Timeline("job_1", after=before.last_event_id)
    told = [n for n in range(1, TOTAL + 1) if hear(after, n, way, tells_sequence=True) is not None]
    assert told == list(range(max(first, default=0) + 1, TOTAL + 1))


@pytest.mark.parametrize("way", list(Way))
def test_an_end_is_told_even_to_who_claims_to_have_seen_more(way: Way) -> None:
    timeline = Timeline("job_1", after=99)
    assert hear(timeline, 3, way, tells_sequence=True) is None
    update = hear(timeline, TOTAL, way, tells_sequence=True)
    assert update is not None
    assert update.status is JobStatus.COMPLETED


def test_the_messages_of_the_end_are_completed_with_what_is_known() -> None:
    timeline = Timeline("job_1")
    timeline.hear_message(message(3), via=Way.EVENTS)
    update = timeline.hear_message(message(TOTAL, filename="a.zip", size_bytes=99), via=Way.EVENTS)
    assert update is not None
    assert (update.filename, update.size_bytes, update.failed_files) == ("a.zip", 99, (7,))
    assert (update.progress.percentage, update.progress.bytes_current) == (100, 10 * TOTAL)
    timeline = Timeline("job_1")
    timeline.hear_message(message(3), via=Way.EVENTS)
    failed = timeline.hear_message(message(TOTAL, end="error"), via=Way.EVENTS)
    assert failed is not None
    assert failed.status is JobStatus.FAILED
    assert failed.error is not None
    assert failed.error.code == "PROCESSING_FAILED"
    assert failed.progress.current == 3


def test_what_a_newer_server_says_besides_is_passed_over() -> None:
    timeline = Timeline("job_1")
    strange = {"type": "weather", "job_id": "job_1", "sequence": 3, "sunny": True}
    assert timeline.hear_message(json.dumps(strange), via=Way.EVENTS) is None
    update = timeline.hear_message(message(4, status="paused", mood="good"), via=Way.EVENTS)
    assert update is not None
    assert update.status is JobStatus.UNKNOWN
    assert not update.status.is_over


@given(st.text() | st.binary())
def test_noise_is_an_error_of_ours_or_nothing(noise: str | bytes) -> None:
    timeline = Timeline("job_1")
    try:
        assert timeline.hear_message(noise, via=Way.WEBSOCKET) is None
    except UnexpectedAnswerError:
        assert timeline.last_event_id == 0
