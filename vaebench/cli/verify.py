"""vaebench verify and vaebench reproduce: rows measured again."""

import dataclasses
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vaebench.cli.again import bench_for, measure_again, stored_rows
from vaebench.cli.board import class_option, of_class
from vaebench.cli.common import as_json_option, boards_option, complete, data_option, options
from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.core.errors import DataError, UserError, unknown
from vaebench.evaluation.remeasure import metric_of, runs_of
from vaebench.models import card as cards

if TYPE_CHECKING:
    from vaebench.boards.rows import Row
    from vaebench.boards.verification import Evidence

arguments = options(
    click.argument("model", shell_complete=complete(lambda: sorted({name for _, name in cards.ids()}))),
    click.argument("dataset", shell_complete=complete(lambda: plugins.names("datasets"))),
)
subject_options = options(
    click.option("--card", type=click.Path(path_type=Path), help="The model's card, where the zoo has none."),
    click.option("--checkpoint", type=click.Path(path_type=Path), help="Weights instead of the card's."),
    data_option,
)


def _evidence(row: "Row", again: "Iterable[Row]", leaderboards: Path, kept: Path) -> "Evidence":
    """A row beside the one of its column in `again`, with the values of both where both are kept and not stale."""
    from vaebench.boards import per_example as values
    from vaebench.boards.verification import Evidence

    other = next((each for each in again if each.column == row.column), None)
    if other is None:
        raise UserError(f"{row.metric} gives no {row.column} any more; run it again")
    if not values.path(leaderboards, row).is_file() or other.status != "ok":
        return Evidence(row, other)
    try:
        return Evidence(row, other, (values.read(leaderboards, row), values.read(kept, other)))
    except DataError as error:
        if "holds no" not in str(error):
            click.echo(f"not used: {error}", err=True)
        return Evidence(row, other)


@click.command()
@arguments
@click.option("--metric", help="Only this metric.  [default: all that are on the board]")
@click.option("--level", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.01, show_default=True,
              help="The chance that an honest model has any row refuted.")  # fmt: skip
@click.option("--tolerance", type=click.FloatRange(0), default=0.05, show_default=True,
              help="Relative, for estimates that have no standard error.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=1000, show_default=True, help="Of the re-evaluation.")
@click.option("--confirm", type=click.IntRange(min=0), default=5, show_default=True,
              help="Further seeds to evaluate before a row is refuted; 0 or 1: none.")  # fmt: skip
@subject_options
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Draws decoded at once: memory only, no result.")
@click.option("--dry-run", is_flag=True, help="Judge, and write nothing.")
@options(boards_option, as_json_option)
@click.pass_context
def verify(
    ctx: click.Context, model: str, dataset: str, metric: str | None, level: float, tolerance: float, seed: int,
    confirm: int, card: Path | None, checkpoint: Path | None, data: Path | None, device: str, batch_size: int | None,
    dry_run: bool, leaderboards: Path, as_json: bool,
) -> None:  # fmt: skip
    """Evaluate a model again with another seed; its rows become verified or refuted.

    A row is refuted where it differs from its re-evaluation by more than their noise: of each example's difference
    where per-example values are kept (the sharper test), else of both standard errors combined, corrected for the
    number of columns by Holm's method. Exact columns must be equal but for rounding; estimates without a standard error
    are held to --tolerance. What would be refuted by standard errors or tolerance is first evaluated with --confirm
    more seeds, whose spread then decides. The re-evaluation stays on the board as rows of its seed. Exit code 1 where a
    row is not verified.
    """
    from vaebench.boards import store as board
    from vaebench.boards import verification
    from vaebench.boards.rows import Row
    from vaebench.cli import tables as terminal

    rows = [row for row in stored_rows(leaderboards, model, dataset, metric) if row.seed != seed]
    if not rows:
        raise UserError(f"{model} on {dataset} has rows of seed {seed} only; give another --seed")
    files.check_writable(leaderboards / dataset)
    bench = bench_for(model, dataset, card, checkpoint, data, rows)
    for row in rows:
        metric_of(row)
    debug = bool(ctx.find_root().params["debug"])
    evidence, again = list[verification.Evidence](), list[Row]()
    with tempfile.TemporaryDirectory() as folder:

        def measure(row: Row, seed: int) -> list[Row]:
            return measure_again(bench, row, seed, device, batch_size, Path(folder), True, debug)

        for protocol in runs_of(rows, by_seed=False):
            new = measure(protocol[0], seed)
            again += new
            evidence += [_evidence(row, new, leaderboards, Path(folder)) for row in protocol]
        judged = verification.judge(evidence, level, tolerance)
        doubted = [each.row for each in judged if each.verdict == "refuted" and each.test in ("combined", "tolerance")]
        if doubted and confirm > 1:
            seeds = range(seed + 1, seed + 1 + confirm)
            told = ", ".join(sorted({f"{row.metric} {row.column}" for row in doubted}))
            click.echo(f"confirming {told} with seeds {seeds[0]} to {seeds[-1]}", err=True)
            for protocol in runs_of(doubted, by_seed=False):
                found = [{row.column: row.value for row in measure(protocol[0], other)} for other in seeds]
                for place, each in enumerate(evidence):
                    if each.row in protocol:
                        values = [run.get(each.row.column) for run in found]
                        evidence[place] = each._replace(repeats=tuple(v for v in values if v is not None))
            judged = verification.judge(evidence, level, tolerance)
    if not dry_run:
        verified = {each.again.identity for each in judged if each.verdict == "verified"}
        marked = [
            dataclasses.replace(each.row, verified=each.verdict) for each in judged if each.verdict != "unverified"
        ]
        kept = [row for row in again if row.status == "ok"]
        marked += [dataclasses.replace(row, verified="verified") if row.identity in verified else row for row in kept]
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
@click.option("--device", help="Instead of the row's own: cpu, cuda, cuda:1.")
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
    from vaebench.boards import verification
    from vaebench.cli import tables as terminal

    rows = stored_rows(leaderboards, model, dataset, metric)
    for text in protocol:
        rows = of_class(dataset, rows, text)
    if seed is not None and not (rows := [row for row in rows if row.seed == seed]):
        raise UserError(f"{model} on {dataset} has no such row of seed {seed}; leave --seed out to see which there are")
    if column is not None and not any(row.column == column for row in rows):
        raise UserError(f"{model} on {dataset}: {unknown('column', column, {row.column for row in rows})}")
    runs = runs_of([row for row in rows if column in (None, row.column)], by_seed=True)
    if len(runs) > 1:
        told = "; ".join(f"{run[0].metric}, seed {run[0].seed}, {run[0].parameters}" for run in runs)
        raise UserError(f"{len(runs)} runs fit: {told}; choose one with --metric, --seed or --class FIELD=VALUE")
    (run,) = runs
    bench = bench_for(model, dataset, card, checkpoint, data, run)
    own = "cpu" if run[0].device in ("cpu", None) else "cuda"
    with tempfile.TemporaryDirectory() as folder:
        debug = bool(ctx.find_root().params["debug"])
        new = measure_again(bench, run[0], run[0].seed or 0, device or own, None, Path(folder), False, debug)
    columns = {row.column: row for row in new}
    pairs = [(row, columns[row.column]) for row in run if row.column in columns]
    if len(pairs) < len(run):
        raise UserError(
            f"{run[0].metric} no longer gives {', '.join(r.column for r in run if r.column not in columns)}"
        )
    found = [(row, other, verification.agreement(row, other)) for row, other in pairs]
    differs = verification.environment(*pairs[0])
    if as_json:
        record = {
            "environment": [{"part": name, "row": old, "now": now} for name, old, now in differs],
            "columns": [
                {"metric": row.metric, "column": row.column, "seed": row.seed, "parameters": row.parameters,
                 "row": row.value, "now": other.value, "agreement": agreement, "reason": other.reason}
                for row, other, agreement in found
            ],
        }  # fmt: skip
        terminal.print_json(record)
    else:
        terminal.print_reproduction(found, differs)
    ctx.exit(1 if any(agreement == "different" for _, _, agreement in found) else 0)
