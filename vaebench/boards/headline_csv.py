"""The headline of a board as records, and as the CSV that people open. Imports no torch."""

import csv
import io
from typing import Any

from vaebench.boards.headline import ABSENT, SIDES, Column, Headline, marks_of
from vaebench.boards.text import rounded
from vaebench.core.names import YOURS


def records(table: Headline) -> list[dict[str, Any]]:
    """A mapping for each line: rank and rank_to by the first measure, model, best_at (the measures that it may be best
    by), each measure with its standard error (both to two digits of the error; of one that has none anywhere, the value
    alone), origin, marks and verified; None where there is none.
    """
    found, certain = [], {column.key for column in table.columns if not _has_errors(column)}
    for line in table.lines:
        first = line.cells[0]
        place = None if first is None else first.rank
        record: dict[str, Any] = {"rank": place and place.first, "rank_to": place and place.last, "model": line.name}
        cells = dict(zip((column.key for column in table.columns), line.cells, strict=True))
        best = [key for key, cell in cells.items() if cell is not None and cell.rank and cell.rank.first == 1]
        record["best_at"] = ", ".join(best) or None
        for key, cell in cells.items():
            value, stderr = (None, None) if cell is None else rounded(cell.row)
            record |= {key: value} if key in certain else {key: value, f"{key}_se": stderr}
        verdicts = {cell.row.verified for cell in line.cells if cell is not None}
        verdict = "refuted" if "refuted" in verdicts else "verified" if verdicts == {"verified"} else "unverified"
        origin = YOURS if line.yours else "measured"
        found.append({**record, "origin": origin, "marks": marks_of(line, table.columns) or None, "verified": verdict})
    return found


def _has_errors(column: Column) -> bool:
    return any(cell.row.stderr is not None for cell in column.cells.values())


def names(table: Headline) -> list[str]:
    """The keys of each of the `records` of a headline."""
    keys = [name for column in table.columns for name in (column.key, f"{column.key}_se")[: 1 + _has_errors(column)]]
    return ["rank", "rank_to", "model", "best_at", *keys, "origin", "marks", "verified"]


def to_csv(table: Headline) -> str:
    """The records of a headline as CSV, with a dash (`ABSENT`) where there is none.

    The header names unit and better side behind the key of a measure: "nll (nats, lower is better)".
    """
    text = io.StringIO()
    titles = {column.key: _titled(column) for column in table.columns}
    writer = csv.DictWriter(text, names(table), lineterminator="\n")
    writer.writerow({name: titles.get(name, name) for name in names(table)})
    for record in records(table):
        writer.writerow({name: ABSENT if value is None else value for name, value in record.items()})
    return text.getvalue()


def _titled(column: Column) -> str:
    side = SIDES[column.better] if column.better in ("lower", "higher") else ""
    said = ", ".join(filter(None, (column.unit if column.unit != column.key else "", side)))
    return f"{column.key} ({said})" if said else column.key
