"""Comparing two rows example by example, and a row with its re-evaluation. Pure functions; imports no torch."""

import json
import math
from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaebench.boards.ranking import Z
from vaebench.boards.rows import Row
from vaebench.core.errors import UserError

Comparison = Literal["better", "worse", "not separable"]
_CLASS = ("metric", "split", "metric_version", "comparability", "data_fingerprint")


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
    """The mean difference of two values of each example, each (N,): d +- 1.96 s / sqrt(N), s^2 unbiased over a_i - b_i.

    What the two share (an easy image is easy for both) cancels, so this interval is far shorter than those of the two
    means. It covers which examples were drawn, and the noise of both estimates. ValueError below two examples, or for
    different numbers of them.
    """
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise ValueError(f"values of shapes {a.shape} and {b.shape} are not two of each example")
    delta = a - b
    mean, stderr = float(delta.mean()), float(delta.std(ddof=1)) / math.sqrt(len(delta))
    return Paired(mean, stderr, mean - Z * stderr, mean + Z * stderr, len(delta))


def pairs(first: Iterable[Row], second: Iterable[Row]) -> list[tuple[Row, Row]]:
    """The measured rows of one model and of another, of one column, that can be compared example by example, in order.

    Both are of one metric, split, version, comparability and data; where data noise is drawn anew for a seed (dynamic
    binarisation), of one seed, else of one seed where there are such, and of the lowest seeds where there are none.
    UserError says why none can be compared.
    """
    a, b = ([row for row in rows if row.origin == "measured" and row.status == "ok"] for rows in (first, second))
    if not a or not b:
        raise UserError("one of the two models has no measured value here")
    alike = [(x, y) for x, y in product(a, b) if not _differences(x, y)]
    if not alike:
        x, y = min(product(a, b), key=lambda pair: len(_differences(*pair)))
        raise UserError(f"{x.model} and {y.model} are not of one class: {', '.join(_differences(x, y))}")
    found, seeds = [], []
    for place in sorted({_place(x) for x, _ in alike}):
        there = [(x, y) for x, y in alike if _place(x) == place]
        same = [(x, y) for x, y in there if x.seed == y.seed]
        if not same and json.loads(there[0][0].comparability).get("binarisation") == "dynamic":
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
    return tuple(str(getattr(row, field)) for field in _CLASS)


def _differences(a: Row, b: Row) -> list[str]:
    """What puts two rows into different classes: "samples 100 against 1000"."""
    differences = []
    for field in _CLASS:
        one, other = getattr(a, field), getattr(b, field)
        if field == "comparability" and one != other:
            left, right = protocol(a), protocol(b)
            keys = sorted(key for key in {*left, *right} if left.get(key) != right.get(key))
            differences += [f"{key} {left.get(key)} against {right.get(key)}" for key in keys]
        elif one != other:
            differences.append(f"{field.replace('_', ' ')} {str(one)[:12]} against {str(other)[:12]}")
    return differences


def protocol(row: Row) -> Mapping[str, Any]:
    """A row's comparability class, by field."""
    fields: Mapping[str, Any] = json.loads(row.comparability)
    return fields


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
