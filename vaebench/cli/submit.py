"""vaebench submit."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vaebench.cli.common import as_json_option, data_option, device_option, max_draws_option, options
from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.core.errors import UserError
from vaebench.evaluation import choice
from vaebench.submission.layout import check_out, lay_out, replace

if TYPE_CHECKING:
    from vaebench.boards.rows import Row
    from vaebench.core.metric import Metric
    from vaebench.submission.folder import Problem

LONGEST = 500  # characters of a fault that are shown


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Run every check of a pull request; measure and write nothing.")
@click.option("--preset", type=click.Choice(["quick", "standard"]), default="standard", show_default=True,
              help="quick is for trying: a pull request needs standard.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), default=Path("submission"), show_default=True,
              help="Folder for the files of the pull request.")  # fmt: skip
@options(data_option, device_option)
@options(max_draws_option, as_json_option)
@click.pass_context
def submit(
    ctx: click.Context, folder: Path, dry_run: bool, preset: str, out: Path, data: Path | None, device: str,
    max_draws: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Check the model in FOLDER, measure it, and lay out a pull request.

    FOLDER holds a card and its weights, of one name, as `vaebench train` writes them; or, with --dry-run, what this
    verb has laid out. Nothing in it is executed. All that is wrong is told in one list, and then nothing is measured;
    else the metrics that the dataset's board has are, and their rows are `unverified` until a maintainer verifies them.
    Killed or interrupted, the same command goes on from the last finished block. Exit code 1 where anything is wrong.
    """
    from vaebench.boards import overlay
    from vaebench.cli import bar as progress
    from vaebench.cli import results
    from vaebench.submission import folder as submission
    from vaebench.submission import rows as submission_rows

    bar = progress.Bar(ctx.find_root().params["debug"])
    with bar:
        found, problems = submission.read(folder, bar.fetch)
    if found is not None and found.boards is not None and not dry_run:
        raise UserError(f"{folder} is laid out already; --dry-run checks it")
    if found is not None and not dry_run:
        check_out(out, found)
    if found is not None and not problems:
        problems = submission.model_faults(found)
    if found is None or problems:
        _tell(ctx, problems, [], [], as_json)
        return
    dataset = found.card.dataset
    names = submission_rows.required(dataset)
    presets: dict[str, dict[str, Metric]] = {each: choice.metrics(names, each) for each in choice.PRESETS}
    rows: list[Row] = []
    written: list[str] = []
    if found.boards is not None:
        rows, problems = submission_rows.check(found, found.boards, presets, _pinned(dataset), preset)
    elif not dry_run:
        with bar, tempfile.TemporaryDirectory() as name:
            tree = Path(name)
            lay_out(tree, found, presets[preset], data, device, max_draws, bar)
            rows, problems = submission_rows.check(found, tree / "leaderboards", presets, _pinned(dataset), preset)
            written = [] if problems else replace(out, tree)
    if not problems:
        click.echo(f"{found.card.id}: nothing is wrong", err=True)
    if written:
        click.echo(f"written to {out}; to submit, copy it over a clone of vaebench and open a pull request", err=True)
    if rows and not problems and preset != "standard":
        click.echo(f"measured at {preset}; a pull request needs standard", err=True)
    _tell(ctx, problems, rows, written, as_json)
    if rows and not problems and not as_json:
        boards = overlay.Boards(files.shipped_boards(), found.boards or out / "leaderboards")
        results.show_own(boards, dataset, found.card.name)


def _pinned(dataset: str) -> str | None:
    from vaebench.core.data import Source

    source = plugins.load("datasets", dataset)
    assert isinstance(source, Source)
    return source.fingerprint


def _printable(text: str) -> str:
    """A stranger's text as one line, which moves no cursor and fills no screen."""
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(shown.split()))


def _tell(
    ctx: click.Context, problems: "Sequence[Problem]", rows: "list[Row]", written: Sequence[str], as_json: bool
) -> None:
    """The problems, or the files; and the exit code."""
    from vaebench.boards import export
    from vaebench.cli import tables as terminal

    if as_json:
        record: dict[str, Any] = {
            "problems": [problem._asdict() for problem in problems],
            "files": written,
            "rows": export.to_json(rows),
        }
        terminal.print_json(record)
    elif problems:
        terminal.print_table(("file", "what is wrong"), [tuple(map(_printable, problem)) for problem in problems])
    elif written:
        terminal.print_table(("file of the pull request",), [(name,) for name in written])
    if problems:
        ctx.exit(1)
