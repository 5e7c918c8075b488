"""vaebench board."""

import sys
from pathlib import Path
from typing import Any

import click

from .. import files, plugins
from ..errors import UserError, unknown
from .common import (
    as_json_option,
    boards_option,
    complete,
    options,
)


@click.group()
def board() -> None:
    """Read leaderboards."""


def _rows(leaderboards: Path, dataset: str) -> list[Any]:
    from .. import board as boards

    shipped = files.shipped_boards()
    root = leaderboards if leaderboards.is_dir() or not shipped.is_dir() else shipped
    rows = boards.read(root, dataset)
    if not rows:
        known = ", ".join(boards.datasets(root)) or "none"
        raise UserError(f"no leaderboard of {dataset!r} in {root}; there are: {known}")
    if root != leaderboards:
        click.echo(f"there is no folder {leaderboards}: this is the board that vaebench ships", err=True)
    return rows


@board.command()
@click.argument("dataset", shell_complete=complete(lambda: plugins.names("datasets")))
@click.option("--metric", help="Only this metric.")
@click.option("--by", help="Order by this column, best first.")
@options(boards_option, as_json_option)
def show(dataset: str, metric: str | None, by: str | None, leaderboards: Path, as_json: bool) -> None:
    """Print a board: ranks tie where 95% intervals overlap, and never cross comparability classes."""
    from .. import ranking, terminal

    rows = _rows(leaderboards, dataset)
    if metric is not None:
        known = {row.metric for row in rows}
        rows = [row for row in rows if row.metric == metric]
        if not rows:
            raise UserError(f"the board of {dataset!r}: {unknown('metric', metric, known)}")
    if by is not None and by not in (columns := {row.column for row in rows}):
        raise UserError(f"the board of {dataset!r}: {unknown('column', by, columns)}")
    if as_json:
        terminal.print_json(ranking.to_json(rows))
        return
    for group in ranking.table(rows, by=by):
        terminal.print_group(group)


@board.command("csv")
@click.argument("dataset", shell_complete=complete(lambda: plugins.names("datasets")))
@boards_option
def board_csv(dataset: str, leaderboards: Path) -> None:
    """Print a board as CSV: a line for each model and class, standard errors in columns of their own."""
    from .. import ranking

    sys.stdout.write(ranking.to_csv(_rows(leaderboards, dataset)))
