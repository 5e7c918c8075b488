"""Boards as they are read: those that vaebench ships, and one's own rows over them. Imports no torch."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaebench.boards import marks, paired, per_example, store
from vaebench.boards.ranking import Compare
from vaebench.boards.rows import Row
from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.core.errors import UserError, unknown
from vaebench.core.names import YOURS


@dataclass(frozen=True)
class Boards:
    """A folder of boards, and `own`, whose rows stand over them marked `yours`; None where nothing is one's own.

    An own row takes the place of the one below that it would replace in a file (`store.merge`): of the same model,
    weights, metric, parameters, split and seed. The mark is on rows that are read, and in no file.
    """

    folder: Path
    own: Path | None = None

    def __str__(self) -> str:
        folder = "the shipped boards" if self.folder == files.shipped_boards() else f"{self.folder}"
        return folder if self.own is None else f"{self.own} and {folder}"

    def datasets(self) -> list[str]:
        """The datasets that have a board, sorted."""
        return sorted({*store.datasets(self.folder), *(() if self.own is None else store.datasets(self.own))})

    def absent(self, dataset: str, others: Iterable[str] = ()) -> UserError:
        """The error for a dataset without a row, with the nearest that has one; `others` have published ones alone."""
        others = set(others)
        known = {*self.datasets(), *(() if dataset in others else others)}
        if dataset not in {*plugins.names("datasets"), *others}:
            return UserError(f"{self}: {unknown('dataset', dataset, known)}")
        there = ", ".join(sorted(known)) or "none"
        only = "others' results alone" if dataset in others else "empty"
        return UserError(f"the board of {dataset!r} in {self} is {only}; there are boards of: {there}")

    def read(self, dataset: str) -> list[Row]:
        """All rows of `dataset`, by model and then in file order; none where none were written. DataError names a
        damaged file.
        """
        under = store.read(self.folder, dataset)
        over = [] if self.own is None else store.read(self.own, dataset)
        models: dict[str, tuple[list[Row], list[Row]]] = {}
        for side, rows in enumerate((under, over)):
            for row in rows:
                models.setdefault(row.model, ([], []))[side].append(row)
        return [
            row for _, (below, mine) in sorted(models.items()) for row in store.overlaid(marks.alone(below), _own(mine))
        ]

    def root(self, row: Row) -> Path:
        """The folder that a row was read from: what its metric kept lies there."""
        return self.own if self.own is not None and YOURS in row.marks else self.folder

    def folders(self, dataset: str, model: str) -> list[Path]:
        """The folders of what metrics kept of a model, one's own first; some may not exist."""
        return [root / dataset / model for root in (self.own, self.folder) if root is not None]

    def values(self, row: Row) -> NDArray[np.float64]:
        """The per-example values behind a row, as `per_example.read` gives them."""
        return per_example.read(self.root(row), row)

    def comparer(self) -> Compare:
        """The paired differences of these boards' rows."""
        return paired.comparer(self.values)


def _own(rows: list[Row]) -> list[Row]:
    return [marks.marked(row, YOURS) for row in marks.alone(rows)]


def opened(named: str | Path | None = None) -> Boards:
    """The boards to read: those of the folder that is named, alone; else the shipped ones with one's own over them.

    One's own are in `files.own_boards()`, if there is such a folder and it is not the shipped one.
    """
    if named is not None:
        return Boards(Path(named))
    shipped, own = files.shipped_boards(), files.own_boards()
    there = own.is_dir() and not (shipped.is_dir() and own.samefile(shipped))
    return Boards(shipped, own if there else None)
