"""Comparing leaderboard rows: ranks, and the tables that a command line or a page renders. Pure functions."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from vaebench.boards import marks
from vaebench.boards.classes import Class, Entrant, class_of, entrant, facet, protocol
from vaebench.boards.paired import Paired
from vaebench.boards.rows import Row

Compare = Callable[[Row, Row], Paired | None]
"""The paired difference of two rows of a class; None where it cannot be had."""


class Rank(NamedTuple):
    """The places that a model may have in its class: `first` to `last`, both counted from 1."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}" if self.first == self.last else f"{self.first}-{self.last}"


def interval(row: Row) -> tuple[float, float]:
    """The 95% interval of an `ok` row; of no width where it has none."""
    if row.value is None:
        raise ValueError(f"a row that is {row.status} has no interval")
    return (row.value, row.value) if row.low is None or row.high is None else (row.low, row.high)


def significantly_better(row: Row, other: Row, slack: Mapping[Row, float] = {}, compare: Compare | None = None) -> bool:
    """Whether `row` is better than `other` beyond its error.

    By the interval of their paired difference, where `compare` gives one; else where the whole interval of `row` is on
    the better side of that of `other`: touching intervals overlap. The truth of a row with a `slack` may lie as much
    below its value: a bound that has not converged does not lose by that.
    """
    if row.better == "none":
        return False
    found = None if compare is None else compare(row, other)
    (low, high), (other_low, other_high) = interval(row), interval(other)
    if found is not None:
        low, high, other_low, other_high = found.low, found.high, 0.0, 0.0
    if row.better == "higher":
        return low - slack.get(row, 0.0) > other_high
    return high < other_low - slack.get(other, 0.0)


def ranked(row: Row) -> bool:
    """Whether a row takes part: measured, `ok`, not refuted, of a column that has a better side, and not trivial.

    Trivial are the columns that a collapsed model is perfect in.
    """
    fair = row.origin == "measured" and row.status == "ok" and row.verified != "refuted"
    return fair and row.better != "none" and not marks.unranked(row)


def rank(
    rows: Iterable[Row], column: str, compare: Compare | None = None, slack: Mapping[Row, float] | None = None
) -> dict[Row, Rank]:
    """The rank of each row of `column` that takes part, in its class: from 1 + the number of others that are better
    than it, to the number of models less those that it is better than, both beyond their errors.

    So a wide interval gives a wide range and never a first place, ties need no transitivity (A ~ B ~ C with A better
    than C gives 1-2, 1-3, 2-3), and no rank is a matter of order. Where a model has several rows in a class (seeds),
    each is given a rank, and against others the model counts once: by the row of lowest seed, so that no seed can be
    picked. A class of one model has no rank. `rows` should hold whole runs, and what certifies them, where
    no `slack` is given: that of a bound that has not converged is in these.
    """
    rows = list(rows)
    slack = marks.slack(rows) if slack is None else slack
    classes: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        if row.column == column and ranked(row):
            classes.setdefault((class_of(row), row.unit, row.better), []).append(row)
    ranks: dict[Row, Rank] = {}
    for members in classes.values():
        first: dict[Entrant, Row] = {}
        for row in sorted(members, key=lambda member: (member.seed, member.identity)):
            first.setdefault(entrant(row), row)
        if len({row.model for row in first.values()}) == 1:
            continue
        for row in members:
            others = [other for whose, other in first.items() if whose != entrant(row)]
            better = sum(significantly_better(other, row, slack, compare) for other in others)
            worse = sum(significantly_better(row, other, slack, compare) for other in others)
            ranks[row] = Rank(1 + better, len(first) - worse)
    return ranks


class Heading(NamedTuple):
    """A column of a group."""

    name: str
    unit: str
    better: str
    bound: str


@dataclass(frozen=True)
class Line:
    """A model's rows in a group, by column, and the ranks of those that have one.

    `weights` tells lines of one model's name apart, and is empty where there is nothing to tell.
    """

    model: str
    weights: str
    seed: int | None
    parameters: Mapping[str, Any]
    source: str | None
    rows: Mapping[str, Row]
    ranks: Mapping[str, Rank]

    @property
    def name(self) -> str:
        """The model, with what tells its weights from others of that name."""
        return f"{self.model} ({self.weights})" if self.weights else self.model


@dataclass(frozen=True)
class Group:
    """Rows that may be compared: one class of one metric on one split, measured or published."""

    dataset: str
    data_fingerprint: str | None
    split: str
    metric: str
    metric_version: int
    comparability: Mapping[str, Any]
    facet: Mapping[str, str]
    origin: str
    columns: tuple[Heading, ...]
    lines: tuple[Line, ...]


def table(
    rows: Iterable[Row], metric: str | None = None, by: str | None = None, compare: Compare | None = None,
    slack: Mapping[Row, float] | None = None,
) -> list[Group]:  # fmt: skip
    """The groups of `rows` (of one metric, or of all), sorted; in a class, measured before published.

    A line holds one model, weights, seed, parameters and source. Lines are in order of model and seed, or with `by` in
    order of that column: those with a rank by value, best first, and then those without. Where a metric gave a model
    nothing, that row stands in every column. Ranks have the `slack` of all `rows`, where none is given.
    """
    rows = list(rows)
    slack = marks.slack(rows) if slack is None else slack
    classes: dict[Class, list[Row]] = {}
    for row in rows:
        if metric in (None, row.metric):
            classes.setdefault(class_of(row), []).append(row)
    return [_group(members, by, compare, slack) for _, members in sorted(classes.items())]


def _group(members: list[Row], by: str | None, compare: Compare | None, slack: Mapping[Row, float]) -> Group:
    head = members[0]
    headings = {row.column: Heading(row.column, row.unit, row.better, row.bound) for row in members}
    ranks = {column: rank(members, column, compare, slack) for column in headings}
    lines: dict[tuple[Entrant, int, str], dict[str, Row]] = {}
    for row in members:
        seed = -1 if row.seed is None else row.seed
        lines.setdefault((entrant(row), seed, row.parameters), {})[row.column] = row
    weights: dict[str, set[str]] = {}
    for whose, _, _ in lines:
        weights.setdefault(whose.model, set()).add(whose.weights)
    built = []
    headings = {column: each for column, each in headings.items() if column} or headings
    for (whose, _, _), cells in sorted(lines.items()):
        row = next(iter(cells.values()))
        cells = cells if set(cells) & set(headings) else dict.fromkeys(headings, row)  # of one that gave nothing
        several = row.origin == "measured" and len(weights[whose.model]) > 1
        placed = {column: ranks[column][each] for column, each in cells.items() if each in ranks[column]}
        told = whose.weights[:8] if several else ""
        built.append(Line(whose.model, told, row.seed, json.loads(row.parameters), row.source, cells, placed))
    if by is not None:
        built.sort(key=lambda line: _place(line, by))
    return Group(
        dataset=head.dataset,
        data_fingerprint=head.data_fingerprint,
        split=head.split,
        metric=head.metric,
        metric_version=head.metric_version,
        comparability=protocol(head),
        facet=facet(head),
        origin=head.origin,
        columns=tuple(headings[column] for column in sorted(headings)),
        lines=tuple(built),
    )


def _place(line: Line, column: str) -> tuple[bool, bool, float]:
    row = line.rows.get(column)
    value = None if row is None else row.value
    sign = -1.0 if row is not None and row.better == "higher" else 1.0
    return column not in line.ranks, value is None, sign * (value or 0.0)
