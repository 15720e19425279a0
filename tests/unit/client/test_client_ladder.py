from hypothesis import given
from hypothesis import strategies as st

from haulyard.live.follow import EVERY_WAY
from haulyard.live.ladder import Ladder, Loss
from haulyard.models import Way
from haulyard.retrying import RetryPolicy

POLICY = RetryPolicy()


def ladder() -> Ladder:
    return Ladder(EVERY_WAY, policy=POLICY)


def test_what_is_blocked_is_left_at_once() -> None:
    steps = ladder()
    assert steps.lost(Loss.BLOCKED, worked=False, chance=1).way is Way.EVENTS
    step = steps.lost(Loss.BLOCKED, worked=False, chance=1)
    assert (step.way, step.pause) == (Way.POLLING, 0.0)


def test_what_breaks_is_tried_once_more_after_a_pause() -> None:
    steps = ladder()
    first = steps.lost(Loss.BROKEN, worked=False, chance=1)
    assert (first.way, first.pause) == (Way.WEBSOCKET, 1.0)
    assert steps.lost(Loss.BROKEN, worked=False, chance=1).way is Way.EVENTS


def test_a_connection_that_works_between_its_cuts_is_kept() -> None:
    steps = ladder()
    for _ in range(50):
        step = steps.lost(Loss.BROKEN, worked=True, chance=1)
        assert (step.way, step.pause) == (Way.WEBSOCKET, 1.0)


def test_an_end_that_was_not_told_is_asked_for() -> None:
    assert ladder().lost(Loss.ENDED, worked=True, chance=1).way is Way.POLLING


def test_polling_is_left_for_better_ways_ever_more_rarely() -> None:
    steps = ladder()
    waits = []
    for _ in range(7):
        while steps.way is not Way.POLLING:
            assert steps.climb_after is None
            steps.lost(Loss.BLOCKED, worked=False, chance=1)
        waits.append(steps.climb_after)
        assert steps.lost(Loss.CLIMB, worked=True, chance=1).way is Way.WEBSOCKET
    assert waits == [30, 60, 120, 240, 480, 480, 480]
    assert Ladder([Way.POLLING], policy=POLICY).climb_after is None


@given(st.lists(st.tuples(st.sampled_from(Loss), st.booleans()), max_size=40), st.floats(0, 1))
def test_no_loss_leaves_a_listener_without_a_way_or_with_a_long_pause(
    losses: list[tuple[Loss, bool]], chance: float
) -> None:
    steps = ladder()
    for loss, worked in losses:
        step = steps.lost(loss, worked=worked, chance=chance)
        assert step.way is steps.way
        assert 0 <= step.pause <= POLICY.max_delay
