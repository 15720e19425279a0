"""The simulated autoscaler does what Kubernetes' does, loses no task, and gives the same day each time."""

import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling_day import (
    BURST,
    BURST_AT,
    BURST_SECONDS,
    DAY,
    LOOK,
    PEAK,
    SHAPE,
    STABILIZATION,
    Fleet,
    Rule,
    allowed,
    chart,
    day,
    of_a_day,
    wished,
)

RULE = Rule(name="rule", least=2, most=50, target=4)
rates = st.lists(st.floats(0, 500), min_size=1, max_size=8)
rules = st.builds(
    lambda least, more, target, taken: Rule(
        name="any", least=least, most=least + more, target=target, counts_taken=taken
    ),
    st.integers(1, 10),
    st.integers(0, 60),
    st.sampled_from([1.0, 3.0, 10.0, math.inf]),
    st.booleans(),
)


@pytest.mark.parametrize(
    ("current", "tasks", "wanted"),
    [
        (5, 0, 2),  # never fewer than the least
        (5, 21, 5),  # a tenth more or less is let pass
        (5, 22.1, 6),
        (5, 17.9, 5),
        (5, 16, 4),
        (5, 1_000, 50),  # nor more than the most
    ],
)
def test_the_metric_asks_for_replicas(current: int, tasks: float, wanted: int) -> None:
    assert wished(current, tasks, RULE) == wanted


@pytest.mark.parametrize(
    ("current", "wishes", "there"),
    [
        (2, [50], 6),  # four more at once
        (10, [50], 20),  # or twice as many
        (10, [12], 12),
        (10, [9, 4, 2], 9),  # fewer only if nothing asked for more lately
        (10, [30, 2], 10),
    ],
)
def test_a_look_allows_some_of_it(current: int, wishes: list[int], there: int) -> None:
    assert allowed(current, wishes) == there


@settings(deadline=None, max_examples=50)
@given(rates, rules)
def test_every_task_is_begun_once_or_waits(per_minute: list[float], rule: Rule) -> None:
    outcome = day(lambda second: per_minute[second // 60], Fleet(), rule, seconds=60 * len(per_minute))
    assert outcome.done + outcome.left == pytest.approx(60 * sum(per_minute))
    assert all(age >= 0 and amount >= 0 for age, amount in outcome.ages)
    assert outcome.age(0.5) <= outcome.age(0.95) <= outcome.age(1.0)


@settings(deadline=None, max_examples=50)
@given(rates, rules)
def test_replicas_stay_within_their_bounds_and_a_day_repeats(per_minute: list[float], rule: Rule) -> None:
    def load(second: int) -> float:
        return per_minute[second // 60]

    outcome = day(load, Fleet(), rule, seconds=60 * len(per_minute))
    assert all(rule.least <= count <= rule.most for count in outcome.replicas)
    assert outcome == day(load, Fleet(), rule, seconds=60 * len(per_minute))


@settings(deadline=None, max_examples=50)
@given(rates, st.integers(1, 20), st.integers(0, 10))
def test_a_larger_fleet_lets_nobody_wait_longer(per_minute: list[float], count: int, more: int) -> None:
    def longest(replicas: int) -> int:
        rule = Rule(name="fixed", least=replicas, most=replicas)
        # A quiet time at the end, in which all are begun.
        return day(lambda s: per_minute[s // 60] if s < 60 * len(per_minute) else 0, Fleet(), rule, seconds=6_000).age(
            1
        )

    assert longest(count + more) <= longest(count)


def test_nobody_waits_for_a_fleet_that_is_large_enough() -> None:
    load, fleet = of_a_day(36_000), Fleet()
    count = math.ceil(10 * PEAK * BURST / fleet.per_second)
    outcome = day(load, fleet, Rule(name="fixed", least=count, most=count))
    assert outcome.age(1.0) == 0
    assert outcome.replica_hours == pytest.approx(24 * count)


def test_replicas_that_are_not_needed_go_after_the_time_of_stabilization() -> None:
    outcome = day(lambda second: 200.0 if second < 600 else 0.0, Fleet(), RULE, seconds=1_200)
    busy = 10  # 200 tasks a second of 0.2 s, four a replica
    for_a_while = outcome.replicas[600 // LOOK : (600 + STABILIZATION - LOOK) // LOOK]
    assert min(for_a_while) >= busy
    assert outcome.replicas[(600 + STABILIZATION + LOOK) // LOOK] == RULE.least


def test_a_day_has_its_mean_and_its_burst() -> None:
    load = of_a_day(3_600)
    usual = sum(load(second) for second in range(DAY) if not BURST_AT <= second < BURST_AT + BURST_SECONDS)
    assert usual == pytest.approx(DAY - BURST_SECONDS, rel=0.01)
    assert load(BURST_AT) == pytest.approx(BURST * SHAPE[15] / (sum(SHAPE) / 24))
    assert load(DAY + 5) == load(5)


def test_the_chart_is_a_picture() -> None:
    load, fleet = of_a_day(100_000), Fleet()
    drawn = ET.fromstring(chart(load, fleet, day(load, fleet, RULE)))
    assert drawn.tag.endswith("svg")
    assert len([each for each in drawn if each.tag.endswith("path")]) == 3
