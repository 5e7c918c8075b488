"""Metrics whose numbers are told by a set and a score, as matrices of the two. Pure functions; imports no torch."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vaebench.boards.classes import facet
from vaebench.boards.rows import Row
from vaebench.boards.site.sheets import Cell, Sheet

HEATS = 5
FIRST = ("auroc", "regret")  # the measure, and the score, that come first


class Entry(NamedTuple):
    """A cell of a matrix: the value there and whose it is, of how many, and how many others may be first as well."""

    cell: Cell
    model: str
    of: int
    others: int

    @property
    def heat(self) -> int | None:
        """How near a fraction is to its better end, 0 to `HEATS`; None of any other number."""
        value = self.cell.row.value
        if value is None or not 0 <= value <= 1 or self.cell.row.better not in ("lower", "higher"):
            return None
        return round(HEATS * (value if self.cell.row.better == "higher" else 1 - value))


class Matrix(NamedTuple):
    """One measure over sets (a line each) and scores (a column each); an entry is None where there is no value."""

    measure: str
    better: str
    scores: list[str]
    lines: list[tuple[str, list[Entry | None]]]


def turned(rows: Iterable[Row]) -> list[Row]:
    """`rows`, where those told by a set and a score have the set as their column, and the measure in their facet."""
    return [_turned(row) if row.column and {"set", "score"} <= set(facet(row)) else row for row in rows]


def _turned(row: Row) -> Row:
    fields = dict(facet(row))
    name = fields.pop("set")
    return dataclasses.replace(row, column=name, facet=json.dumps({"measure": row.column, **fields}, sort_keys=True))


def is_turned(sheet: Sheet) -> bool:
    """Whether the columns of a sheet are sets."""
    return {"measure", "score"} <= set(sheet.group.facet)


def of_sheets(found: Sequence[Sheet], model: str | None = None) -> list[Matrix]:
    """A matrix for each measure of turned sheets of one class: of the best model of each place, or of `model`."""
    measures = sorted({sheet.group.facet["measure"] for sheet in found}, key=first)
    return [_matrix(measure, [s for s in found if s.group.facet["measure"] == measure], model) for measure in measures]


def _matrix(measure: str, found: Sequence[Sheet], model: str | None) -> Matrix:
    by_score = {sheet.group.facet["score"]: sheet for sheet in found}
    scores = sorted(by_score, key=first)
    names = sorted({heading.name for sheet in found for heading in sheet.group.columns})
    lines = [(name, [_entry(by_score[score], name, model) for score in scores]) for name in names]
    better = next(heading.better for sheet in found for heading in sheet.group.columns)
    return Matrix(measure, better, scores, lines)


def _entry(sheet: Sheet, name: str, model: str | None) -> Entry | None:
    place = next((i for i, heading in enumerate(sheet.group.columns) if heading.name == name), None)
    if place is None:
        return None
    cells = [(line.model, cell) for line in sheet.lines
             if (cell := line.cells[place]) is not None and cell.row.value is not None
             and model in (None, line.model)]  # fmt: skip
    if not cells:
        return None
    whose, cell = min(cells, key=lambda pair: _badness(pair[1]))
    near = {name for name, other in cells if other.rank is not None and other.rank.first == 1} - {whose}
    return Entry(cell, whose, sheet.ranked(place), len(near))


def _badness(cell: Cell) -> tuple[bool, float]:
    return cell.rank is None, (cell.row.value or 0.0) * (-1 if cell.row.better == "higher" else 1)


def first(name: str) -> tuple[bool, str]:
    """A key that sorts names, those of `FIRST` before others."""
    return name not in FIRST, name
