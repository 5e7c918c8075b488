"""Axes: round ends that hold what is near, and ends for what is far."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vaebench.boards.site import axes

numbers = st.floats(-1e200, 1e200)


@given(st.lists(numbers, min_size=1, max_size=9))
def test_places_are_in_order_and_on_the_axis(values: list[float]) -> None:
    scale = axes.scale(values, [(value, value) for value in values])
    assert scale.low < scale.high
    places = [scale.place(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(0 <= place <= 100 for place in places)
    assert [place for place, _ in scale.ticks] == sorted(place for place, _ in scale.ticks)
    assert (scale.ticks[0][0], scale.ticks[-1][0]) == pytest.approx((0, 100))


def test_few_values_are_all_on_the_axis() -> None:
    scale = axes.scale([1.0, 99.0], [(0.5, 1.5), (98.0, 100.0)])
    assert scale.low <= 0.5
    assert scale.high >= 100


def test_a_far_value_is_beyond_it() -> None:
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 1000.0]
    scale = axes.scale(values, [(value, value) for value in values])
    assert scale.high < 20
    assert scale.place(1000.0) == 100


def test_a_wide_interval_squashes_nothing() -> None:
    values = [1.0, 2.0, 3.0, 4.0]
    scale = axes.scale(values, [(1.0, 1.0), (2.0, 2.0), (-500.0, 506.0), (4.0, 4.0)])
    assert scale.high - scale.low < 20


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (5.0, 5.0), (-3.0, -3.0), (1e300, 1e300), (5e-324, 5e-324)])
def test_one_value_has_an_axis_about_it(low: float, high: float) -> None:
    first, last = axes.spread(low, high)
    assert first < low < last
