"""vaebench verify and vaebench reproduce: rows measured again."""

import dataclasses
import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from .. import card as cards
from .. import files, plugins
from ..card import Card
from ..errors import DataError, UserError, unknown
from .board import class_option, of_class
from .common import (
    as_json_option,
    boards_option,
    complete,
    data_option,
    find_card,
    load_dataset,
    options,
    torch_device,
)

if TYPE_CHECKING:
    from ..data import Dataset
    from ..metric import Metric
    from ..rows import Row

arguments = options(
    click.argument("model", shell_complete=complete(lambda: sorted({name for _, name in cards.ids()}))),
    click.argument("dataset", shell_complete=complete(lambda: plugins.names("datasets"))),
)
subject_options = options(
    click.option("--card", type=click.Path(path_type=Path), help="The model's card, where the zoo has none."),
    click.option("--checkpoint", type=click.Path(path_type=Path), help="Weights instead of the card's."),
    data_option,
)


def _stored(leaderboards: Path, model: str, dataset: str, metric: str | None) -> "list[Row]":
    """The measured rows of a model that have a value; UserError, with what there is, where there are none."""
    from .. import board

    every = [row for row in board.read(leaderboards, dataset) if row.origin == "measured"]
    rows = [row for row in every if row.model == model]
    if not rows:
        raise UserError(
            f"the board of {dataset!r} in {leaderboards}: {unknown('model', model, {r.model for r in every})}"
        )
    if metric is not None and metric not in (names := {row.metric for row in rows}):
        raise UserError(f"{model} on {dataset}: {unknown('metric', metric, names)}")
    rows = [row for row in rows if row.status == "ok" and metric in (None, row.metric)]
    if not rows:
        raise UserError(
            f"{model} on {dataset} has no row with a value; vaebench run --model {model} --dataset {dataset}"
        )
    return rows


class _Bench(NamedTuple):
    """What rows are measured again with."""

    card: Card
    weights: Path
    content: "Dataset"
    data: Path


def _bench(
    model: str, dataset: str, card: Path | None, checkpoint: Path | None, data: Path | None, rows: "Sequence[Row]"
) -> _Bench:
    """The weights and data that `rows` were measured on; UserError where they are others."""
    found = find_card(None if card else model, dataset, card)
    if found.name != model:
        raise UserError(f"card {card} is of {found.name}, not of {model}; give the card of {model}")
    weights = checkpoint or found.weights_path()
    sha256, content = files.sha256(weights), load_dataset(dataset, data)
    for row in rows:
        for what, old, new in (
            ("weights", row.weights_sha256, sha256),
            ("data", row.data_fingerprint, content.fingerprint),
        ):
            if old != new:
                raise UserError(
                    f"{row.metric} of {model} was measured on {what} {str(old)[:12]}, not {new[:12]}; run it again"
                )
    return _Bench(found, weights, content, data or files.default_data())


def _metric(row: "Row") -> "Metric":
    """The metric as the row's parameters say. UserError where the version here is another."""
    presets = plugins.load("metrics", row.metric)
    kind = type(presets["standard"])  # type: ignore[index]
    if kind.version != row.metric_version:
        raise UserError(f"{row.metric} is of version {row.metric_version}, here is {kind.version}; run it again")
    built: Metric = cards.build(kind, json.loads(row.parameters), f"{row.metric} of the stored row")
    return built


def _measure(
    bench: _Bench, row: "Row", seed: int, device: str, batch_size: int | None, kept: Path, journal: bool, debug: bool
) -> "list[Row]":
    """The rows that the run behind `row` gives with `seed`; what it keeps is written below `kept`."""
    import torch

    from .. import loading, metric_run, runner, terminal
    from ..journal import Journal
    from ..resources import Folder

    dtype = getattr(torch, row.dtype or "float32")
    settings = metric_run.Settings(torch_device(device), dtype, batch_size)
    network = loading.build_model(bench.card, bench.content.space)
    loading.load_weights(network, bench.weights)
    architecture = loading.architecture(bench.card)
    subject = metric_run.Subject(bench.card.name, network, architecture, files.sha256(bench.weights))
    resources = Folder(bench.data, bench.content, settings.device, dtype)

    def keep(metric: str, name: str, content: bytes) -> None:
        files.write_atomic(kept / row.dataset / row.model / metric / name, content)

    with terminal.Bar(debug) as bar:
        (found,) = runner.evaluate(
            subject,
            bench.content,
            {row.metric: _metric(row)},
            seed=seed,
            settings=settings,
            journal=Journal(files.cache() / "journal") if journal else None,
            progress=bar,
            surroundings=metric_run.Surroundings(resources, keep, {}),
        )
    return found


def _runs(rows: "Iterable[Row]", *, by_seed: bool) -> "list[list[Row]]":
    """Rows by the run that gave them, or by the protocol that did whatever its seed, sorted."""
    runs: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        seed = row.seed if by_seed else None
        key = (row.metric, row.split, row.parameters, row.comparability, row.metric_version, row.dtype, seed)
        runs.setdefault(key, []).append(row)
    return [runs[key] for key in sorted(runs, key=str)]


@click.command()
@arguments
@click.option("--metric", help="Only this metric.  [default: all that are on the board]")
@click.option("--level", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.01, show_default=True,
              help="The chance that an honest model has any row refuted.")  # fmt: skip
@click.option("--tolerance", type=click.FloatRange(0), default=0.05, show_default=True,
              help="Relative, for estimates that have no standard error.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=1000, show_default=True, help="Of the re-evaluation.")
@subject_options
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, mps.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Draws decoded at once: memory only, no result.")
@click.option("--dry-run", is_flag=True, help="Judge, and write nothing.")
@options(boards_option, as_json_option)
@click.pass_context
def verify(
    ctx: click.Context, model: str, dataset: str, metric: str | None, level: float, tolerance: float, seed: int,
    card: Path | None, checkpoint: Path | None, data: Path | None, device: str, batch_size: int | None, dry_run: bool,
    leaderboards: Path, as_json: bool,
) -> None:  # fmt: skip
    """Evaluate a model again with another seed; its rows become verified or refuted.

    A row is refuted where it differs from its re-evaluation by more than their noise: of each example's difference
    where per-example values are kept (the sharper test), else of both standard errors combined, corrected for the
    number of columns by Holm's method. Exact columns must be equal but for rounding; estimates without a standard error
    are held to --tolerance. The re-evaluation stays on the board as rows of its seed. Exit code 1 where a row is not
    verified.
    """
    from .. import board, terminal, values, verification

    rows = [row for row in _stored(leaderboards, model, dataset, metric) if row.seed != seed]
    if not rows:
        raise UserError(f"{model} on {dataset} has rows of seed {seed} only; give another --seed")
    files.check_writable(leaderboards / dataset)
    bench = _bench(model, dataset, card, checkpoint, data, rows)
    for row in rows:
        _metric(row)
    evidence, again = [], []
    with tempfile.TemporaryDirectory() as folder:
        for protocol in _runs(rows, by_seed=False):
            debug = bool(ctx.find_root().params["debug"])
            new = _measure(bench, protocol[0], seed, device, batch_size, Path(folder), True, debug)
            again += new
            columns = {row.column: row for row in new}
            for row in protocol:
                if (other := columns.get(row.column)) is None:
                    raise UserError(f"{row.metric} gives no {row.column} any more; run it again")
                both = None
                if values.path(leaderboards, row).is_file() and other.status == "ok":
                    try:
                        both = values.read(leaderboards, row), values.read(Path(folder), other)
                    except DataError as error:
                        if "holds no" not in str(error):
                            click.echo(f"not used: {error}", err=True)
                evidence.append(verification.Evidence(row, other, both))
    judged = verification.judge(evidence, level, tolerance)
    if not dry_run:
        verified = {each.again.identity for each in judged if each.verdict == "verified"}
        marked = [
            dataclasses.replace(each.row, verified=each.verdict) for each in judged if each.verdict != "unverified"
        ]
        marked += [dataclasses.replace(r, verified="verified") if r.identity in verified else r for r in again]
        board.write(leaderboards, marked)
        click.echo(f"written to {leaderboards / dataset / model}.parquet", err=True)
    if as_json:
        terminal.print_json([each.record() for each in judged])
    else:
        terminal.print_judgements(judged, level)
    ctx.exit(0 if all(each.verdict == "verified" for each in judged) else 1)


@click.command()
@arguments
@click.option("--metric", help="Of this metric.")
@click.option("--column", help="Show only this column.")
@click.option("--seed", type=click.IntRange(min=0), help="Of this seed.")
@class_option
@subject_options
@click.option("--device", help="Instead of the row's own: cpu, cuda, cuda:1, mps.")
@options(boards_option, as_json_option)
@click.pass_context
def reproduce(
    ctx: click.Context, model: str, dataset: str, metric: str | None, column: str | None, seed: int | None,
    protocol: tuple[str, ...], card: Path | None, checkpoint: Path | None, data: Path | None, device: str | None,
    leaderboards: Path, as_json: bool,
) -> None:  # fmt: skip
    """Repeat the run behind a row: the same parameters, seed, number type and device, nothing from a journal.

    Says which values are equal bit for bit, within rounding or different, and what differs in the environment: torch,
    vaebench, its commit, the device. Exit code 1 where a value is different. Nothing is written.
    """
    from .. import terminal, verification

    rows = _stored(leaderboards, model, dataset, metric)
    for text in protocol:
        rows = of_class(dataset, rows, text)
    if seed is not None and not (rows := [row for row in rows if row.seed == seed]):
        raise UserError(f"{model} on {dataset} has no such row of seed {seed}; leave --seed out to see which there are")
    if column is not None and not any(row.column == column for row in rows):
        raise UserError(f"{model} on {dataset}: {unknown('column', column, {row.column for row in rows})}")
    runs = _runs([row for row in rows if column in (None, row.column)], by_seed=True)
    if len(runs) > 1:
        told = "; ".join(f"{run[0].metric}, seed {run[0].seed}, {run[0].parameters}" for run in runs)
        raise UserError(f"{len(runs)} runs fit: {told}; choose one with --metric, --seed or --class FIELD=VALUE")
    (run,) = runs
    bench = _bench(model, dataset, card, checkpoint, data, run)
    own = {"cpu": "cpu", "mps": "mps"}.get(run[0].device or "cpu", "cuda")
    with tempfile.TemporaryDirectory() as folder:
        debug = bool(ctx.find_root().params["debug"])
        new = _measure(bench, run[0], run[0].seed or 0, device or own, None, Path(folder), False, debug)
    columns = {row.column: row for row in new}
    pairs = [(row, columns[row.column]) for row in run if row.column in columns]
    if len(pairs) < len(run):
        raise UserError(
            f"{run[0].metric} no longer gives {', '.join(r.column for r in run if r.column not in columns)}"
        )
    found = [(row, other, verification.agreement(row, other)) for row, other in pairs]
    differs = verification.circumstances(*pairs[0])
    if as_json:
        record = {
            "environment": [{"part": name, "row": old, "now": now} for name, old, now in differs],
            "columns": [
                {"metric": row.metric, "column": row.column, "seed": row.seed, "parameters": row.parameters,
                 "row": row.value, "now": other.value, "verdict": verdict, "reason": other.reason}
                for row, other, verdict in found
            ],
        }  # fmt: skip
        terminal.print_json(record)
    else:
        terminal.print_reproduction(found, differs)
    ctx.exit(1 if any(verdict == "different" for _, _, verdict in found) else 0)
