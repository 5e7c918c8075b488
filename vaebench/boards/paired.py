"""Comparing two rows example by example, and a row with its re-evaluation. Pure functions; imports no torch."""

import math
from collections.abc import Callable, Iterable
from functools import cache
from itertools import product
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaebench.boards.classes import class_of, differences, protocol
from vaebench.boards.rows import Row
from vaebench.core.errors import DataError, UserError
from vaebench.functional.intervals import joined, student

Comparison = Literal["better", "worse", "not separable"]


class Paired(NamedTuple):
    """The mean of a_i - b_i over N examples, its standard error, and its 95 % interval."""

    difference: float
    stderr: float
    low: float
    high: float
    n: int

    def comparison(self, better: str) -> Comparison:
        """What the interval says of a: `better` is the side that is better ("lower" or "higher")."""
        if self.low <= 0 <= self.high:
            return "not separable"
        return "better" if (self.difference > 0) == (better == "higher") else "worse"


def paired(a: NDArray[np.float64], b: NDArray[np.float64]) -> Paired:
    """The mean difference of two values of each example, each (N,): d +- t s / sqrt(N), s^2 unbiased over a_i - b_i.

    t is Student's of N - 1 degrees of freedom. What the two share (an easy image is easy for both) cancels, so this
    interval is far shorter than those of the two means. It covers which examples were drawn, and the noise of both
    estimates. ValueError below two examples, or for different numbers of them.
    """
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise ValueError(f"values of shapes {a.shape} and {b.shape} are not two of each example")
    delta = a - b
    mean, stderr = float(delta.mean()), float(delta.std(ddof=1)) / math.sqrt(len(delta))
    return Paired(mean, stderr, *student(mean, stderr, len(delta) - 1), len(delta))


def apart(a: Row, b: Row) -> Paired:
    """The difference of the values of two rows, as if independent: Student's interval, with Welch's degrees of freedom.

    Its n is the smaller one. Raises ValueError for a row without a value.
    """
    if a.value is None or b.value is None:
        raise ValueError(f"{a.model} or {b.model} has no value")
    stderr, df = joined((a.stderr or 0.0, a.df), (b.stderr or 0.0, b.df))
    difference = a.value - b.value
    return Paired(difference, stderr, *student(difference, stderr, df), min(a.n or 0, b.n or 0))


def pairs(first: Iterable[Row], second: Iterable[Row]) -> list[tuple[Row, Row]]:
    """The measured rows of one model and of another, of one column, that can be compared example by example, in order.

    Both are of one metric, split, version, comparability and data; where data noise is drawn anew for a seed (dynamic
    binarisation), of one seed, else of one seed where there are such, and of the lowest seeds where there are none.
    UserError says why none can be compared.
    """
    a, b = ([row for row in rows if row.origin == "measured" and row.status == "ok"] for rows in (first, second))
    if not a or not b:
        raise UserError("one of the two models has no measured value here")
    alike = [(x, y) for x, y in product(a, b) if not differences(x, y)]
    if not alike:
        x, y = min(product(a, b), key=lambda pair: len(differences(*pair)))
        raise UserError(f"{x.model} and {y.model} are not of one class: {', '.join(differences(x, y))}")
    found, seeds = [], []
    for place in sorted({_place(x) for x, _ in alike}):
        there = [(x, y) for x, y in alike if _place(x) == place]
        same = [(x, y) for x, y in there if x.seed == y.seed]
        if not same and not _same_noise(*there[0]):
            seeds += there
            continue
        found += same or [min(there, key=lambda pair: (pair[0].seed, pair[1].seed))]
    if not found:
        x, y = seeds[0]
        raise UserError(
            f"{x.model} and {y.model} were measured on other data noise: seeds "
            f"{_listed(x.seed for x, _ in seeds)} against {_listed(y.seed for _, y in seeds)}; run one with the other's"
        )
    return sorted(found, key=lambda pair: (_place(pair[0]), pair[0].seed))


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(str(value) for value in sorted(set(values)))


def _place(row: Row) -> tuple[str, ...]:
    return (*map(str, class_of(row)), row.column)


def comparer(read: Callable[[Row], NDArray[np.float64]]) -> Callable[[Row, Row], Paired | None]:
    """A function that compares two rows of one class and column example by example, where both keep their values.

    `read` gives the values behind a row, or DataError. The function returns None where either has none, or where data
    noise was drawn for other seeds.
    """

    @cache
    def values(row: Row) -> NDArray[np.float64] | None:
        try:
            return read(row)
        except DataError:
            return None

    @cache
    def compare(a: Row, b: Row) -> Paired | None:
        if not _same_noise(a, b):
            return None
        one, other = values(a), values(b)
        if one is None or other is None or not len(one) == len(other) > 1:
            return None
        return paired(one, other)

    return compare


def _same_noise(a: Row, b: Row) -> bool:
    """Whether both saw the same data: what is not read as it is stored is drawn anew for a seed."""
    return a.seed == b.seed or protocol(a).get("binarisation") in (None, "none")


def record(a: Row, b: Row, found: Paired) -> dict[str, Any]:
    """A paired comparison as what `json.dumps` takes."""
    return {
        "dataset": a.dataset,
        "metric": a.metric,
        "column": a.column,
        "unit": a.unit,
        "model": a.model,
        "other": b.model,
        "comparability": protocol(a),
        "seeds": [a.seed, b.seed],
        "values": [a.value, b.value],
        "difference": found.difference,
        "stderr": found.stderr,
        "low": found.low,
        "high": found.high,
        "n": found.n,
        "comparison": found.comparison(a.better),
    }
