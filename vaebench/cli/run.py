"""vaebench run."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vaebench.cli.common import (
    SEED,
    allow_code_option,
    as_json_option,
    complete,
    data_option,
    device_option,
    executor_of,
    find_cards,
    find_weights,
    max_draws_option,
    metric_option,
    options,
    own_boards_option,
    weights_option,
)
from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.core.errors import DataError, UserError
from vaebench.core.registry import load_dataset
from vaebench.evaluation import budget as budgets
from vaebench.evaluation import choice
from vaebench.evaluation.budget import Budget
from vaebench.models import card as cards
from vaebench.models import code
from vaebench.models.card import Card

if TYPE_CHECKING:
    from vaebench.cli.bar import Bar
    from vaebench.core.data import Dataset
    from vaebench.evaluation.sweep import Job, Outcome


@click.command()
@click.option("--model", "models", multiple=True, metavar="NAMES",
              shell_complete=complete(lambda: sorted({name for _, name in cards.ids()})),
              help="Models of the zoo: a name, a pattern such as 'dp*', or several with commas.")  # fmt: skip
@click.option("--dataset", "datasets", multiple=True, metavar="NAMES",
              shell_complete=complete(lambda: plugins.names("datasets")), help="Datasets, likewise.")  # fmt: skip
@click.option("--card", type=click.Path(path_type=Path), help="A card of your own, instead of --model.")
@weights_option
@click.option("--name", help="Name on the board, instead of the card's: for other weights of its model.")
@click.option("--trajectory", type=click.Path(path_type=Path),
              help="Folder of checkpoints along the training.  [default: the one beside the weights]")  # fmt: skip
@metric_option
@click.option("--preset", type=click.Choice(choice.PRESETS), default="standard", show_default=True)
@click.option("--set", "changes", multiple=True, metavar="METRIC.FIELD=VALUE", help="Change a metric's parameter; "
              "likelihood.split=test[::10] is every tenth image.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=SEED, help="Seed for all evaluation noise.")
@options(data_option, device_option)
@click.option("--dtype", type=click.Choice(["float32", "float64", "bfloat16"]), default="float32",
              show_default=True, help="bfloat16 is for networks alone; refused where a value shows it.")  # fmt: skip
@max_draws_option
@click.option("--in-flight", type=click.IntRange(1, 1024), help="Blocks at once.  [default: one for each CPU thread]")
@click.option(
    "--workers", type=click.IntRange(1, 1024), help="Run blocks on this many processes of this machine (Dask, by TLS)."
)
@click.option("--cluster", metavar="ADDRESS", help="Run blocks on this scheduler's Dask cluster, tcp://host:8786 or "
              "tls://host:8786. It is trusted: who reaches it can run code on its workers, and here.")  # fmt: skip
@click.option("--inception-weights", "inception", metavar="FILE|download",
              help="Weights for fid.  [default: $VAEBENCH_INCEPTION, else what torch-fidelity downloaded]")  # fmt: skip
@click.option("--only-missing", is_flag=True, help="Leave out what has a value on the board, shipped or yours: same "
              "weights, data, metric, version, parameters, seed and number type.")  # fmt: skip
@click.option("--fresh", is_flag=True, help="Neither read nor write the journal of finished blocks.")
@click.option("--unchecked", is_flag=True, help="Evaluate even a model whose likelihood is not proper, or that breaks "
              "another promise; its values are marked.")  # fmt: skip
@click.option("--budget", metavar="TIME", help="Time such as 90s, 10m or 1h30m, shared by all metrics; "
              "each takes every n-th example, as many as fit, and its row's split says so.")  # fmt: skip
@options(allow_code_option, own_boards_option, as_json_option)
@click.pass_context
def run(
    ctx: click.Context, models: tuple[str, ...], datasets: tuple[str, ...], card: Path | None,
    weights: Path | None, name: str | None, trajectory: Path | None, metrics: tuple[str, ...], preset: str,
    changes: tuple[str, ...],
    seed: int, data: Path | None, device: str, dtype: str, max_draws: int | None, in_flight: int | None,
    workers: int | None, cluster: str | None, inception: str | None, only_missing: bool, fresh: bool,
    unchecked: bool, budget: str | None,
    leaderboards: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Evaluate trained models and write their leaderboard rows.

    Several models or datasets are evaluated one after another, the longest first, and what fails is told at the end.
    Killed or interrupted, the same command goes on from the last finished block.
    """
    found = find_cards(models, datasets, card)
    if len(found) > 1 and (weights or trajectory or name):
        told = "--weights, --name and --trajectory are of one model"
        raise UserError(f"{told}, and {len(found)} are asked for; name one")
    if budget is not None:
        budgets.seconds(budget)
        if workers or cluster:
            raise UserError("--budget is of this process, whose speed it measures; leave out --workers and --cluster")
    if (workers or cluster) and any(each.family == code.FAMILY for each in found):
        raise UserError("a network of one's own code is evaluated in this process; leave out --workers and --cluster")
    choice.check_names(metrics)  # before torch is imported
    if len(found) == 1 and weights is None:
        find_weights(found[0])
    import torch

    from vaebench.boards import export, marks, overlay
    from vaebench.cli import bar as progress
    from vaebench.cli import tables as terminal
    from vaebench.core.device import torch_device
    from vaebench.evaluation import entry as entries
    from vaebench.evaluation import sweep
    from vaebench.evaluation.journal import Journal
    from vaebench.evaluation.run import Settings, dear
    from vaebench.metrics.shared.inception import DOWNLOAD
    from vaebench.models import loading

    if inception not in (None, DOWNLOAD) and not Path(inception).is_file():
        raise UserError(f"--inception-weights {inception} is not a file; name the weights, or {DOWNLOAD!r}")
    choice.metrics(metrics, preset, changes)  # an error now, not after a download
    limit = None if budget is None else Budget.of(budgets.seconds(budget))
    settings = Settings(
        torch_device(device), getattr(torch, dtype), seed, max_draws, in_flight,
        journal=None if fresh else Journal(files.cache() / "journal"), data=data, inception=inception,
        unchecked=unchecked, foresee=True, budget=limit,
    )  # fmt: skip
    stored, out, boards = [], leaderboards or files.own_boards(), overlay.opened(leaderboards)
    for dataset in sorted({each.dataset for each in found}):
        files.check_writable(out / dataset)
        stored += boards.read(dataset)  # a damaged board is an error now, not after hours
    bar = progress.Bar(ctx.find_root().params["debug"])
    settings = dataclasses.replace(settings, cluster=ctx.with_resource(executor_of(workers, cluster)))

    @cache
    def content(name: str) -> "Dataset | DataError":
        try:
            return load_dataset(name, data)
        except DataError as error:
            return error

    def prepare(each: Card) -> "Job":
        path = weights or each.weights_path(bar.fetch)
        if isinstance(there := content(each.dataset), DataError):
            raise there
        few = preset == "quick" and dear(loading.build_model(each, there.space))
        wanted = choice.metrics(metrics, preset, changes, there, dear=few)
        choice.check_splits(wanted, changes, there)
        entry = entries.of_card(each, path, there, trajectory=trajectory, name=name)
        others = {row.weights_sha256 for row in stored if (row.model, row.dataset) == (entry.name, there.name)}
        if others := others - {entry.weights_sha256, None}:
            told = ", ".join(sorted(str(sha)[:12] for sha in others))
            bar.warn(f"the board has rows of {entry.name} with other weights ({told}); --name tells these from them")
        return entry, sweep.missing(entry, wanted, settings, stored) if only_missing else wanted

    with bar:
        ended = list(_told(sweep.outcomes(found, prepare, settings, stored, out, bar), len(found), bar))
    rows = [row for outcome in ended for row in marks.together(outcome.rows)]
    if as_json:
        terminal.print_json(export.to_json(rows))
    elif len(found) > 1:
        _print(ended)
    elif rows:
        terminal.print_rows(rows)
    where = out if len(found) > 1 else f"{out / found[0].dataset / (name or found[0].name)}.parquet"
    errors = [outcome.error for outcome in ended if outcome.error is not None]
    if rows or not errors:
        click.echo(f"written to {where}" if rows else f"nothing is missing in {where}", err=True)
        if not metrics and (aside := _aside(preset, changes, [content(each.dataset) for each in found])):
            named = " ".join(f"--metric {name}" for name in aside)
            click.echo(f"left out, because they take long: {', '.join(aside)}; to measure them: {named}", err=True)
    ctx.exit(1 if errors or any(row.status == "failed" for row in rows) else 0)


def _aside(preset: str, changes: "Sequence[str]", datasets: "Iterable[Dataset | DataError]") -> list[str]:
    """The metrics that were left out on any of the datasets that could be read, once each."""
    there = [each for each in datasets if not isinstance(each, DataError)]
    changed = {change.partition(".")[0] for change in changes}
    named = dict.fromkeys(name for each in there for name in choice.left_out(preset, each))
    return sorted(named.keys() - changed)


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
    for model, dataset, rows, error, seconds in outcomes:
        status = {row.metric: row.status for row in rows}
        counts = [str(list(status.values()).count(word)) for word in ("ok", "skipped", "failed")]
        lines.append((dataset, model, *counts, f"{seconds:.1f}"))
        reasons = {row.metric: str(row.reason) for row in rows if row.status == "failed"}
        if error is not None:
            reasons[""] = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        failures += [(dataset, model, metric, reason) for metric, reason in reasons.items()]
    terminal.print_table(("dataset", "model", ">measured", ">skipped", ">failed", ">seconds"), lines)
    if failures:
        terminal.print_table(("dataset", "model", "metric", "why it failed"), failures)
