"""One evaluation: failures become rows, and every row carries its provenance."""

import dataclasses
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from vaebench import __version__
from vaebench.boards.rows import Row
from vaebench.core.arithmetic import arithmetic
from vaebench.core.content import tensors_identity
from vaebench.core.data import Binarised, Dataset
from vaebench.core.errors import contained
from vaebench.core.metric import Column, Given, Measurement, Metric, Resources, UnavailableError
from vaebench.core.model import LatentVariableModel
from vaebench.evaluation import precision
from vaebench.evaluation.entry import Entry
from vaebench.evaluation.executor import LostError
from vaebench.evaluation.foresight import OverBudgetError
from vaebench.evaluation.journal import Journal
from vaebench.evaluation.precision import Effect
from vaebench.evaluation.progress import Progress, Silent
from vaebench.evaluation.provenance import device_name, git, peak_memory
from vaebench.evaluation.resources import LocalResources
from vaebench.evaluation.run import Keep, MetricRun, Settings, Stages, discard, parameters, probe

Status = Literal["ok", "skipped", "failed"]
Named = tuple[str, str]
"""A column, and its facet as JSON."""
Files = dict[tuple[str, str], bytes]
"""Files that are to be kept, by the metric's name and the file's."""
NOTHING = Column("", "", "none", "estimate")
"""What the one row of a metric without values is of."""


def _comparability(model: LatentVariableModel, dataset: Dataset, metric: Metric) -> str:
    """What must be equal for two rows to be ranked together, as sorted JSON."""
    space, likelihood = dataset.space, probe(model)
    reading = next((split.reading for split in dataset.splits.values() if split.reading is not None), None)
    dynamic = isinstance(reading, Binarised)
    given = Given(
        levels=space.levels,
        measure=space.measure,
        binarisation="dynamic" if dynamic else "none" if reading is None else repr(reading),
        likelihood=likelihood.family,
        proper=likelihood.proper,
        bound=likelihood.bound,
    )
    prepared = {"prepared": dataset.prepared} if dataset.prepared else {}
    return json.dumps({**metric.depends(given), **prepared}, sort_keys=True)


def measure(
    entry: Entry,
    metrics: Mapping[str, Metric],
    settings: Settings,
    *,
    progress: Progress,
    keep: Keep = discard,
    resources: Resources | None = None,
    marks: tuple[str, ...] = (),
) -> Iterator[list[Row]]:
    """The rows of each metric, as it ends: `ok`, `skipped` with a reason, or `failed` with a reason.

    `keep` is given the files of metrics whose rows are ok; `resources` are by default what is on this machine; every
    value gets `marks`.
    A metric that fails costs its own rows only; so does one that leaves the model with other tensors, and then every
    later one fails as well. A LostError ends the run. The model is moved to the device and dtype, in evaluation mode.
    In bfloat16 every metric is measured twice, the second time with a tenth of its blocks in float32: each row's reason
    then says what bfloat16 changes, and it is `failed` where that is too much for `precision.effects`. Raises UserError
    if bfloat16 cannot be had, DataError if weights do not fit.
    """
    if not metrics:
        return
    resources = LocalResources(entry, settings, progress) if resources is None else resources
    model, dataset, stages, spliced_stages = entry.model, entry.dataset, Stages(), Stages()
    model.eval().to(device=settings.device, dtype=settings.weights_dtype)
    if reduced := settings.dtype == torch.bfloat16:
        precision.check(model, settings.device)
    loaded = tensors_identity(model)
    commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain", "--", "vaebench", "model_zoo")
    for place, (name, metric) in enumerate(metrics.items(), 1):
        progress.begin(name, place, len(metrics))
        started = time.perf_counter()
        budget = None if settings.budget is None else settings.budget.share(len(metrics) + 1 - place)
        measured: dict[Named, Measurement] = {}
        effects: dict[Named, Effect] = {}
        status: Status = "ok"
        comparability = parameters(metric)
        try:
            with contained():
                comparability = _comparability(model, dataset, metric)
                reason = metric.unsupported(model, dataset)
            if reason is not None:
                status = "skipped"
            else:
                run = partial(MetricRun, entry, name, resources=resources)
                with contained(), _remembered(settings) as how:
                    with arithmetic(settings.dtype):
                        fitted = partial(run, settings=dataclasses.replace(how, budget=budget), progress=progress)
                        metric, found, kept = _on_what_fits(metric, entry, partial(fitted, stages=stages))
                    if reduced:
                        again = run(metric, dataclasses.replace(how, spliced=True), Silent(), stages=spliced_stages)
                        spliced = _collect(metric, entry, again)
                        effects = precision.effects(found, spliced, again.share)
                    if tensors_identity(model) != loaded:
                        raise ValueError(f"{name} or a metric before it changed the model's tensors; work on a copy")
                    for (named_by, file), content in kept.items():
                        keep(named_by, file, content)
                    measured = {named: each._replace(marks=(*each.marks, *marks)) for named, each in found.items()}
                    comparability = _comparability(model, dataset, metric)
        except UnavailableError as error:
            status, reason = "skipped", str(error)
        except OverBudgetError as error:
            progress.warn(f"{name}: {error}")
            status, reason = "failed", str(error)
        except LostError:
            raise
        except Exception as error:
            progress.failed(name, error)
            status, reason = "failed", f"{type(error).__name__}: {error}"
        seconds = time.perf_counter() - started
        common = {
            "model": entry.name,
            "weights_sha256": entry.weights_sha256,
            "dataset": dataset.name,
            "data_fingerprint": dataset.fingerprint,
            "split": metric.split,
            "metric": name,
            "metric_version": metric.version,
            "parameters": parameters(metric),
            "comparability": comparability,
            "origin": "measured",
            "source": None,
            "verified": "unverified",
            "seed": settings.seed,
            "device": device_name(settings.device),
            "dtype": str(settings.dtype).removeprefix("torch."),
            "torch": torch.__version__,
            "vaebench": __version__,
            "commit": commit,
            "dirty": None if changes is None else bool(changes),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
            "peak_memory": peak_memory(settings.device),
        }
        declared = {column.name: column for column in metric.columns}
        yield [
            _row(common, declared[named[0]], named[1], *_judged(each, effects.get(named), model.remark))
            for named, each in measured.items()
        ] or [_row(common, NOTHING, "{}", None, status if status != "ok" else "failed", reason or "it gave no column")]
    if settings.journal is not None:
        settings.journal.prune()


@contextmanager
def _remembered(settings: Settings) -> Iterator[Settings]:
    """`settings`; in bfloat16, where there is no journal, with one for the block, so that nothing is computed twice."""
    if settings.journal is not None or settings.dtype != torch.bfloat16:
        yield settings
        return
    with tempfile.TemporaryDirectory() as folder:
        yield dataclasses.replace(settings, journal=Journal(Path(folder)))


def _on_what_fits(
    metric: Metric, entry: Entry, run: Callable[..., MetricRun]
) -> tuple[Metric, dict[Named, Measurement], Files]:
    """What `_collect` gives of the metric, or of it on as many examples as fit the budget: the metric, and that.

    With it come the files that the attempt that fits wants kept. Raises OverBudgetError if none fits.
    """
    while True:
        kept: Files = {}
        try:
            return metric, _collect(metric, entry, run(metric=metric, keep=partial(_hold, kept))), kept
        except OverBudgetError as error:
            fewer = metric.fewer(entry.dataset, error.share)
            if fewer is None:
                raise
            metric = fewer


def _hold(kept: Files, metric: str, name: str, content: bytes) -> None:
    kept[metric, name] = content


def _collect(metric: Metric, entry: Entry, run: MetricRun) -> dict[Named, Measurement]:
    """The measurements by column and facet, in order of columns.

    ValueError for one that is undeclared or repeated, or a value that is not finite.
    """
    declared = {column.name: set(column.facets) for column in metric.columns}
    measured: dict[Named, Measurement] = {}
    for measurement in metric.measure(entry.model, entry.dataset, run):
        named = measurement.column, json.dumps(dict(measurement.facet), sort_keys=True)
        if declared.get(measurement.column) != set(measurement.facet) or named in measured:
            of = f" of facet {named[1]}" if measurement.facet else ""
            raise ValueError(f"column {measurement.column!r}{of} is undeclared or came twice")
        numbers = (measurement.value, measurement.stderr, measurement.df, *measurement.interval)
        if not all(number is None or math.isfinite(number) for number in numbers):
            raise ValueError(f"{measurement.column} is {measurement.value} +- {measurement.stderr}")
        measured[named] = measurement
    order = list(declared)
    return dict(sorted(measured.items(), key=lambda pair: (order.index(pair[0][0]), pair[0][1])))


def _judged(found: Measurement, effect: Effect | None, remark: str) -> tuple[Measurement | None, Status, str | None]:
    if effect is None:
        return found, "ok", remark or None
    told = "; ".join(filter(None, (effect.note, remark)))
    return (found, "ok", told) if effect.stands else (None, "failed", told)


def _row(
    common: dict[str, Any], column: Column, facet: str, found: Measurement | None, status: Status, reason: str | None
) -> Row:
    low, high = (None, None) if found is None else found.interval
    return Row(
        **common,
        facet=facet,
        column=column.name,
        value=None if found is None else found.value,
        stderr=None if found is None else found.stderr,
        df=None if found is None else found.df,
        low=low,
        high=high,
        n=None if found is None else found.n,
        unit=column.unit,
        better=column.better,
        bound=column.bound,
        marks=() if found is None else tuple(sorted(found.marks)),
        curve=None if found is None else found.curve,
        status=status,
        reason=reason,
    )
