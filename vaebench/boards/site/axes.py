"""Axes that a few extreme values do not squash. Pure functions; imports no torch."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

FENCE = 3.0
"""Quartile ranges beyond the quartiles that an axis reaches at most: what lies farther is drawn at its end."""


class Scale(NamedTuple):
    """The ends of an axis, which are round, and its ticks as places between 0 and 100 with what they say."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]

    def place(self, value: float) -> float:
        """Where a value lies between 0 and 100, the ends: there too what lies beyond."""
        return min(100.0, max(0.0, 100 * (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2)))


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from at most `low` to at least `high`, as matplotlib chooses them."""
    return [float(value) for value in MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]


def spread(low: float, high: float) -> tuple[float, float]:
    """`low` and `high`, or two numbers about them where they are too close to be told apart."""
    if high - low > 1e-9 * max(abs(low), abs(high)):
        return low, high
    middle, room = low / 2 + high / 2, 1e-3 * max(abs(low), abs(high)) or 0.5
    return middle - room, middle + room


def fences(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    """How far an axis reaches at most: `FENCE` quartile ranges beyond the quartiles, which are not a bound if equal."""
    first, last = np.quantile(np.asarray(values), (0.25, 0.75)).tolist()
    reach = FENCE * (last - first) if last > first else float("inf")
    return first - reach, last + reach


def scale(values: Sequence[float], intervals: Sequence[tuple[float, float]], most: int = 3) -> Scale:
    """The axis of values with their intervals: of all that lie within the fences of the values' quartiles."""
    first, last = fences(values)
    near = [pair for value, pair in zip(values, intervals, strict=True) if first <= value <= last]
    low, high = max(min(pair[0] for pair in near), first), min(max(pair[1] for pair in near), last)
    found = ticks(*spread(low, high), most)
    low, high = found[0], found[-1]
    bare = Scale(low, high, ())
    return Scale(low, high, tuple((bare.place(value), f"{value:.6g}") for value in found))
