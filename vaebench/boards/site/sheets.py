"""What the pages say of rows: tables with ranks, ties, bars and provenance. Pure functions; imports no torch."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, final

from vaebench.boards.ranking import Group, Heading, interval, ranked, table
from vaebench.boards.rows import Row


class Bar(NamedTuple):
    """A 95% interval, and where it and the value stand between 0 and 100, the extremes of the column."""

    low: float
    high: float
    left: float
    middle: float
    right: float


class Cell(NamedTuple):
    """A row in a table. `tied`: other models share its rank; `bar` where it has a value."""

    row: Row
    rank: int | None
    tied: bool
    bar: Bar | None


PROVENANCE = (
    "seed", "device", "dtype", "torch", "vaebench", "commit", "dirty", "created", "seconds", "peak_memory",
    "weights_sha256", "data_fingerprint", "parameters",
)  # fmt: skip


@final
@dataclass(frozen=True)
class Line:
    """A model's cells in a sheet, one for each column, None where it has none."""

    model: str
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
    """A group of rows that may be compared, as a table. `by` is the column that it is in order of."""

    group: Group
    by: str | None
    lines: tuple[Line, ...]

    @property
    def size(self) -> int:
        """How many rows there are."""
        return sum(len(line.rows) for line in self.lines)

    def ranked(self, column: int) -> int:
        """How many models have a rank in a column."""
        cells = ((line.model, line.cells[column]) for line in self.lines)
        return len({model for model, cell in cells if cell is not None and cell.rank is not None})


class Champion(NamedTuple):
    """The models that no other beats in a column, best value first, the row of that value, and how many competed."""

    heading: Heading
    models: list[str]
    row: Row
    of: int


def of_rows(rows: Iterable[Row]) -> list[Sheet]:
    """The tables of `rows`, by metric, each in order of its metric's first ranked column."""
    rows = sorted(rows, key=lambda row: row.column)
    by: dict[str, str] = {}
    for row in filter(ranked, rows):
        by.setdefault(row.metric, row.column)
    metrics = sorted({row.metric for row in rows})
    return [_sheet(group, by.get(metric)) for metric in metrics for group in table(rows, metric, by.get(metric))]


def _sheet(group: Group, by: str | None) -> Sheet:
    columns = [_cells(group, heading.name) for heading in group.columns]
    cells = zip(*columns, strict=True)
    lines = [Line(line.model, line.seed, line.source, row) for line, row in zip(group.lines, cells, strict=True)]
    return Sheet(group, by if any(by in line.ranks for line in group.lines) else None, tuple(lines))


def _cells(group: Group, column: str) -> list[Cell | None]:
    intervals = {row: interval(row) for line in group.lines if (row := line.rows.get(column)) and row.status == "ok"}
    low, high = (end(value for pair in intervals.values() for value in pair) if intervals else 0 for end in (min, max))
    sizes = Counter(rank for _, rank in {(line.model, line.ranks.get(column)) for line in group.lines})

    def place(value: float) -> float:
        return 100 * (value - low) / (high - low) if high > low else 50.0

    def cell(row: Row | None, rank: int | None) -> Cell | None:
        if row is None:
            return None
        ends = intervals.get(row)
        bar = None
        if ends is not None:
            bar = Bar(*ends, place(ends[0]), place(row.value or 0.0), place(ends[1]))
        return Cell(row, rank, rank is not None and sizes[rank] > 1, bar)

    return [cell(line.rows.get(column), line.ranks.get(column)) for line in group.lines]


def champions(sheet: Sheet) -> Iterator[Champion]:
    """Who is first in each column of a sheet where anyone is ranked."""
    for i, heading in enumerate(sheet.group.columns):
        first = [cell.row for line in sheet.lines if (cell := line.cells[i]) is not None and cell.rank == 1]
        if first:
            first.sort(key=lambda row: (row.value or 0.0) * (-1 if heading.better == "higher" else 1))
            yield Champion(heading, list(dict.fromkeys(row.model for row in first)), first[0], sheet.ranked(i))
