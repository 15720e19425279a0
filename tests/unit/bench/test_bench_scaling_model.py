"""The model is arithmetic that holds together, and the page shows what it says."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling_model import (
    HOURS_A_MONTH,
    LEAST_REPLICAS,
    MEASURED,
    OURS,
    PRICES,
    SCALES,
    bill,
    need,
    walls,
)
from scaling_tables import CHART, PAGE, picture, with_tables

scales = st.floats(1, 1e7)


@given(scales, st.floats(1, 10))
def test_more_jobs_never_need_less(per_hour: float, factor: float) -> None:
    few, many = need(per_hour), need(per_hour * factor)
    assert all(many.replicas[name] >= few.replicas[name] for name in OURS)
    assert all(many.cpu[name] >= few.cpu[name] for name in few.cpu)
    assert bill(many).total >= bill(few).total
    assert bill(many).downloads == pytest.approx(factor * bill(few).downloads)


@given(scales)
def test_no_replica_is_asked_for_more_than_one_processor(per_hour: float) -> None:
    needed = need(per_hour)
    for name in OURS:
        assert needed.replicas[name] >= LEAST_REPLICAS
        assert needed.cpu[name] <= needed.replicas[name] + 1e-9


def test_what_is_kept_is_a_weeks_and_the_store_is_paid_for_it() -> None:
    needed = need(100)
    assert needed.archives_gb == pytest.approx(100, rel=0.01)  # the original requirement's 100 GB
    free = replace(PRICES, reads=0.0, writes=0.0)
    assert bill(needed, prices=free).store == pytest.approx(needed.archives_gb * PRICES.store)
    requests = bill(needed).store - bill(needed, prices=free).store
    assert requests == pytest.approx(100 * HOURS_A_MONTH * (10 * 0.0004 + 0.005) / 1000)


def test_walls_come_in_the_order_in_which_they_are_reached() -> None:
    reached = [wall.per_hour for wall in walls()]
    assert reached == sorted(reached)
    assert reached[0] > 10_000, "the original requirement's large scale is on this side of the first"


def test_half_the_use_moves_the_walls_twice_as_far() -> None:
    lean = replace(MEASURED, index_bytes=MEASURED.index_bytes / 2)
    name = "the broker's index of kept events"
    (usual,), (moved,) = ([w.per_hour for w in found if w.what == name] for found in (walls(), walls(lean)))
    assert moved == pytest.approx(2 * usual)


def test_the_page_and_the_chart_are_as_the_model_says() -> None:
    page = PAGE.read_text("utf-8")
    assert page == with_tables(page), "run bench/scaling.py --write"
    assert CHART.read_text("utf-8") == picture(), "run bench/scaling.py --write"
    assert all(f"{scale:,}" in page for scale in SCALES)


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="costs"):
        with_tables("# Scaling\n")
