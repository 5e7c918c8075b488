"""vaebench board."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vaebench.cli.claims import claims
from vaebench.cli.common import (
    as_json_option,
    boards_option,
    complete,
    metric_option,
    open_boards,
    options,
    own_boards_option,
    tell_boards,
)
from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.core.errors import DataError, UserError, unknown
from vaebench.core.names import YOURS
from vaebench.models import card as cards

if TYPE_CHECKING:
    from vaebench.boards.overlay import Boards
    from vaebench.boards.rows import Row


@click.group()
def board() -> None:
    """Read leaderboards: those that vaebench ships, with your own rows over them, marked `yours`.

    A row of yours takes the place of the shipped one of the same model, weights, metric, parameters and seed; others
    stand beside it. `vaebench run` writes yours to the folder `results`, or $VAEBENCH_RESULTS.
    """


def board_rows(leaderboards: Path | None, dataset: str, published: bool = False) -> "tuple[Boards, list[Row]]":
    """The boards read from and the rows of one of them: `open_boards`, told where they are others than asked for.

    With `published`, also what others have published. UserError, with the boards that there are, where it has no rows.
    """
    from vaebench.boards import published as others

    boards = open_boards(leaderboards)
    rows = boards.read(dataset) + (others.rows(dataset) if published else [])
    if not rows:
        raise boards.absent(dataset, others.datasets())
    tell_boards(leaderboards, boards)
    return boards, rows


dataset_argument = click.argument("dataset", shell_complete=complete(lambda: plugins.names("datasets")))
class_option = click.option(
    "--class", "protocol", multiple=True, metavar="FIELD=VALUE",
    help="Only this comparability class, as samples=1000; can be given again.",
)  # fmt: skip


filter_options = options(
    metric_option,
    class_option,
    click.option("--origin", type=click.Choice(["measured", "published"]), help="Only such rows."),
    click.option("--verified", type=click.Choice(["unverified", "verified", "refuted"]), help="Only such rows."),
)


def _choose(
    dataset: str, leaderboards: Path | None, metrics: tuple[str, ...], protocol: tuple[str, ...],
    words: Mapping[str, str | None],
) -> "tuple[Boards, list[Row]]":  # fmt: skip
    """The boards read from, and the rows that every filter lets through.

    UserError with the nearest name, or for the filter that leaves none.
    """
    from vaebench.boards import selection

    boards, rows = board_rows(leaderboards, dataset, published=True)
    rows = selection.of_metrics(rows, metrics, f"the board of {dataset!r}")
    for text in protocol:
        rows = selection.of_class(dataset, rows, text)
    for name, word in words.items():
        if word is not None:
            rows = [row for row in rows if getattr(row, name) == word]
            if not rows:
                raise UserError(f"the board of {dataset!r} has no such rows that are {word}; leave --{name} out")
    return boards, rows


def _tasks() -> list[str]:
    from vaebench.boards import tasks

    return [each.slug for each in tasks.tasks()]


@board.command()
@click.argument("dataset", required=False, shell_complete=complete(lambda: plugins.names("datasets")))
@click.option("--task", shell_complete=complete(_tasks),
              help="Results of one task, as density-estimation: on DATASET, or on all of them.")  # fmt: skip
@click.option("--model", shell_complete=complete(lambda: sorted({name for _, name in cards.ids()})),
              help="Results of one model: on DATASET, or on all of them.")  # fmt: skip
@filter_options
@click.option("--by", help="Order by this column, best first.")
@click.option("--all", "everything", is_flag=True, help="Every metric and protocol, not the headline.")
@options(boards_option, as_json_option)
def show(
    dataset: str | None, task: str | None, model: str | None, metrics: tuple[str, ...], protocol: tuple[str, ...],
    origin: str | None, verified: str | None, by: str | None, everything: bool, leaderboards: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Print a board: its headline, a line a model, and what a person would say of it. Without DATASET, all of them.

    With --task or --model: results by task, dataset and metric, each with its rank, those of others set apart.
    With any filter, --by or --all: every metric and protocol, with what others have published, which stands apart,
    with its source and, where it cannot be compared, the reason. As JSON every row.

    Ranks are ranges where 95% intervals overlap, and never cross comparability classes. They are among the rows that
    are shown; where two models keep values of each example, the interval of their paired difference decides. A class of
    one model has no rank, nor have refuted rows, nor a collapsed model in columns that collapse makes perfect. `bound
    loose` marks a bound that has not converged, whose rank has slack for that.
    """
    from vaebench.boards import export, headline, marks, ranking, remarks
    from vaebench.cli import results
    from vaebench.cli import tables as terminal

    filters = {"metric": metrics, "class": protocol, "origin": origin, "verified": verified, "by": by}
    if dataset is None or task is not None or model is not None:
        if odd := [name for name, given in filters.items() if given]:
            raise UserError(f"--{odd[0]} is of one board as a whole; give a DATASET, and leave out --task and --model")
        results.across(leaderboards, dataset, task, model, everything, as_json)
        return
    boards, rows = _choose(dataset, leaderboards, metrics, protocol, {"origin": origin, "verified": verified})
    if by is not None and by not in (columns := {row.column for row in rows}):
        raise UserError(f"the board of {dataset!r}: {unknown('column', by, columns)}")
    if as_json:
        terminal.print_json(export.to_json(rows))
        return
    compare = boards.comparer()
    chosen = everything or any(filters.values())
    if not chosen and not any(row.origin == "measured" for row in rows):
        results.show_others(boards, dataset)
        return
    if not chosen:
        table = headline.of_rows(dataset, rows, compare)
        terminal.print_headline(table, remarks=remarks.of_board(table, rows, compare))
        seen = {cell.row.model for line in table.lines for cell in line.cells if cell and YOURS in cell.row.marks}
        if apart := sorted({row.model for row in rows if YOURS in row.marks} - seen):
            told = f"your rows of {', '.join(apart)} are of other protocols than these columns: --all shows them"
            click.echo(told, err=True)
        if others := sum(row.origin == "published" for row in rows):
            click.echo(f"{others} results that others have published stand apart: --task TASK, or --origin published")
        return
    known = marks.slack(boards.read(dataset))  # also by rows that are not shown
    groups = ranking.table(rows, by=by, compare=compare, slack=known)
    for group in sorted(groups, key=lambda group: (group.metric, group.origin)):
        terminal.print_group(group)


@board.command("csv")
@dataset_argument
@filter_options
@boards_option
def board_csv(
    dataset: str, metrics: tuple[str, ...], protocol: tuple[str, ...], origin: str | None, verified: str | None,
    leaderboards: Path | None,
) -> None:  # fmt: skip
    """Print a board as CSV: a line for each model and class, standard errors in columns of their own.

    With what others have published. The file <dataset>.csv of a leaderboards folder is the headline instead.
    """

    _, rows = _choose(dataset, leaderboards, metrics, protocol, {"origin": origin, "verified": verified})
    from vaebench.boards import export

    click.echo(export.to_csv(rows), nl=False)


@board.command("diff")
@click.argument("model")
@click.argument("other")
@click.option("--dataset", required=True, shell_complete=complete(lambda: plugins.names("datasets")))
@click.option("--column", default="nll", show_default=True,
              help="The column to compare, of a metric that keeps per-example values: nll, elbo.")  # fmt: skip
@options(class_option, boards_option, as_json_option)
def board_diff(
    model: str, other: str, dataset: str, column: str, protocol: tuple[str, ...], leaderboards: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Compare two models example by example: MODEL minus OTHER, a line for each class that both were measured in.

    Better and worse are of MODEL: the 95% interval of the mean difference lies on one side of zero. That is far sharper
    than two overlapping intervals of a board, since what makes an example hard for both cancels.
    """
    from vaebench.boards import selection
    from vaebench.boards.paired import paired, pairs, record
    from vaebench.cli import tables as terminal

    boards, rows = board_rows(leaderboards, dataset)
    rows = [row for row in rows if row.origin == "measured"]
    for name in (model, other):
        if name not in (models := {row.model for row in rows}):
            raise UserError(f"the board of {dataset!r}: {unknown('model', name, models)}")
    if model == other:
        raise UserError(f"{model} and {other} are one model; name two")
    sides = {row.column: row.better for row in rows if row.status == "ok"}
    if column not in sides:
        raise UserError(f"the board of {dataset!r}: {unknown('column', column, sides)}")
    if sides[column] == "none":
        raise UserError(f"neither more nor less of {column} is better; compare another column, as nll")
    rows = [row for row in rows if row.column == column and row.model in (model, other)]
    for text in protocol:
        rows = selection.of_class(dataset, rows, text)
    matches = pairs([row for row in rows if row.model == model], [row for row in rows if row.model == other])
    found, absent = [], []
    for a, b in matches:
        try:
            found.append((a, b, paired(boards.values(a), boards.values(b))))
        except DataError as error:
            absent.append(error)
    if not found:
        raise absent[0]
    for reason in absent:
        click.echo(f"left out: {reason}", err=True)
    if as_json:
        terminal.print_json([record(*each) for each in found])
    else:
        terminal.print_differences(found)


@board.command()
@options(own_boards_option, as_json_option)
def migrate(leaderboards: Path | None, as_json: bool) -> None:
    """Rewrite every board of an earlier version's rows in the present schema, once; no value changes.

    Columns whose names held what they are of get facets, and rows the intervals, marks and comparability classes that
    follow from what they hold. Boards that are right already are left as they are.
    """
    from vaebench.boards import migration
    from vaebench.cli import tables as terminal

    if not (root := leaderboards or files.own_boards()).is_dir():
        raise UserError(f"there is no folder {root}; name one with --leaderboards")
    done = migration.migrate(root)
    if as_json:
        terminal.print_json([{"file": str(path), "rows": count} for path, count in done.items()])
    else:
        click.echo(f"{sum(done.values())} rows of {len(done)} files are of schema 2 now", err=True)


@board.command()
@own_boards_option
def render(leaderboards: Path | None) -> None:
    """Write the CSVs of every board anew from its rows: after a merge, and where one was edited by hand."""
    from vaebench.boards import store as boards

    root = leaderboards or files.own_boards()
    if not (names := boards.datasets(root)):
        raise UserError(f"there are no boards in {root}; name a folder of boards with --leaderboards")
    for name in names:
        boards.render(root, name)
    click.echo(f"{len(names)} boards of {root} are rendered", err=True)


@board.command()
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="A new or empty folder, or an earlier site."
)
@click.option("--docs", is_flag=True, help="Link every page to the documentation, for mkdocs to build into OUT/docs.")
@options(boards_option, as_json_option)
def html(out: Path, docs: bool, leaderboards: Path | None, as_json: bool) -> None:
    """Write every board as a folder of pages that open from disk: open index.html in a browser.

    A page for each dataset and each model, with cards, provenance, curves and pictures, and the boards as CSV and
    Parquet. Pages of an earlier site in the same folder that are out of date are removed; nothing else there is
    touched.
    """
    from vaebench.boards import site
    from vaebench.cli import bar as progress
    from vaebench.cli import tables as terminal

    boards = open_boards(leaderboards)
    with progress.Bar() as bar:
        written = site.write(boards, out, bar.report, docs)
    tell_boards(leaderboards, boards)
    if as_json:
        terminal.print_json({"index": str(out / "index.html"), **written._asdict()})
    else:
        removed = f"; files of an earlier site removed: {written.removed}" if written.removed else ""
        click.echo(f"{out / 'index.html'} ({written.pages} pages{removed})")


board.add_command(claims)
