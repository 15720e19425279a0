"""One pending state per client: newest wins, never twice, never backwards, the end is always told."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haulyard_contracts import JobStatus, Progress
from haulyard_notifier.live.pending import Pending
from haulyard_notifier.live.state import LiveState


def state(sequence: int, status: JobStatus = JobStatus.PROCESSING) -> LiveState:
    return LiveState(
        job_id="job_1",
        sequence=sequence,
        status=status,
        progress=Progress(current=0, total=1, percentage=0),
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_of_two_pending_states_only_the_newer_is_sent() -> None:
    pending = Pending(interval=0)
    assert pending.offer(state(2))
    assert pending.offer(state(3))
    assert not pending.offer(state(2))
    assert pending.take(0).sequence == 3
    assert pending.wait(0) is None


def test_a_terminal_state_is_never_overwritten() -> None:
    pending = Pending(interval=0)
    pending.offer(state(2, JobStatus.COMPLETED))
    assert not pending.offer(state(3, JobStatus.EXPIRED))
    assert pending.take(0).status is JobStatus.COMPLETED
    assert pending.is_over
    assert not pending.offer(state(3, JobStatus.EXPIRED))


def test_progress_waits_for_its_time_and_the_end_does_not() -> None:
    pending = Pending(interval=0.2)
    pending.offer(state(1))
    assert pending.wait(10.0) == 0
    pending.take(10.0)
    pending.offer(state(2))
    assert pending.wait(10.05) == pytest.approx(0.15)
    assert pending.wait(10.2) == 0
    pending.offer(state(3, JobStatus.FAILED))
    assert pending.wait(10.05) == 0


def test_a_snapshot_that_the_client_has_seen_is_not_sent() -> None:
    pending = Pending(interval=0, after=5)
    pending.begin(state(5))
    assert pending.wait(0) is None
    assert not pending.is_over
    assert pending.offer(state(6))


def test_a_client_that_has_seen_the_end_is_told_nothing() -> None:
    pending = Pending(interval=0, after=5)
    pending.begin(state(5, JobStatus.COMPLETED))
    assert pending.wait(0) is None
    assert pending.is_over


def test_a_client_that_claims_too_much_is_still_told_the_end() -> None:
    pending = Pending(interval=0, after=1000)
    pending.begin(state(5))
    assert not pending.offer(state(6))
    assert pending.offer(state(7, JobStatus.COMPLETED))


def test_taking_nothing_is_an_error() -> None:
    with pytest.raises(LookupError):
        Pending(interval=0).take(0)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[int], int, bool, int]:
    """Events (repeated and shuffled, as reads and events race), when the snapshot comes, how it ends, what was seen."""
    last = draw(st.integers(1, 12))
    events = draw(st.lists(st.integers(1, last), max_size=30))
    return events, draw(st.integers(1, last)), draw(st.booleans()), draw(st.integers(0, last))


@given(histories(), st.data())
def test_any_interleaving_is_strictly_ascending_and_ends_with_the_newest(
    history: tuple[list[int], int, bool, int], data: st.DataObject
) -> None:
    events, snapshot, ends, after = history
    highest = max([*events, snapshot])
    at = data.draw(st.integers(0, len(events)), label="snapshot comes before event")
    pending = Pending(interval=data.draw(st.sampled_from([0.0, 0.5, 5.0])), after=after)
    sent: list[int] = []
    now = 0.0

    def made(sequence: int) -> LiveState:
        return state(sequence, JobStatus.COMPLETED if ends and sequence == highest else JobStatus.PROCESSING)

    for number, sequence in enumerate([*events[:at], -1, *events[at:]]):
        if number == at:
            pending.begin(made(snapshot))
        else:
            pending.offer(made(sequence))
        now += data.draw(st.sampled_from([0.0, 0.3, 1.0]))
        while pending.wait(now) == 0 and data.draw(st.booleans()):
            sent.append(pending.take(now).sequence)
    while (wait := pending.wait(now)) is not None:
        now += wait
        sent.append(pending.take(now).sequence)

    assert sent == sorted(set(sent))
    assert all(sequence > after for sequence in sent) or (ends and sent[-1:] == [highest])
    if highest > after:
        assert sent[-1:] == [highest]
    assert pending.is_over == (ends and (sent[-1:] == [highest] or highest <= after))
