"""Which metrics are measured, by their names, a preset and changed parameters. Imports no torch until it loads them."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

from vaebench.core import registry as plugins
from vaebench.core import tables
from vaebench.core.errors import UserError, unknown

if TYPE_CHECKING:
    from vaebench.core.data import Dataset
    from vaebench.core.metric import Metric

Preset = Literal["quick", "standard", "paper"]
PRESETS: tuple[Preset, ...] = ("quick", "standard", "paper")


def presets(name: str) -> "Mapping[str, Metric]":
    """The metric `name` with the parameters of each preset. UserError as `check_names`."""
    check_names([name])
    found: Mapping[str, Metric] = plugins.load("metrics", name)  # type: ignore[assignment]
    return found


def check_names(names: Iterable[str]) -> None:
    """UserError for what is not a metric: with the metric that has a column of that name, else the nearest name."""
    known = plugins.names("metrics")
    for name in names:
        if name not in known:
            raise _column(name, known) or unknown("metric", name, known)


def _column(name: str, known: Iterable[str]) -> UserError | None:
    for metric in known:
        try:
            if any(column.name == name for column in presets(metric)["standard"].columns):
                return UserError(f"{name!r} is not a metric but a column of {metric!r}; give the metric {metric!r}")
        except UserError:  # a plug-in from outside that cannot be imported
            continue
    return None


def left_out(preset: str, dataset: "Dataset") -> tuple[str, ...]:
    """The metrics that `preset` measures on `dataset` only where they are named: those `on_request`; none at quick."""
    found = {name: presets(name)[preset] for name in plugins.names("metrics") if preset != "quick"}
    return tuple(name for name, metric in found.items() if metric.on_request(dataset))


def metrics(
    names: Iterable[str] = (),
    preset: str = "standard",
    changes: Iterable[str] = (),
    dataset: "Dataset | None" = None,
    *,
    dear: bool = False,
) -> "dict[str, Metric]":
    """The metrics `names`, with the parameters of `preset` and of `changes`: METRIC.FIELD=VALUE.

    Without names all, but for those `left_out` of a `dataset` that no change is of.

    Preset quick is of few examples of the `dataset`, and of fewer where draws of the model are `dear`: see
    `Metric.quick`. Raises UserError for what is unknown among them, with the nearest name.
    """
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    chosen = {name: presets(name)[preset] for name in names or plugins.names("metrics")}
    changes = tuple(changes)
    if not names and dataset is not None:
        aside = {*left_out(preset, dataset)} - {change.partition(".")[0] for change in changes}
        chosen = {name: metric for name, metric in chosen.items() if name not in aside}
    if preset == "quick" and dataset is not None:
        chosen = {name: metric.quick(dataset, dear=dear) for name, metric in chosen.items()}
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
        chosen[name] = tables.build(type(chosen[name]), table, f"--set {change}")
    return chosen


def check_splits(metrics: "Mapping[str, Metric]", changes: Iterable[str], dataset: "Dataset") -> None:
    """UserError for a split that a change names and the dataset lacks; where a preset names it, rows are skipped."""
    changes = tuple(changes)
    for name, metric in metrics.items():
        asked = any(change.startswith(f"{name}.split=") for change in changes)
        if asked and not dataset.has(metric.split):
            raise UserError(f"--set {name}.split: {unknown('split', metric.split, dataset.splits)}")
