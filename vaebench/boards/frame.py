"""Boards as pandas DataFrames. Imports no torch."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vaebench.boards import headline, headline_csv, overlay, published
from vaebench.boards.rows import KINDS, Row
from vaebench.core.errors import unknown

if TYPE_CHECKING:
    import pandas as pd


def of_rows(rows: Iterable[Row]) -> "pd.DataFrame":
    """A line for each row, with a column for each field of the schema; whole numbers stay so where some are absent."""
    import pandas as pd

    table = pd.DataFrame([dataclasses.asdict(row) for row in rows], columns=list(KINDS))
    whole = {name: "Int64" for name, (kind, _) in KINDS.items() if str(kind) == "int64"}
    real = {name: "float64" for name, (kind, _) in KINDS.items() if str(kind) == "double"}
    table = table.astype({**whole, **real, "dirty": "boolean"})
    return table.assign(created=pd.to_datetime(table["created"], utc=True))


def of_headline(table: headline.Headline) -> "pd.DataFrame":
    """A line for each model of a headline, with the columns of its CSV; `attrs["columns"]` says what they are."""
    import pandas as pd

    names = headline_csv.names(table)
    found = pd.DataFrame(headline_csv.records(table), columns=names)
    found = found.astype({"rank": "Int64", "rank_to": "Int64", **dict.fromkeys(names[4:-3], "float64")})
    found.attrs["columns"] = {column.key: headline.legend(column) for column in table.columns if column.cells}
    return found


def board(
    dataset: str, leaderboards: str | Path | None = None, *, table: Literal["headline", "rows"] = "headline"
) -> "pd.DataFrame":
    """The board of a dataset as a DataFrame: its headline, a line a model, or every measured row that has a value.

    Args:
        dataset: its name.
        leaderboards: a folder of boards, read alone; by default those that vaebench ships, and over them, marked
            `yours`, your own of $VAEBENCH_RESULTS, else of the folder `results`.
        table: "headline": rank, rank_to, model, best_at, at most ten measures each with its standard error, origin,
            marks, verified; `attrs["columns"]` says unit, better side and protocol of each measure. "rows": a line for
            each row.

    Returns:
        A DataFrame, best model first where the headline ranks.

    Raises:
        UserError: the dataset is unknown, or its board is empty, or `table` is neither.
        DataError: a file of the board is damaged.
    """
    if table not in ("headline", "rows"):
        raise unknown("table", table, ("headline", "rows"))
    boards = overlay.opened(leaderboards)
    rows = boards.read(dataset)
    found = [row for row in rows if row.origin == "measured" and row.status == "ok"]
    if not found:
        raise boards.absent(dataset, published.datasets())
    if table == "rows":
        return of_rows(found)
    return of_headline(headline.of_rows(dataset, rows, boards.comparer()))
