"""The CSVs that people open, written from the rows of a board: the headline, and a table a task. Imports no torch."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from vaebench.boards import headline, headline_csv, per_example, published, tasks
from vaebench.boards.paired import comparer
from vaebench.boards.rows import Row
from vaebench.core import files


def write(root: Path, dataset: str, rows: Sequence[Row], everything: bool = False) -> None:
    """Write root/<dataset>.csv, the headline, and root/<dataset>/<task>.csv; each untouched where it is already right.

    The latter only where `everything` is asked for, or where some are there, which would be out of date.
    """
    compare = comparer(partial(per_example.read, root))
    files.write_changed(root / f"{dataset}.csv", headline_csv.to_csv(headline.of_rows(dataset, rows, compare)).encode())
    there = {path for task in tasks.tasks() if (path := root / dataset / f"{task.slug}.csv").is_file()}
    if not there and not everything:
        return
    for table in tasks.of_rows(dataset, [*rows, *published.rows(dataset)], compare):
        path = root / dataset / f"{table.task.slug}.csv"
        files.write_changed(path, tasks.to_csv(table).encode())
        there.discard(path)
    for path in there:
        path.unlink()
