"""The results of a board by task: each with its rank, and others' beside them, as reported. Imports no torch."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from vaebench.boards import headline
from vaebench.boards.classes import Class, Entrant, class_of, entrant, lowest_seeds, named_apart, title
from vaebench.boards.ranking import Compare, Rank, rank
from vaebench.boards.rows import Row
from vaebench.boards.text import protocol_of, rounded, safe
from vaebench.core import tables
from vaebench.core.errors import DataError, foreign, unknown

FILE = Path(__file__).with_suffix(".toml")
APART = (
    "Published results are ranked among themselves, as reported: without an interval, and by protocols that differ or "
    "are not stated, none of them has a place among the measured ones."
)
FIELDS = (
    "rank", "rank_to", "model", "metric", "value", "stderr", "n", "protocol", "origin", "source",
    "unit", "better", "marks", "verified", "note",
)  # fmt: skip


@dataclass(frozen=True)
class Task:
    """A question. The columns of `metrics` answer it; `measures`, of `headline.toml`, lead its tables."""

    name: str
    says: str
    metrics: tuple[str, ...] = ()
    measures: tuple[str, ...] = ()

    @property
    def slug(self) -> str:
        """Its name in a path, and on a command line: "density-estimation"."""
        return self.name.lower().replace(" ", "-")


class Result(NamedTuple):
    """A row with its rank: among those of its class, or where it is published among those of its column and unit.

    `name` tells weights of one model apart; `metric` is what the result is called: the name of the measure that it is,
    which leads its task, else the title of its column.
    """

    row: Row
    rank: Rank | None
    name: str
    metric: str
    leads: bool


class Table(NamedTuple):
    """One task of one dataset: measured and published results, those that lead first, each metric best first."""

    dataset: str
    task: Task
    measured: tuple[Result, ...]
    published: tuple[Result, ...]


def read(path: Path = FILE) -> tuple[Task, ...]:
    """The tasks in order; metrics that none of them names belong to the last. DataError says what is wrong."""
    with foreign(lambda why: DataError(f"cannot read {path}: {why}; restore it")):
        content = tables.parse(path.read_text(encoding="utf-8"))
        found = tuple(tables.build(Task, each, f"{path.name}, task {n}") for n, each in enumerate(content["task"], 1))
        for kind, names in (("task", [task.slug for task in found]),
                            ("metric", [name for task in found for name in task.metrics]),
                            ("measure", [name for task in found for name in task.measures])):  # fmt: skip
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{kind} {twice[0]!r} stands there twice")
        for task in found:
            for key in task.measures:
                if key not in (known := headline.shipped()[1]):
                    raise unknown("measure", key, known)
                if known[key].metric not in task.metrics:
                    raise ValueError(f"measure {key!r} is of {known[key].metric}, which is not of {task.name}")
    return found


@cache
def tasks() -> tuple[Task, ...]:
    """The tasks, in the order that they are shown in."""
    return read()


def task_of(metric: str) -> Task:
    """The task that the columns of a metric belong to."""
    return next((task for task in tasks() if metric in task.metrics), tasks()[-1])


def find(text: str) -> Task:
    """The task of this name, in whatever case, words joined by blanks or dashes; UserError with the nearest name."""
    known = {task.slug: task for task in tasks()}
    slug = "-".join(text.lower().replace("-", " ").split())
    if slug not in known:
        raise unknown("task", text, known)
    return known[slug]


def of_rows(
    dataset: str, rows: Iterable[Row], compare: Compare | None = None, only: Task | None = None, leading: bool = False
) -> list[Table]:
    """The tables of one dataset's rows, in order of tasks; none of a task without a result.

    The lowest seed stands for each model. With `leading`, only those measured results that lead.
    """
    rows = list(rows)
    alone = [row for row in lowest_seeds(row for row in rows if row.origin == "measured") if row.status == "ok"]
    names = named_apart(entrant(row) for row in rows if row.origin == "measured")
    found = []
    for task in tasks() if only is None else (only,):
        own, others = (
            [row for row in side if task_of(row.metric) == task]
            for side in (alone, (row for row in rows if row.origin == "published"))
        )
        measured = _measured(task, [] if leading else own, alone, names, compare)
        if measured or others:
            found.append(Table(dataset, task, tuple(measured), tuple(_published(task, others))))
    return found


def _measured(
    task: Task, rows: Sequence[Row], alone: Sequence[Row], names: Mapping[Entrant, str], compare: Compare | None
) -> list[Result]:
    """The results that lead, by the protocol that the headline states; then every other row, by metric and class."""
    found, led = list[Result](), set[Row]()
    for key in task.measures:
        column = headline.column_of(key, headline.shipped()[1][key], alone, compare)
        cells = [Result(cell.row, cell.rank, names[whose], column.measure.name, True)
                 for whose, cell in column.cells.items()]  # fmt: skip
        found += sorted(cells, key=_place)
        led |= {each.row for each in cells}
    classes: dict[Class, list[Row]] = {}
    for row in rows:
        classes.setdefault(class_of(row), []).append(row)
    for _, members in sorted(classes.items(), key=lambda each: (_metric_place(task, each[0].metric), each[0])):
        for name in sorted({row.column for row in members if row not in led}):
            ranks = rank(members, name, compare)
            cells = [Result(row, ranks.get(row), names[entrant(row)], title(row), False)
                     for row in members if row.column == name and row not in led]  # fmt: skip
            found += sorted(cells, key=_place)
    return found


def _metric_place(task: Task, metric: str) -> int:
    return task.metrics.index(metric) if metric in task.metrics else len(task.metrics)


def _published(task: Task, rows: Sequence[Row]) -> list[Result]:
    """Others' results by column and unit, those that lead first; ranked by value alone, where there are several."""
    measures = [headline.shipped()[1][key] for key in task.measures]
    names = {measure.column: measure.name for measure in reversed(measures)}
    order = [measure.column for measure in measures]
    groups: dict[tuple[int, str, str, str, str], list[Row]] = {}
    for row in rows:
        place = order.index(row.column) if row.column in names else len(order)
        groups.setdefault((place, row.column, row.facet, row.unit, row.better), []).append(row)
    found = []
    for (_, column, *_), members in sorted(groups.items()):
        told = [Result(row, _reported(row, members), row.model, names.get(column, title(row)), column in names)
                for row in members]  # fmt: skip
        found += sorted(told, key=_place)
    return found


def _reported(row: Row, members: Sequence[Row]) -> Rank | None:
    """The place of a row's value among others'; equal ones share it."""
    if len(members) < 2 or row.better == "none":
        return None
    ahead = sum(_cost(other) < _cost(row) for other in members)
    return Rank(1 + ahead, ahead + sum(_cost(other) == _cost(row) for other in members))


def _cost(row: Row) -> float:
    """The value, turned so that less is better."""
    return (row.value or 0.0) * (-1 if row.better == "higher" else 1)


def _place(result: Result) -> tuple[bool, bool, float, str]:
    return result.row.verified == "refuted", result.rank is None, _cost(result.row), result.name


def records(table: Table) -> list[dict[str, Any]]:
    """A mapping of `FIELDS` for each result, the measured ones first; None where there is none.

    Value and standard error are to two digits of the error. `note` says of a published result why it is not comparable.
    """
    found = []
    for result in (*table.measured, *table.published):
        row, (value, stderr) = result.row, rounded(result.row)
        place = result.rank and (result.rank.first, result.rank.last)
        values = (
            *(place or (None, None)), result.name, title(row), value, stderr, row.n, protocol_of(row), row.origin,
            row.source, row.unit or None, row.better, "; ".join(row.marks) or None, row.verified, row.reason,
        )  # fmt: skip
        found.append(dict(zip(FIELDS, values, strict=True)))
    return found


def to_csv(table: Table) -> str:
    """The records of a table as CSV, with a dash (`headline.ABSENT`) where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS)
    for record in records(table):
        writer.writerow(headline.ABSENT if value is None else safe(value) for value in record.values())
    return text.getvalue()
