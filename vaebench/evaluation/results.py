"""What one evaluation gave, as a person at a notebook holds it: values by column, a table, the rows. No torch."""

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from vaebench.boards import frame, marks, ranking, store
from vaebench.boards.classes import title
from vaebench.boards.rows import Row
from vaebench.boards.text import cell, number
from vaebench.core import files
from vaebench.core.errors import UserError, unknown

if TYPE_CHECKING:
    import pandas as pd

Kept = Mapping[tuple[str, str], bytes]
"""Files of metrics, by metric and name."""


class NoValueError(UserError, KeyError):
    """A column that there is no value of: it is unknown, or its metric was skipped or has failed."""

    __str__ = Exception.__str__


@final
@dataclass(frozen=True)
class Value:
    """A measured value: prints as "89.73 ± 0.25", and with its marks as "89.73 ± 0.25 (bound loose)".

    `low` and `high` are the ends of its 95% interval: the value itself where it has no standard error. `marks` are
    words on how far to trust it.
    """

    value: float
    stderr: float | None
    low: float
    high: float
    n: int | None
    unit: str
    marks: tuple[str, ...] = ()

    def __str__(self) -> str:
        return number(self.value, self.stderr, self.low, self.high) + self._told()

    def __repr__(self) -> str:
        return f"{number(self.value, self.stderr, self.low, self.high)} {self.unit}".rstrip() + self._told()

    def _told(self) -> str:
        return f" ({', '.join(self.marks)})" if self.marks else ""

    def __float__(self) -> float:
        return self.value


@final
class Results(Mapping[str, Value]):
    """The values of one evaluation, by column, with its facet where it has one: "auroc (score regret, set noise)".

    `rows` are all that it gave, skipped and failed ones too.
    """

    def __init__(self, rows: Sequence[Row], kept: Kept | None = None) -> None:
        self.rows = tuple(marks.together(rows))
        self._kept = {} if kept is None else dict(kept)
        self._values = {title(row): _value(row) for row in self.rows if row.status == "ok"}

    def __getitem__(self, column: str) -> Value:
        """The value of a column. NoValueError, which is a UserError and a KeyError, says why there is none."""
        if column in self._values:
            return self._values[column]
        for row in self.rows:
            if title(row) == column:
                raise NoValueError(f"{column} of {row.model} on {row.dataset}: {row.status}: {row.reason}")
        if several := [title(row) for row in self.rows if row.column == column]:
            raise NoValueError(f"there are several of {column!r}; give one of {', '.join(map(repr, several))}")
        told = [f"; {row.metric}: {row.status}: {row.reason}" for row in self.rows if not row.column]
        raise NoValueError(f"{unknown('column', column, self._values)}{''.join(told)}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def to_pandas(self) -> "pd.DataFrame":
        """The rows, one a line, with every field of the board's schema."""
        return frame.of_rows(self.rows)

    def write(self, leaderboards: str | Path | None = None) -> None:
        """Write the rows, and the files that metrics kept, to a folder of leaderboards.

        What is there of other metrics and models stays; a row that differs only in when and where stays as it was.

        Args:
            leaderboards: the folder; by default your own, $VAEBENCH_RESULTS or else `results`, which `vaebench.board`
                reads over the shipped ones.

        Raises:
            UserError: the folder cannot be written.
            DataError: a file of the board is damaged.
        """
        write(Path(leaderboards or files.own_boards()), self.rows, self._kept)

    def _lines(self) -> list[tuple[str, ...]]:
        """Metric, column, value, unit, better side and n of each row; one line of a metric without values."""
        lines = dict[tuple[str, str], tuple[str, ...]]()
        for row in self.rows:
            if row.value is None:
                lines.setdefault((row.metric, ""), (row.metric, "", f"{row.status}: {row.reason}", "", "", ""))
            else:
                side = "" if row.better == "none" else row.better
                lines[row.metric, title(row)] = (row.metric, title(row), cell(row), row.unit, side, str(row.n or ""))
        return list(lines.values())

    def __repr__(self) -> str:
        lines = [_HEADINGS, *self._lines()]
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        text = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        ]
        return "\n".join([self._title(), *text])

    def _repr_html_(self) -> str:
        """The table that a notebook shows."""

        def cells(tag: str, line: Sequence[str]) -> str:
            return "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in line)

        body = "".join(f"<tr>{cells('td', line)}</tr>" for line in self._lines())
        head = f"<caption>{html.escape(self._title())}</caption><thead><tr>{cells('th', _HEADINGS)}</tr></thead>"
        return f"<table>{head}<tbody>{body}</tbody></table>"

    def _title(self) -> str:
        return f"{self.rows[0].model} on {self.rows[0].dataset}, seed {self.rows[0].seed}" if self.rows else "no rows"


_HEADINGS = ("metric", "column", "value ± standard error", "unit", "better", "n")


def _value(row: Row) -> Value:
    assert row.value is not None
    return Value(row.value, row.stderr, *ranking.interval(row), row.n, row.unit, row.marks)


def write(leaderboards: Path, rows: Sequence[Row], kept: Kept) -> None:
    """Write rows of one entry to its board, and then what metrics with values kept."""
    store.write(leaderboards, rows)
    measured = {row.metric: row for row in rows if row.status == "ok"}
    for (metric, name), content in kept.items():  # once the rows are: a file without its row would be stale
        if metric in measured:
            row = measured[metric]
            files.write_changed(leaderboards / row.dataset / row.model / metric / name, content)
