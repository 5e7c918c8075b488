"""A model over all datasets: task, dataset, metric, result and rank. Pure functions; imports no torch."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from vaebench.boards import tasks
from vaebench.boards.ranking import Heading
from vaebench.boards.site import matrix
from vaebench.boards.site.sections import main_sheets, order
from vaebench.boards.site.sheets import Cell, Sheet


class Place(NamedTuple):
    """A value of a model on one dataset, of how many ranked; `facet` tells a turned sheet's numbers apart."""

    task: str
    dataset: str
    metric: str
    heading: Heading
    facet: Mapping[str, str]
    cell: Cell
    of: int


class Report(NamedTuple):
    """A published value of a model of that name, and why it stands apart."""

    task: str
    dataset: str
    metric: str
    heading: Heading
    cell: Cell


def places(model: str, boards: Iterable[tuple[str, Sequence[Sheet]]]) -> list[Place]:
    """The values of a model in the first sheet of each metric, by task and then dataset.

    `boards` are datasets with their measured sheets in the order of their pages. Left out are columns without a better
    side, and of turned sheets the measures but the first.
    """
    found = []
    for dataset, sheets in boards:
        for sheet in main_sheets(sheets):
            if matrix.is_turned(sheet) and sheet.group.facet["measure"] not in matrix.FIRST:
                continue
            line = next((line for line in sheet.lines if line.model == model), None)
            for i, heading in enumerate(sheet.group.columns if line else ()):
                cell = line.cells[i] if line else None
                if cell is not None and heading.better != "none" and cell.row.value is not None:
                    told = {key: value for key, value in sheet.group.facet.items() if key != "measure"}
                    metric = sheet.group.metric
                    found.append(
                        Place(tasks.task_of(metric).name, dataset, metric, heading, told, cell, sheet.ranked(i))
                    )
    return sorted(found, key=lambda place: (order(place.metric)[0], place.dataset, order(place.metric)))


def reports(model: str, boards: Iterable[tuple[str, Sequence[Sheet]]]) -> list[Report]:
    """What others have published under a model's name, in the same order."""
    found = []
    for dataset, sheets in boards:
        for sheet in sheets:
            for line in (line for line in sheet.lines if line.model == model):
                for heading, cell in zip(sheet.group.columns, line.cells, strict=True):
                    if cell is not None:
                        metric = sheet.group.metric
                        found.append(Report(tasks.task_of(metric).name, dataset, metric, heading, cell))
    return sorted(found, key=lambda each: (order(each.metric)[0], each.dataset, order(each.metric)))
