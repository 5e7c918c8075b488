"""vaebench verify and vaebench reproduce: rows measured again."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vaebench.cli.board import class_option
from vaebench.cli.common import (
    SEED,
    as_json_option,
    boards_option,
    complete,
    data_option,
    find_card,
    find_weights,
    max_draws_option,
    metric_option,
    open_boards,
    options,
    tell_boards,
    weights_option,
)
from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.core.errors import UserError, unknown
from vaebench.core.registry import load_dataset
from vaebench.models import card as cards

if TYPE_CHECKING:
    from vaebench.evaluation.run import Settings
    from vaebench.models.card import Card

arguments = options(
    click.argument("model", shell_complete=complete(lambda: sorted({name for _, name in cards.ids()}))),
    click.argument("dataset", shell_complete=complete(lambda: plugins.names("datasets"))),
)
entry_options = options(
    click.option("--card", type=click.Path(path_type=Path), help="The model's card, where the zoo has none."),
    weights_option,
    data_option,
)


def _behind(model: str, dataset: str, card: Path | None, weights: Path | None) -> "tuple[Card, Path]":
    """What rows were measured on, by the zoo's card or this one: the card and the file of weights.

    With weights of its own, a model may have another name on the board than its card has: `run --name` gave it.
    """
    found = find_card(None if card else model, dataset, card)
    if found.name != model and weights is None:
        raise UserError(f"card {card} is of {found.name}, not of {model}; give the card of {model}")
    return found, weights or find_weights(found)


def _settings(device: str, seed: int, max_draws: int | None, data: Path | None, *, journal: bool) -> "Settings":
    from vaebench.core.device import torch_device
    from vaebench.evaluation.journal import Journal
    from vaebench.evaluation.run import Settings

    kept = Journal(files.cache() / "journal") if journal else None
    return Settings(torch_device(device), seed=seed, max_draws=max_draws, journal=kept, data=data)


@click.command()
@arguments
@metric_option
@click.option("--level", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.01, show_default=True,
              help="The chance that an honest model has any row refuted.")  # fmt: skip
@click.option("--tolerance", type=click.FloatRange(0), default=0.05, show_default=True,
              help="Relative, for estimates that have no standard error.")  # fmt: skip
@click.option("--seed", type=SEED, default=1000, show_default=True, help="Seed for the re-evaluation.")
@click.option("--confirm", type=click.IntRange(0, 1000), default=5, show_default=True,
              help="Further seeds to evaluate before a row is refuted; 0 or 1: none.")  # fmt: skip
@entry_options
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1.")
@max_draws_option
@click.option("--dry-run", is_flag=True, help="Judge, and write nothing.")
@options(boards_option, as_json_option)
@click.pass_context
def verify(
    ctx: click.Context, model: str, dataset: str, metrics: tuple[str, ...], level: float, tolerance: float, seed: int,
    confirm: int, card: Path | None, weights: Path | None, data: Path | None, device: str, max_draws: int | None,
    dry_run: bool, leaderboards: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Evaluate a model again with another seed; its rows become verified or refuted.

    A row is refuted where it differs from its re-evaluation by more than their noise: of each example's difference
    where per-example values are kept (the sharper test), else of both standard errors combined, corrected for the
    number of columns by Holm's method. Exact columns must be equal but for rounding; estimates without a standard error
    are held to --tolerance. What would be refuted by standard errors or tolerance is first evaluated with --confirm
    more seeds, whose spread then decides. What is judged is written to your own board, or to the folder that
    --leaderboards names, where the re-evaluation stays as rows of its seed. Exit code 1 where a row is not verified.
    """
    from vaebench.cli import bar as progress
    from vaebench.cli import tables as terminal
    from vaebench.evaluation import remeasure

    boards = open_boards(leaderboards)
    rows = [row for row in remeasure.stored_rows(boards, model, dataset, metrics) if row.seed != seed]
    if not rows:
        raise UserError(f"{model} on {dataset} has rows of seed {seed} only; give another --seed")
    out = leaderboards or files.own_boards()
    if not dry_run:
        files.check_writable(out / dataset)
    tell_boards(leaderboards, boards)
    found, file = _behind(model, dataset, card, weights)
    rows = remeasure.of_weights(rows, file)
    entry = remeasure.entry_behind(rows, found, file, load_dataset(dataset, data))
    settings = _settings(device, seed, max_draws, data, journal=True)
    with progress.Bar(ctx.find_root().params["debug"]) as bar:
        judged, again = remeasure.verify(
            entry, rows, boards, settings, level=level, tolerance=tolerance, confirm=confirm, progress=bar
        )
    if not dry_run:
        remeasure.record(out, judged, again)
        click.echo(f"written to {out / dataset / model}.parquet", err=True)
    if as_json:
        terminal.print_json([each.record() for each in judged])
    else:
        terminal.print_judgements(judged, level)
    ctx.exit(0 if all(each.verdict == "verified" for each in judged) else 1)


@click.command()
@arguments
@metric_option
@click.option("--column", help="Show only this column.")
@click.option("--seed", type=SEED, help="Only rows of this seed.")
@class_option
@entry_options
@click.option("--device", help="Device, instead of the row's own: cpu, cuda, cuda:1.")
@options(boards_option, as_json_option)
@click.pass_context
def reproduce(
    ctx: click.Context, model: str, dataset: str, metrics: tuple[str, ...], column: str | None, seed: int | None,
    protocol: tuple[str, ...], card: Path | None, weights: Path | None, data: Path | None, device: str | None,
    leaderboards: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Repeat the run behind a row: the same parameters, seed, number type and device, nothing from a journal.

    Says which values are equal bit for bit, within rounding or different, and what differs in the environment: torch,
    vaebench, its commit, the device. Exit code 1 where a value is different. Nothing is written.
    """
    from vaebench.boards import selection, verification
    from vaebench.boards.classes import facet
    from vaebench.cli import bar as progress
    from vaebench.cli import tables as terminal
    from vaebench.evaluation import remeasure

    boards = open_boards(leaderboards)
    rows = remeasure.stored_rows(boards, model, dataset, metrics)
    tell_boards(leaderboards, boards)
    for text in protocol:
        rows = selection.of_class(dataset, rows, text)
    if seed is not None and not (rows := [row for row in rows if row.seed == seed]):
        raise UserError(f"{model} on {dataset} has no such row of seed {seed}; leave --seed out to see which there are")
    if column is not None and not any(row.column == column for row in rows):
        raise UserError(f"{model} on {dataset}: {unknown('column', column, {row.column for row in rows})}")
    of, file = _behind(model, dataset, card, weights)
    rows = remeasure.of_weights(rows, file)
    runs = remeasure.runs_of([row for row in rows if column in (None, row.column)], by_seed=True)
    if len(runs) > 1:
        told = "; ".join(f"{run[0].metric}, seed {run[0].seed}, {run[0].parameters}" for run in runs)
        raise UserError(f"{len(runs)} runs fit: {told}; choose one with --metric, --seed or --class FIELD=VALUE")
    (run,) = runs
    entry = remeasure.entry_behind(run, of, file, load_dataset(dataset, data))
    own = "cpu" if run[0].device in ("cpu", None) else "cuda"
    with progress.Bar(ctx.find_root().params["debug"]) as bar:
        found = remeasure.reproduce(entry, run, _settings(device or own, 0, None, data, journal=False), bar)
    differs = verification.environment(*found[0][:2])
    if as_json:
        record = {
            "environment": [{"part": name, "row": old, "now": now} for name, old, now in differs],
            "columns": [
                {"metric": row.metric, "column": row.column, "facet": facet(row), "seed": row.seed,
                 "parameters": row.parameters, "row": row.value, "now": other.value,
                 "agreement": agreement, "reason": other.reason}
                for row, other, agreement in found
            ],
        }  # fmt: skip
        terminal.print_json(record)
    else:
        terminal.print_reproduction(found, differs)
    ctx.exit(1 if any(agreement == "different" for _, _, agreement in found) else 0)
