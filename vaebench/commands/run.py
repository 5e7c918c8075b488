"""vaebench run."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import card as cards
from .. import files, plugins
from ..errors import UserError, unknown
from .common import (
    as_json_option,
    boards_option,
    complete,
    data_option,
    dataset_option,
    device_option,
    find_card,
    load_dataset,
    model_option,
    options,
    torch_device,
)

if TYPE_CHECKING:
    from ..data import Dataset
    from ..metric import Metric


def _metrics(names: tuple[str, ...], preset: str, changes: tuple[str, ...]) -> "dict[str, Metric]":
    """The metrics of `preset`, with the fields that `changes` ("metric.field=value") set."""
    import json

    chosen = {name: plugins.load("metrics", name)[preset] for name in names or plugins.names("metrics")}  # type: ignore[index]
    for change in changes:
        target, _, value = change.partition("=")
        name, _, field = target.partition(".")
        if name not in chosen or not field or not value:
            raise UserError(f"--set {change!r} should be METRIC.FIELD=VALUE with METRIC one of {', '.join(chosen)}")
        try:
            parsed = json.loads(value)
        except ValueError:
            parsed = value
        table = {**dataclasses.asdict(chosen[name]), field: parsed}
        chosen[name] = cards.build(type(chosen[name]), table, f"--set {change}")
    return chosen


def _check_splits(metrics: "Mapping[str, Metric]", changes: tuple[str, ...], dataset: "Dataset") -> None:
    """UserError for a split that --set names and the dataset lacks; a split that a preset names gives skipped rows."""
    for name, metric in metrics.items():
        asked = any(change.startswith(f"{name}.split=") for change in changes)
        if asked and metric.split not in dataset.splits:
            raise UserError(f"--set {name}.split: {unknown('split', metric.split, dataset.splits)}")


@click.command()
@options(model_option, dataset_option)
@click.option("--card", type=click.Path(path_type=Path), help="A card of your own, instead of --model.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Weights (safetensors) instead of the card's.")
@click.option("--trajectory", type=click.Path(path_type=Path),
              help="Folder of checkpoints along the training.  [default: the one beside the weights]")  # fmt: skip
@click.option("--metric", "metric", multiple=True, shell_complete=complete(lambda: plugins.names("metrics")),
              help="Only this metric; can be given again.  [default: all that apply]")  # fmt: skip
@click.option("--preset", type=click.Choice(["quick", "standard", "paper"]), default="standard", show_default=True)
@click.option("--set", "changes", multiple=True, metavar="METRIC.FIELD=VALUE", help="Change a metric's parameter.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of all evaluation noise.")
@options(data_option, device_option)
@click.option("--dtype", type=click.Choice(["float32", "float64", "bfloat16"]), default="float32",
              show_default=True, help="bfloat16: of networks alone, and refused where a value shows it.")  # fmt: skip
@click.option("--batch-size", type=click.IntRange(min=1), help="Draws decoded at once: memory only, no result.")
@click.option("--in-flight", type=click.IntRange(min=1), help="Blocks at once.  [default: one for each CPU thread]")
@click.option("--inception-weights", "inception", metavar="FILE|download",
              help="For fid.  [default: $VAEBENCH_INCEPTION, else what torch-fidelity has downloaded]")  # fmt: skip
@click.option("--fresh", is_flag=True, help="Neither read nor write the journal of finished blocks.")
@options(boards_option, as_json_option)
@click.pass_context
def run(
    ctx: click.Context, model: str | None, dataset: str | None, card: Path | None, checkpoint: Path | None,
    trajectory: Path | None, metric: tuple[str, ...], preset: str, changes: tuple[str, ...], seed: int,
    data: Path | None, device: str, dtype: str, batch_size: int | None, in_flight: int | None, inception: str | None,
    fresh: bool, leaderboards: Path, as_json: bool,
) -> None:  # fmt: skip
    """Evaluate a trained model and write its leaderboard rows.

    Killed or interrupted, the same command goes on from the last finished block.
    """
    found = find_card(model, dataset, card)
    for name in metric:
        plugins.summary("metrics", name)  # the error that suggests the nearest, before torch is imported
    weights = checkpoint or found.weights_path()
    import torch

    from .. import board, evaluation, metric_run, ranking, terminal
    from ..inception import DOWNLOAD
    from ..journal import Journal

    if inception not in (None, DOWNLOAD) and not Path(inception).is_file():
        raise UserError(f"--inception-weights {inception} is no file; name the weights, or {DOWNLOAD!r}")
    chosen = _metrics(metric, preset, changes)
    settings = metric_run.Settings(torch_device(device), getattr(torch, dtype), batch_size, in_flight)
    files.check_writable(leaderboards / found.dataset)
    board.read(leaderboards, found.dataset)  # a damaged board is an error now, not after hours
    content = load_dataset(found.dataset, data)
    _check_splits(chosen, changes, content)
    journal = None if fresh else Journal(files.cache() / "journal")
    terms = evaluation.Terms(seed, settings, journal, data or files.default_data(), inception)
    pair = evaluation.Pair(found, weights, content, trajectory)
    with terminal.Bar(ctx.find_root().params["debug"]) as bar:
        rows = evaluation.onto_board(leaderboards, pair, chosen, terms, bar)
    if as_json:
        terminal.print_json(ranking.to_json(rows))
    else:
        terminal.print_rows(rows)
    click.echo(f"written to {leaderboards / found.dataset / found.name}.parquet", err=True)
    ctx.exit(1 if any(row.status == "failed" for row in rows) else 0)
