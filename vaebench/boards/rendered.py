"""The CSVs that people open, written from the rows of a board: the headline. Imports no torch."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from vaebench.boards import headline, per_example
from vaebench.boards.paired import comparer
from vaebench.boards.rows import Row
from vaebench.core import files


def write(root: Path, dataset: str, rows: Sequence[Row]) -> None:
    """Write root/<dataset>.csv, the headline; untouched where it is already right."""
    table = headline.of_rows(dataset, rows, comparer(partial(per_example.read, root)))
    files.write_changed(root / f"{dataset}.csv", headline.to_csv(table).encode())
