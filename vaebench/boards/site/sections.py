"""A board by task: who leads each measure, the tables behind it, and what others have published. Imports no torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple, final

from vaebench.boards import headline, tasks
from vaebench.boards.classes import Class, class_of
from vaebench.boards.headline import Headline
from vaebench.boards.ranking import Heading, Rank
from vaebench.boards.rows import Row
from vaebench.boards.site import matrix
from vaebench.boards.site.axes import Scale
from vaebench.boards.site.matrix import Matrix
from vaebench.boards.site.sheets import Bar, Champion, Sheet, champions
from vaebench.boards.tasks import Task


class Result(NamedTuple):
    """A column of a sheet in one line: who leads, and where every model stands on the column's axis."""

    metric: str
    heading: Heading
    champion: Champion | None
    scale: Scale
    bars: list[Bar]
    of: int


class Reported(NamedTuple):
    """A published value, and its place among others' of its column, as reported; None where it is alone."""

    row: Row
    rank: Rank | None


class Block(NamedTuple):
    """What one source reports, that stands apart for one reason: by model, and then by column."""

    source: str
    reason: str
    protocol: str
    models: list[tuple[str, dict[str, Reported]]]


@final
@dataclass(frozen=True)
class Table:
    """A sheet with the published values of its columns; a table of published values alone has no sheet."""

    metric: str
    headings: tuple[Heading, ...]
    sheet: Sheet | None
    blocks: list[Block]


@final
@dataclass(frozen=True)
class Section:
    """A task on one dataset. Tables that are folded away together are turned sheets of one class; others are alone.

    `matrices` stand for the turned sheets that they are made of.
    """

    task: Task
    results: list[Result]
    matrices: list[Matrix]
    folds: list[list[Table]]


def order(metric: str) -> tuple[int, int, str]:
    """Where a metric stands on a page: by task, and there in the task's order."""
    task = tasks.task_of(metric)
    known = task.metrics
    return tasks.tasks().index(task), known.index(metric) if metric in known else len(known), metric


def of_board(table: Headline, measured: Sequence[Sheet], published: Sequence[Sheet]) -> list[Section]:
    """The sections of a board that have anything, in order of tasks."""
    first = {class_of(cell.row) for column in table.columns for cell in column.cells.values()}
    ordered = sorted(measured, key=lambda sheet: (order(sheet.group.metric), _sort(sheet, first)))
    rows = [row for sheet in published for line in sheet.lines for row in line.rows]
    names = sorted({*(s.group.metric for s in ordered), *(s.group.metric for s in published)}, key=order)
    found = []
    ranks = {each.row: each.rank for table in tasks.of_rows(table.dataset, rows) for each in table.published}
    for task, metrics in groupby(names, key=tasks.task_of):
        members = tuple(metrics)
        sheets = [sheet for sheet in ordered if sheet.group.metric in members]
        others = [sheet for sheet in published if sheet.group.metric in members]
        found.append(_section(task, sheets, others, ranks))
    return found


def _sort(sheet: Sheet, first: set[Class]) -> tuple[object, ...]:
    group = sheet.group
    own = any(class_of(row) in first for line in sheet.lines[:1] for row in line.rows)
    facet = [matrix.first(value) for _, value in sorted(group.facet.items())]
    return not own, -len(sheet.lines), sorted(map(str, group.comparability.items())), facet


def main_sheets(sheets: Iterable[Sheet]) -> list[Sheet]:
    """The first of the sheets of each metric and facet."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], Sheet] = {}
    for sheet in sheets:
        found.setdefault((sheet.group.metric, tuple(sorted(sheet.group.facet.items()))), sheet)
    return list(found.values())


def _section(
    task: Task, sheets: Sequence[Sheet], published: Sequence[Sheet], ranks: Mapping[Row, Rank | None]
) -> Section:
    main = main_sheets(sheets)
    turned = [sheet for sheet in main if matrix.is_turned(sheet)]
    results = [result for sheet in main if sheet not in turned for result in _results(sheet)]
    measures = [headline.shipped()[1][key] for key in task.measures]
    leading = [(measure.metric, measure.column) for measure in measures]
    results.sort(key=lambda each: (leading.index(name) if (name := (each.metric, each.heading.name)) in leading
                                   else len(leading)))  # fmt: skip
    blocks = {metric: _blocks(each, ranks) for metric, each in _by_metric(published)}
    folds: dict[tuple[str, str], list[Table]] = {}
    for i, sheet in enumerate(sheets):
        own = blocks.pop(sheet.group.metric, []) if sheet in main and not matrix.is_turned(sheet) else []
        together = f"{sorted(sheet.group.comparability.items())}" if matrix.is_turned(sheet) else f"{i}"
        found = Table(sheet.group.metric, _headings(sheet, own), sheet, own)
        folds.setdefault((sheet.group.metric, together), []).append(found)
    alone = [[Table(metric, _headings(None, each), None, each)] for metric, each in blocks.items()]
    return Section(task, results, matrix.of_sheets(turned) if turned else [], [*folds.values(), *alone])


def _by_metric(sheets: Iterable[Sheet]) -> list[tuple[str, list[Sheet]]]:
    ordered = sorted(sheets, key=lambda sheet: sheet.group.metric)
    return [(metric, list(each)) for metric, each in groupby(ordered, key=lambda sheet: sheet.group.metric)]


def _headings(sheet: Sheet | None, blocks: Iterable[Block]) -> tuple[Heading, ...]:
    found = {heading.name: heading for heading in (sheet.group.columns if sheet else ())}
    rows = [each.row for block in blocks for _, cells in block.models for each in cells.values()]
    for row in sorted(rows, key=lambda row: row.column):
        found.setdefault(row.column, Heading(row.column, row.unit, row.better, row.bound))
    return tuple(found.values())


def _results(sheet: Sheet) -> Iterable[Result]:
    best = {champion.heading.name: champion for champion in champions(sheet)}
    for i, (heading, scale) in enumerate(zip(sheet.group.columns, sheet.scales, strict=True)):
        bars = [cell.bar for line in sheet.lines if (cell := line.cells[i]) is not None and cell.bar is not None]
        if scale is not None and heading.better != "none" and bars:
            yield Result(sheet.group.metric, heading, best.get(heading.name), scale, bars, sheet.ranked(i))


def _blocks(sheets: Iterable[Sheet], ranks: Mapping[Row, Rank | None]) -> list[Block]:
    """What is published of one metric, by source and reason."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for sheet in sheets:
        fields = {key: value for key, value in sheet.group.comparability.items() if key != "comparable"}
        told = ", ".join([f"{sheet.group.split} split", *(f"{key} {value}" for key, value in sorted(fields.items()))])
        for row in (row for line in sheet.lines for row in line.rows):
            found.setdefault((row.source or "", row.reason or "", told), []).append(row)
    return [Block(*key, _reported(rows, ranks)) for key, rows in sorted(found.items())]


def _reported(rows: Sequence[Row], ranks: Mapping[Row, Rank | None]) -> list[tuple[str, dict[str, Reported]]]:
    """By model, in order of the first column."""
    models: dict[str, dict[str, Reported]] = {}
    for row in rows:
        models.setdefault(row.model, {})[row.column] = Reported(row, ranks.get(row))

    def place(pair: tuple[str, dict[str, Reported]]) -> tuple[bool, int, str]:
        found = pair[1].get(rows[0].column)
        return found is None, found.rank.first if found is not None and found.rank is not None else 0, pair[0]

    return sorted(models.items(), key=place)
