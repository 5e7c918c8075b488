"""Comparing leaderboard rows: ranks with ties, and the tables that a command line or a page renders. Pure functions."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from vaebench.boards.rows import Row

Z = 1.96  # half-width of a 95 % interval, in standard errors


def interval(row: Row) -> tuple[float, float]:
    """The 95 % interval of an `ok` row, value ± 1.96 stderr; of no width where it has no standard error."""
    if row.value is None:
        raise ValueError(f"a row that is {row.status} has no interval")
    half = Z * (row.stderr or 0.0)
    return row.value - half, row.value + half


def significantly_better(row: Row, other: Row) -> bool:
    """Whether the whole interval of `row` is on the better side of that of `other`; touching intervals overlap."""
    (low, high), (other_low, other_high) = interval(row), interval(other)
    return low > other_high if row.better == "higher" else row.better == "lower" and high < other_low


def ranked(row: Row) -> bool:
    """Whether a row takes part: measured, `ok`, not refuted, and of a column that has a better side."""
    fair = row.origin == "measured" and row.status == "ok" and row.verified != "refuted"
    return fair and row.better != "none"


def rank(rows: Iterable[Row], column: str) -> dict[Row, int]:
    """The rank of each row of `column` that takes part: 1 + the number of other models significantly better than it.

    So rows that no other beats are all first, a tie needs no transitivity (A ~ B ~ C with A better than C gives 1, 1,
    2), and the count of ranks below a row is never a matter of order. Rows meet only within one dataset, fingerprint,
    split, metric, version and comparability. Where a model has several rows there (seeds), each is given a rank, and
    against others the model counts once: by the row of lowest seed, so that no seed can be picked.
    """
    classes: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        if row.column == column and ranked(row):
            classes.setdefault((*class_of(row), row.unit, row.better), []).append(row)
    ranks: dict[Row, int] = {}
    for members in classes.values():
        first: dict[str, Row] = {}
        for row in sorted(members, key=lambda member: (member.seed, member.identity)):
            first.setdefault(row.model, row)
        for row in members:
            others = (other for other in first.values() if other.model != row.model)
            ranks[row] = 1 + sum(significantly_better(other, row) for other in others)
    return ranks


class Heading(NamedTuple):
    """A column of a group."""

    name: str
    unit: str
    better: str
    bound: str


@dataclass(frozen=True)
class Line:
    """A model's rows in a group, by column, and the ranks of those that have one."""

    model: str
    seed: int | None
    parameters: Mapping[str, Any]
    source: str | None
    rows: Mapping[str, Row]
    ranks: Mapping[str, int]


@dataclass(frozen=True)
class Group:
    """Rows that may be compared: one class of one metric on one split, measured or published."""

    dataset: str
    data_fingerprint: str | None
    split: str
    metric: str
    metric_version: int
    comparability: Mapping[str, Any]
    origin: str
    columns: tuple[Heading, ...]
    lines: tuple[Line, ...]


def class_of(row: Row) -> tuple[str, str, str, int, str, str, str]:
    """What rows must share to stand in one table."""
    where = (row.dataset, row.metric, row.split)
    return (*where, row.metric_version, row.comparability, row.origin, row.data_fingerprint or "")


def table(rows: Iterable[Row], metric: str | None = None, by: str | None = None) -> list[Group]:
    """The groups of `rows` (of one metric, or of all), sorted; in a class, measured before published.

    A line holds one model, seed, parameters and source. Lines are in order of model and seed, or with `by` in order of
    that column: ranked ones first by rank and then value, then those without a rank.
    """
    classes: dict[tuple[str, str, str, int, str, str, str], list[Row]] = {}
    for row in rows:
        if metric in (None, row.metric):
            classes.setdefault(class_of(row), []).append(row)
    return [_group(members, by) for _, members in sorted(classes.items())]


def _group(members: list[Row], by: str | None) -> Group:
    head = members[0]
    headings = {row.column: Heading(row.column, row.unit, row.better, row.bound) for row in members}
    ranks = {column: rank(members, column) for column in headings}
    lines: dict[tuple[str, int, str, str], dict[str, Row]] = {}
    for row in members:
        seed = -1 if row.seed is None else row.seed
        lines.setdefault((row.model, seed, row.parameters, row.source or ""), {})[row.column] = row
    built = []
    for _, cells in sorted(lines.items()):
        any_row = next(iter(cells.values()))
        placed = {column: ranks[column][row] for column, row in cells.items() if row in ranks[column]}
        parameters = json.loads(any_row.parameters)
        built.append(Line(any_row.model, any_row.seed, parameters, any_row.source, cells, placed))
    if by is not None:
        built.sort(key=lambda line: _place(line, by))
    return Group(
        dataset=head.dataset,
        data_fingerprint=head.data_fingerprint,
        split=head.split,
        metric=head.metric,
        metric_version=head.metric_version,
        comparability=json.loads(head.comparability),
        origin=head.origin,
        columns=tuple(headings[column] for column in sorted(headings)),
        lines=tuple(built),
    )


def _place(line: Line, column: str) -> tuple[bool, int, bool, float]:
    row = line.rows.get(column)
    value = None if row is None else row.value
    sign = -1.0 if row is not None and row.better == "higher" else 1.0
    return column not in line.ranks, line.ranks.get(column, 0), value is None, sign * (value or 0.0)
