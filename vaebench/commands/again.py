"""Measuring stored rows again: what `verify` and `reproduce` share."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .. import card as cards
from .. import files, plugins
from ..card import Card
from ..errors import UserError, unknown
from .common import find_card, find_weights, load_dataset, torch_device

if TYPE_CHECKING:
    from ..data import Dataset
    from ..metric import Metric
    from ..rows import Row


def stored_rows(leaderboards: Path, model: str, dataset: str, metric: str | None) -> "list[Row]":
    """The measured rows of a model that have a value; UserError, with what there is, where there are none."""
    from .. import board

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


def metric_of(row: "Row") -> "Metric":
    """The metric as the row's parameters say. UserError where the version here is another."""
    presets = plugins.load("metrics", row.metric)
    kind = type(presets["standard"])  # type: ignore[index]
    if kind.version != row.metric_version:
        raise UserError(f"{row.metric} is of version {row.metric_version}, here is {kind.version}; run it again")
    built: Metric = cards.build(kind, json.loads(row.parameters), f"{row.metric} of the stored row")
    return built


def measure_again(
    bench: Bench, row: "Row", seed: int, device: str, batch_size: int | None, kept: Path, journal: bool, debug: bool
) -> "list[Row]":
    """The rows that the run behind `row` gives with `seed`; what it keeps is written below `kept`."""
    import torch

    from .. import evaluation, metric_run, progress
    from ..journal import Journal

    settings = metric_run.Settings(torch_device(device), getattr(torch, row.dtype or "float32"), batch_size)
    pair = evaluation.Pair(bench.card, bench.weights, bench.content)
    blocks, bar = Journal(files.cache() / "journal") if journal else None, progress.Bar(debug)
    terms = evaluation.Terms(seed, settings, blocks, bench.data, fetching=bar.fetch)

    def keep(metric: str, name: str, content: bytes) -> None:
        files.write_atomic(kept / row.dataset / row.model / metric / name, content)

    with bar:
        (found,) = evaluation.evaluate(pair, {row.metric: metric_of(row)}, terms, keep, bar)
    return found


def runs_of(rows: "Iterable[Row]", *, by_seed: bool) -> "list[list[Row]]":
    """Rows by the run that gave them, or by the protocol that did whatever its seed, sorted."""
    runs: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        seed = row.seed if by_seed else None
        key = (row.metric, row.split, row.parameters, row.comparability, row.metric_version, row.dtype, seed)
        runs.setdefault(key, []).append(row)
    return [runs[key] for key in sorted(runs, key=str)]
