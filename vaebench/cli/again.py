"""Measuring stored rows again: what `verify` and `reproduce` share."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vaebench.cli.common import find_card, find_weights
from vaebench.core import files
from vaebench.core.errors import UserError, unknown
from vaebench.core.registry import load_dataset
from vaebench.evaluation.remeasure import metric_of
from vaebench.models.card import Card

if TYPE_CHECKING:
    from vaebench.boards.rows import Row
    from vaebench.core.data import Dataset


def stored_rows(leaderboards: Path, model: str, dataset: str, metric: str | None) -> "list[Row]":
    """The measured rows of a model that have a value; UserError, with what there is, where there are none."""
    from vaebench.boards import store as board

    every = [row for row in board.read(leaderboards, dataset) if row.origin == "measured"]
    if not every:
        raise UserError(
            f"{leaderboards} holds no measured rows of {dataset}; vaebench run --model {model} --dataset {dataset}, "
            "or give the folder that does by --leaderboards"
        )
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


class Bench(NamedTuple):
    """What rows are measured again with."""

    card: Card
    weights: Path
    content: "Dataset"
    data: Path


def bench_for(
    model: str, dataset: str, card: Path | None, checkpoint: Path | None, data: Path | None, rows: "Sequence[Row]"
) -> Bench:
    """The weights and data that `rows` were measured on; UserError where they are others."""
    found = find_card(None if card else model, dataset, card)
    if found.name != model:
        raise UserError(f"card {card} is of {found.name}, not of {model}; give the card of {model}")
    weights = checkpoint or find_weights(found)
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
    return Bench(found, weights, content, data or files.default_data())


def measure_again(
    bench: Bench, row: "Row", seed: int, device: str, batch_size: int | None, kept: Path, journal: bool, debug: bool
) -> "list[Row]":
    """The rows that the run behind `row` gives with `seed`; what it keeps is written below `kept`."""
    import torch

    from vaebench.cli import bar as progress
    from vaebench.core.device import torch_device
    from vaebench.evaluation import board_run as evaluation
    from vaebench.evaluation import run as metric_run
    from vaebench.evaluation.journal import Journal

    settings = metric_run.Settings(torch_device(device), getattr(torch, row.dtype or "float32"), batch_size)
    pair = evaluation.Pair(bench.card, bench.weights, bench.content)
    blocks, bar = Journal(files.cache() / "journal") if journal else None, progress.Bar(debug)
    terms = evaluation.Terms(seed, settings, blocks, bench.data, fetching=bar.fetch)

    def keep(metric: str, name: str, content: bytes) -> None:
        files.write_atomic(kept / row.dataset / row.model / metric / name, content)

    with bar:
        (found,) = evaluation.evaluate(pair, {row.metric: metric_of(row)}, terms, keep, bar)
    return found
