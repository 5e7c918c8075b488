"""vaebench run."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vaebench.cli.common import (
    as_json_option,
    boards_option,
    complete,
    data_option,
    device_option,
    executor_of,
    find_cards,
    find_weights,
    options,
)
from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.core import tables as tables_
from vaebench.core.errors import DataError, UserError, unknown
from vaebench.core.registry import load_dataset
from vaebench.models import card as cards
from vaebench.models.card import Card

if TYPE_CHECKING:
    from vaebench.cli.bar import Bar
    from vaebench.core.data import Dataset
    from vaebench.core.metric import Metric
    from vaebench.evaluation.sweep import Job, Outcome


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
        chosen[name] = tables_.build(type(chosen[name]), table, f"--set {change}")
    return chosen


def _check_splits(metrics: "Mapping[str, Metric]", changes: tuple[str, ...], dataset: "Dataset") -> None:
    """UserError for a split that --set names and the dataset lacks; a split that a preset names gives skipped rows."""
    for name, metric in metrics.items():
        asked = any(change.startswith(f"{name}.split=") for change in changes)
        if asked and not dataset.has(metric.split):
            raise UserError(f"--set {name}.split: {unknown('split', metric.split, dataset.splits)}")


@click.command()
@click.option("--model", "models", multiple=True, metavar="NAMES",
              shell_complete=complete(lambda: sorted({name for _, name in cards.ids()})),
              help="Of the zoo: a name, a pattern such as 'dp*', or several with commas.")  # fmt: skip
@click.option("--dataset", "datasets", multiple=True, metavar="NAMES",
              shell_complete=complete(lambda: plugins.names("datasets")), help="In the same way.")  # fmt: skip
@click.option("--card", type=click.Path(path_type=Path), help="A card of your own, instead of --model.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Weights (safetensors) instead of the card's.")
@click.option("--trajectory", type=click.Path(path_type=Path),
              help="Folder of checkpoints along the training.  [default: the one beside the weights]")  # fmt: skip
@click.option("--metric", "metric", multiple=True, shell_complete=complete(lambda: plugins.names("metrics")),
              help="Only this metric; can be given again.  [default: all that apply]")  # fmt: skip
@click.option("--preset", type=click.Choice(["quick", "standard", "paper"]), default="standard", show_default=True)
@click.option("--set", "changes", multiple=True, metavar="METRIC.FIELD=VALUE", help="Change a metric's parameter; "
              "likelihood.split=test[::10] is every tenth image.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of all evaluation noise.")
@options(data_option, device_option)
@click.option("--dtype", type=click.Choice(["float32", "float64", "bfloat16"]), default="float32",
              show_default=True, help="bfloat16: of networks alone, and refused where a value shows it.")  # fmt: skip
@click.option("--batch-size", type=click.IntRange(min=1), help="Draws decoded at once: memory only, no result.")
@click.option("--in-flight", type=click.IntRange(min=1), help="Blocks at once.  [default: one for each CPU thread]")
@click.option("--workers", type=click.IntRange(min=1), help="Blocks on so many processes of this machine (Dask).")
@click.option("--cluster", metavar="ADDRESS", help="Blocks on the Dask cluster of this scheduler: tcp://host:8786.")
@click.option("--inception-weights", "inception", metavar="FILE|download",
              help="For fid.  [default: $VAEBENCH_INCEPTION, else what torch-fidelity has downloaded]")  # fmt: skip
@click.option("--only-missing", is_flag=True, help="Leave out what has a value on the board: same weights, data, "
              "metric, version, parameters, seed and number type.")  # fmt: skip
@click.option("--fresh", is_flag=True, help="Neither read nor write the journal of finished blocks.")
@options(boards_option, as_json_option)
@click.pass_context
def run(
    ctx: click.Context, models: tuple[str, ...], datasets: tuple[str, ...], card: Path | None,
    checkpoint: Path | None, trajectory: Path | None, metric: tuple[str, ...], preset: str, changes: tuple[str, ...],
    seed: int, data: Path | None, device: str, dtype: str, batch_size: int | None, in_flight: int | None,
    workers: int | None, cluster: str | None, inception: str | None, only_missing: bool, fresh: bool,
    leaderboards: Path, as_json: bool,
) -> None:  # fmt: skip
    """Evaluate trained models and write their leaderboard rows.

    Several models or datasets are evaluated one after another, the longest first, and what fails is told at the end.
    Killed or interrupted, the same command goes on from the last finished block.
    """
    found = find_cards(models, datasets, card)
    if len(found) > 1 and (checkpoint or trajectory):
        raise UserError(f"--checkpoint and --trajectory are of one model, and {len(found)} are asked for; name one")
    for name in metric:
        plugins.summary("metrics", name)  # the error that suggests the nearest, before torch is imported
    if len(found) == 1 and checkpoint is None:
        find_weights(found[0])
    import torch

    from vaebench.boards import export
    from vaebench.boards import store as board
    from vaebench.cli import bar as progress
    from vaebench.cli import tables as terminal
    from vaebench.core.device import torch_device
    from vaebench.evaluation import board_run as evaluation
    from vaebench.evaluation import run as metric_run
    from vaebench.evaluation import sweep
    from vaebench.evaluation.journal import Journal
    from vaebench.metrics.shared.inception import DOWNLOAD

    if inception not in (None, DOWNLOAD) and not Path(inception).is_file():
        raise UserError(f"--inception-weights {inception} is no file; name the weights, or {DOWNLOAD!r}")
    chosen = _metrics(metric, preset, changes)
    settings = metric_run.Settings(torch_device(device), getattr(torch, dtype), batch_size, in_flight)
    stored = []
    for name in sorted({each.dataset for each in found}):
        files.check_writable(leaderboards / name)
        stored += board.read(leaderboards, name)  # a damaged board is an error now, not after hours
    journal = None if fresh else Journal(files.cache() / "journal")
    bar = progress.Bar(ctx.find_root().params["debug"])
    settings = dataclasses.replace(settings, cluster=ctx.with_resource(executor_of(workers, cluster)))
    terms = evaluation.Terms(seed, settings, journal, data or files.default_data(), inception, bar.fetch)

    @cache
    def content(name: str) -> "Dataset | DataError":
        try:
            return load_dataset(name, data)
        except DataError as error:
            return error

    def prepare(each: Card) -> "Job":
        weights = checkpoint or each.weights_path(bar.fetch)
        if not weights.exists():
            raise DataError(f"weights {weights} are absent")
        if isinstance(there := content(each.dataset), DataError):
            raise there
        _check_splits(chosen, changes, there)
        pair = evaluation.Pair(each, weights, there, trajectory)
        return sweep.Job(pair, sweep.missing(pair, chosen, terms, stored) if only_missing else chosen)

    with bar:
        ended = list(_told(sweep.outcomes(found, prepare, terms, stored, leaderboards, bar), len(found), bar))
    rows = [row for outcome in ended for row in outcome.rows]
    if as_json:
        terminal.print_json(export.to_json(rows))
    elif len(found) > 1:
        _print(ended)
    elif rows:
        terminal.print_rows(rows)
    where = leaderboards if len(found) > 1 else f"{leaderboards / found[0].dataset / found[0].name}.parquet"
    errors = [outcome.error for outcome in ended if outcome.error is not None]
    if rows or not errors:
        click.echo(f"written to {where}" if rows else f"nothing is missing in {where}", err=True)
    ctx.exit(1 if errors or any(row.status == "failed" for row in rows) else 0)


def _told(outcomes: "Iterator[Outcome]", total: int, bar: "Bar") -> "Iterator[Outcome]":
    """`outcomes`, each told on stderr where there are several; where there is one, its error is raised."""
    for count, outcome in enumerate(outcomes, 1):
        if total > 1 and outcome.error is not None:
            bar.failed("evaluation", outcome.error)
        elif total > 1:
            bar.warn(f"done in {outcome.seconds:.1f} s ({count} of {total})")
        elif outcome.error is not None:
            raise outcome.error
        yield outcome


def _print(outcomes: "Sequence[Outcome]") -> None:
    """A line for each pair, and one for each failure."""
    from vaebench.cli import tables as terminal

    lines, failures = [], []
    for card, rows, error, seconds in outcomes:
        status = {row.metric: row.status for row in rows}
        counts = [str(list(status.values()).count(word)) for word in ("ok", "skipped", "failed")]
        lines.append((card.dataset, card.name, *counts, f"{seconds:.1f}"))
        reasons = {row.metric: str(row.reason) for row in rows if row.status == "failed"}
        if error is not None:
            reasons[""] = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        failures += [(card.dataset, card.name, metric, reason) for metric, reason in reasons.items()]
    terminal.print_table(("dataset", "model", ">measured", ">skipped", ">failed", ">seconds"), lines)
    if failures:
        terminal.print_table(("dataset", "model", "metric", "why it failed"), failures)
