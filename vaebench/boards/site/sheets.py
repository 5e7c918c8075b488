"""What the pages say of rows: tables with ranks, ties, bars and provenance. Pure functions; imports no torch."""

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, final

from vaebench.boards import marks
from vaebench.boards.ranking import Compare, Group, Heading, Rank, interval, ranked, table
from vaebench.boards.rows import Row
from vaebench.boards.selection import said
from vaebench.boards.site import axes
from vaebench.boards.site.axes import Scale


class Bar(NamedTuple):
    """A 95% interval, and where it and the value stand between 0 and 100, the ends of the column's axis.

    `beyond` is the end that the value lies beyond: "left", "right" or neither.
    """

    low: float
    high: float
    left: float
    middle: float
    right: float
    beyond: str


class Cell(NamedTuple):
    """A row in a table; `bar` where it has a value."""

    row: Row
    rank: Rank | None
    bar: Bar | None


PROVENANCE = (
    "seed", "device", "dtype", "torch", "vaebench", "commit", "dirty", "created", "seconds", "peak_memory",
    "weights_sha256", "data_fingerprint", "parameters",
)  # fmt: skip


@final
@dataclass(frozen=True)
class Line:
    """A model's cells in a sheet, one for each column, None where it has none. `name` tells its weights from others."""

    model: str
    name: str
    seed: int | None
    source: str | None
    cells: tuple[Cell | None, ...]

    @property
    def rows(self) -> list[Row]:
        """The rows there are."""
        return [cell.row for cell in self.cells if cell is not None]

    @property
    def provenance(self) -> list[tuple[Row, list[str]]]:
        """A row of each run that these rows are of, and the columns that it gave."""
        runs: dict[tuple[object, ...], tuple[Row, list[str]]] = {}
        for row in self.rows:
            key = tuple(getattr(row, name) for name in PROVENANCE)
            runs.setdefault(key, (row, []))[1].append(row.column)
        return list(runs.values())


@final
@dataclass(frozen=True)
class Sheet:
    """A group of rows that may be compared, as a table. `by` is the column that it is in order of.

    `scales` are the axes of the columns, None where no row has a value.
    """

    group: Group
    by: str | None
    lines: tuple[Line, ...]
    scales: tuple[Scale | None, ...]

    @property
    def size(self) -> int:
        """How many rows there are."""
        return sum(len(line.rows) for line in self.lines)

    def ranked(self, column: int) -> int:
        """How many models have a rank in a column."""
        cells = ((line.model, line.cells[column]) for line in self.lines)
        return len({model for model, cell in cells if cell is not None and cell.rank is not None})


class Champion(NamedTuple):
    """The models that are first in a column, best value first, the row of that value, and how many competed."""

    heading: Heading
    models: list[str]
    row: Row
    of: int


def of_rows(rows: Iterable[Row], compare: Compare | None = None) -> list[Sheet]:
    """The tables of `rows`, by metric and facet, each in order of the first ranked column there."""
    rows = sorted(rows, key=lambda row: row.column)
    by: dict[tuple[str, str], str] = {}
    for row in filter(ranked, rows):
        by.setdefault((row.metric, row.facet), row.column)
    parts, slack = sorted({(row.metric, row.facet) for row in rows}), marks.slack(rows)
    members = {part: [row for row in rows if (row.metric, row.facet) == part] for part in parts}
    return [
        _sheet(group, by.get(part))
        for part in parts
        for group in table(members[part], by=by.get(part), compare=compare, slack=slack)
    ]


def _sheet(group: Group, by: str | None) -> Sheet:
    scales = tuple(_scale(group, heading.name) for heading in group.columns)
    columns = [_cells(group, heading.name, scale) for heading, scale in zip(group.columns, scales, strict=True)]
    cells = zip(*columns, strict=True)
    lines = [
        Line(line.model, line.name, line.seed, line.source, row) for line, row in zip(group.lines, cells, strict=True)
    ]
    return Sheet(group, by if any(by in line.ranks for line in group.lines) else None, tuple(lines), scales)


def _scale(group: Group, column: str) -> Scale | None:
    rows = [row for line in group.lines if (row := line.rows.get(column)) and row.status == "ok"]
    return axes.scale([row.value or 0.0 for row in rows], [interval(row) for row in rows]) if rows else None


def bar(row: Row, scale: Scale) -> Bar:
    """The bar of a row that has a value."""
    value, (low, high) = row.value or 0.0, interval(row)
    beyond = "left" if value < scale.low else "right" if value > scale.high else ""
    return Bar(low, high, scale.place(low), scale.place(value), scale.place(high), beyond)


def _cells(group: Group, column: str, scale: Scale | None) -> list[Cell | None]:
    def cell(row: Row | None, rank: Rank | None) -> Cell | None:
        if row is None:
            return None
        return Cell(row, rank, None if scale is None or row.status != "ok" else bar(row, scale))

    return [cell(line.rows.get(column), line.ranks.get(column)) for line in group.lines]


def again(sheet: Sheet, line: Line, metric: Iterable[tuple[Sheet, Line, object]]) -> str:
    """The command that repeats the run of `line`, told from the other runs of the model's `metric` by its class."""
    group = sheet.group
    others = [other.group.comparability for other, each, _ in metric if each.seed == line.seed]
    apart = [(name, value) for name, value in sorted(group.comparability.items())
             if any(other.get(name) != value for other in others)]  # fmt: skip
    words = ["vaebench", "reproduce", line.model, group.dataset, "--metric", group.metric, "--seed", str(line.seed)]
    return shlex.join([*words, *(word for name, value in apart for word in ("--class", f"{name}={said(value)}"))])


def champions(sheet: Sheet) -> Iterator[Champion]:
    """Who is first in each column of a sheet where anyone is ranked.

    The model of the best value, and those whose values lie in its interval and that no other beats: how wide the
    interval of such a one is does not count.
    """
    for i, heading in enumerate(sheet.group.columns):
        cells = [cell for line in sheet.lines if (cell := line.cells[i]) is not None and cell.rank is not None]
        first = [cell.row for cell in cells if cell.rank is not None and cell.rank.first == 1]
        if first:
            first.sort(key=lambda row: (row.value or 0.0) * (-1 if heading.better == "higher" else 1))
            low, high = interval(first[0])
            near = [row.model for row in first if low <= (row.value or 0.0) <= high]
            yield Champion(heading, list(dict.fromkeys(near)), first[0], sheet.ranked(i))
