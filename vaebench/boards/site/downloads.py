"""A board as files that a reader takes away: headline and tasks as CSV, every row as Parquet. Imports no torch."""

from collections.abc import Iterator, Sequence

from vaebench.boards import headline_csv, marks, store, tasks
from vaebench.boards.headline import Headline
from vaebench.boards.ranking import Compare
from vaebench.boards.rows import Row


def of_board(table: Headline, rows: Sequence[Row], compare: Compare) -> Iterator[tuple[str, bytes]]:
    """A dataset's files: data/<dataset>.parquet, every row; where any is measured data/<dataset>.csv, a line a model,
    and data/<dataset>/<task>.csv, a line a result.
    """
    if table.lines:
        yield f"data/{table.dataset}.csv", headline_csv.to_csv(table).encode()
        for found in tasks.of_rows(table.dataset, rows, compare):
            yield f"data/{table.dataset}/{found.task.slug}.csv", tasks.to_csv(found).encode()
    yield f"data/{table.dataset}.parquet", store.encode(marks.alone(rows))
