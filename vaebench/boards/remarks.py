"""What a person would add to a headline: other leaders, who stands apart, where measures disagree. Imports no torch."""

from collections.abc import Iterable

from vaebench.boards import disagreement
from vaebench.boards.classes import entrant, named_apart
from vaebench.boards.headline import Headline, listed
from vaebench.boards.ranking import Compare
from vaebench.boards.rows import Row

MOST = 3  # names or pairs that a sentence or a list has at most


def of_board(table: Headline, rows: Iterable[Row], compare: Compare | None = None) -> list[str]:
    """The sentences that stand below `headline.sentence`; none where there is nothing to add."""
    rows = [row for row in rows if row.origin == "measured"]
    pairs = disagreement.sentences(rows, compare)
    more = [f"They do so of {len(pairs) - MOST} more pairs."] if len(pairs) > MOST else []
    return [*_leaders(table), *_apart(table, rows), *pairs[:MOST], *more]


def _leaders(table: Headline) -> list[str]:
    """Who may be best by each measure after the first; of how many, where that is less than half of the models."""
    told = []
    for i, column in list(enumerate(table.columns))[1:]:
        cells = [(line.name, cell) for line in table.lines if (cell := line.cells[i]) is not None]
        sign = -1 if column.better == "higher" else 1
        first = [(sign * (cell.row.value or 0.0), name) for name, cell in cells if cell.rank and cell.rank.first == 1]
        names = [name for _, name in sorted(first)]
        if names:
            shown = names if len(names) <= MOST else [*names[: MOST - 1], f"{len(names) - MOST + 1} more"]
            few = f", of the {len(cells)} that have it" if 2 * len(cells) < len(table.lines) else ""
            told.append(f"by {column.measure.name} {listed(shown)}{few}")
    return [f"Best, or not told apart from it, {'; '.join(told)}."] if told else []


def _apart(table: Headline, rows: Iterable[Row]) -> list[str]:
    """Who has the first measure by other protocols alone, and so no place by it."""
    column, measure = table.columns[0], table.columns[0].measure
    rows = list(rows)
    names = named_apart(entrant(row) for row in rows)
    splits = {
        names[entrant(row)]: row.split
        for row in rows
        if (row.metric, row.column, row.status) == (measure.metric, measure.column, "ok")
        and entrant(row) not in column.cells
    }
    if not splits or not column.cells:
        return []
    where = listed(sorted(set(splits.values())))
    has = "has" if len(splits) == 1 else "have"
    told = f"{listed(sorted(splits))} {has} {measure.name} by another protocol alone (split {where})"
    return [f"{told}, and no place among these."]
