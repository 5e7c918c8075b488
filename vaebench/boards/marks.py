"""What the marks of values follow from, and what ranking makes of them. Pure functions; imports no torch."""

import dataclasses
from collections.abc import Iterable, Mapping

from vaebench.boards.classes import Class, Entrant, class_of, entrant, protocol
from vaebench.boards.rows import Row
from vaebench.core.names import BOUND_LOOSE, COLLAPSED, YOURS

LEAST_RATE = 0.5
"""Nats of E KL(q(z|x) || p(z)) below which a model counts as collapsed."""
TRIVIAL = ("latent-gap", "consistency", "pocket-leak")
"""The metrics of how near q(z) is to p(z), or q(z|t(x)) to q(z|x): perfect where q(z|x) ignores x."""
CERTIFIED = "certified"
"""The metric whose `k_bias` says how far a bound is off."""
Run = tuple[Class, Entrant, str, int | None]


def alone(rows: Iterable[Row]) -> list[Row]:
    """`rows` without the marks that follow from others, or from where they were read."""
    return [_with(row, [mark for mark in row.marks if mark not in (COLLAPSED, YOURS)]) for row in rows]


def together(rows: Iterable[Row]) -> list[Row]:
    """`rows` of one dataset, with `collapsed` at every value of weights that are: no active unit, or a rate below 0.5.

    By `active_units` of `information` and `rate` of `likelihood`, whatever their split and parameters.
    """
    rows = list(rows)
    least = {("information", "active_units"): 1.0, ("likelihood", "rate"): LEAST_RATE}
    collapsed = {
        entrant(row)
        for row in rows
        if row.value is not None and row.origin == "measured"
        if row.value < least.get((row.metric, row.column), float("-inf"))
    }
    return [_with(row, [*row.marks, COLLAPSED]) if row.status == "ok" and entrant(row) in collapsed else row
            for row in rows]  # fmt: skip


def marked(row: Row, mark: str) -> Row:
    """`row` with a further mark."""
    return _with(row, [*row.marks, mark])


def unmarked(row: Row, mark: str) -> Row:
    """`row` without a mark."""
    return _with(row, [each for each in row.marks if each != mark])


def _with(row: Row, marks: Iterable[str]) -> Row:
    found = tuple(sorted(set(marks)))
    return row if found == row.marks else dataclasses.replace(row, marks=found)


def unranked(row: Row) -> bool:
    """Whether a row is of a collapsed model and a metric that collapse makes trivial: it has no rank."""
    return COLLAPSED in row.marks and row.metric in TRIVIAL


def slack(rows: Iterable[Row]) -> Mapping[Row, float]:
    """How far below its value the truth of each row marked `bound loose` may lie, beside what its interval says.

    k_bias + 2 of its standard errors, where `rows` hold it of the same weights, data and number of draws; else
    2 (nll_tenth - nll): in the row's unit, and none where the run's other rows are not among `rows`.
    """
    rows = list(rows)
    known = {
        _draws(row): max(0.0, (row.value or 0.0) + 2 * (row.stderr or 0.0))
        for row in sorted(rows, key=lambda each: each.n or 0)  # that of most images
        if (row.metric, row.column, row.status) == (CERTIFIED, "k_bias", "ok")
    }
    runs: dict[Run, dict[str, Row]] = {}
    for row in rows:
        if row.metric == "likelihood" and row.value is not None:
            runs.setdefault((class_of(row), entrant(row), row.parameters, row.seed), {})[row.column] = row
    found: dict[Row, float] = {}
    for run in runs.values():
        nll, tenth = (run[name].value if name in run else None for name in ("nll", "nll_tenth"))
        if nll is None or tenth is None:
            continue
        for row in run.values():
            if BOUND_LOOSE in row.marks and row.value is not None:
                unit = row.value / nll if nll else 1.0
                found[row] = unit * known.get(_draws(row), max(0.0, 2 * (tenth - nll)))
    return found


def _draws(row: Row) -> tuple[object, ...]:
    """Whose bound by how many draws a row is of."""
    return row.dataset, row.data_fingerprint, entrant(row), protocol(row).get("samples")
