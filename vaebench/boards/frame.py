"""Boards as pandas DataFrames. Imports no torch."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from vaebench.boards import store
from vaebench.boards.rows import KINDS, Row
from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.core.errors import UserError, unknown

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


def board(dataset: str, leaderboards: str | Path | None = None) -> "pd.DataFrame":
    """The measured rows of a dataset's board that have a value, as a DataFrame: one a line.

    Args:
        dataset: its name.
        leaderboards: a folder of boards; by default the one that vaebench ships.

    Raises:
        UserError: the dataset is unknown, or its board is empty.
        DataError: a file of the board is damaged.
    """
    root = files.shipped_boards() if leaderboards is None else Path(leaderboards)
    found = [row for row in store.read(root, dataset) if row.origin == "measured" and row.status == "ok"]
    if not found:
        if dataset not in plugins.names("datasets"):
            raise unknown("dataset", dataset, {*plugins.names("datasets"), *store.datasets(root)})
        known = ", ".join(store.datasets(root)) or "none"
        raise UserError(f"the board of {dataset!r} in {root} is empty; there are boards of: {known}")
    return of_rows(found)
