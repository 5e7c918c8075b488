"""One evaluation: failures become rows, and every row carries its provenance."""

import dataclasses
import json
import math
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from vaebench import __version__
from vaebench.boards.rows import Row
from vaebench.core.arithmetic import arithmetic
from vaebench.core.data import Dataset
from vaebench.core.errors import contained
from vaebench.core.metric import Column, Measurement, Metric, Resources, UnavailableError
from vaebench.core.model import LatentVariableModel
from vaebench.evaluation import precision
from vaebench.evaluation.entry import Entry
from vaebench.evaluation.executor import LostError
from vaebench.evaluation.journal import Journal
from vaebench.evaluation.precision import Effect
from vaebench.evaluation.provenance import device_name, git, peak_memory
from vaebench.evaluation.resources import LocalResources
from vaebench.evaluation.run import Keep, MetricRun, Progress, Settings, Silent, Stages, discard, parameters, probe

Status = Literal["ok", "skipped", "failed"]


def _comparability(model: LatentVariableModel, dataset: Dataset, metric: Metric) -> str:
    """What must be equal for two rows to be ranked together, as sorted JSON."""
    space = dataset.space
    dynamic = any(split.binarised for split in dataset.splits.values())
    protocol: dict[str, Any] = {
        **dataclasses.asdict(metric),
        "likelihood": probe(model).family,
        "levels": space.levels,
        "measure": space.measure,
        "binarisation": "dynamic" if dynamic else "none",
    }
    return json.dumps(protocol, sort_keys=True)


def measure(
    entry: Entry,
    metrics: Mapping[str, Metric],
    settings: Settings,
    *,
    progress: Progress,
    keep: Keep = discard,
    resources: Resources | None = None,
) -> Iterator[list[Row]]:
    """The rows of each metric, as it ends: `ok`, `skipped` with a reason, or `failed` with a reason.

    `keep` is given the files of metrics; `resources` are by default what is on this machine. A metric that fails costs
    its own rows only; a LostError ends the run. The model is moved to the device and dtype, in evaluation mode. In
    bfloat16 every metric is measured twice, the second time with a tenth of its blocks in float32: each row's reason
    then says what bfloat16 changes, and it is `failed` where that is too much for `precision.effects`. UserError where
    bfloat16 cannot be had, DataError where weights do not fit.
    """
    if not metrics:
        return
    resources = LocalResources(entry, settings, progress) if resources is None else resources
    model, dataset, stages, spliced_stages = entry.model, entry.dataset, Stages(), Stages()
    model.eval().to(device=settings.device, dtype=settings.weights_dtype)
    if reduced := settings.dtype == torch.bfloat16:
        precision.check(model, settings.device)
    commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain", "--", "vaebench", "model_zoo")
    for name, metric in metrics.items():
        started = time.perf_counter()
        measured: dict[str, Measurement] = {}
        effects: dict[str, Effect] = {}
        status: Status = "ok"
        comparability = parameters(metric)
        try:
            with contained():
                comparability = _comparability(model, dataset, metric)
                reason = metric.unsupported(model, dataset)
            if reason is not None:
                status = "skipped"
            else:
                run = partial(MetricRun, entry, name, metric, resources=resources)
                with contained(), _remembered(settings) as how:
                    with arithmetic(settings.dtype):
                        measured = _collect(metric, entry, run(how, progress, keep=keep, stages=stages))
                    if reduced:
                        again = run(dataclasses.replace(how, spliced=True), Silent(), stages=spliced_stages)
                        spliced = _collect(metric, entry, again)
                        effects = precision.effects(measured, spliced, again.share)
        except UnavailableError as error:
            status, reason = "skipped", str(error)
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
        columns = [c for c in metric.columns if status != "ok" or c.name in measured]
        yield [
            _row(common, column, *_judged(measured.get(column.name), status, reason, effects.get(column.name)))
            for column in columns
        ]
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


def _collect(metric: Metric, entry: Entry, run: MetricRun) -> dict[str, Measurement]:
    """The measurements by column; ValueError for an undeclared or repeated column, or a value that is not finite."""
    declared, measured = {column.name for column in metric.columns}, dict[str, Measurement]()
    for measurement in metric.measure(entry.model, entry.dataset, run):
        if measurement.column not in declared or measurement.column in measured:
            raise ValueError(f"column {measurement.column!r} is undeclared or came twice")
        if not math.isfinite(measurement.value) or not math.isfinite(measurement.stderr or 0.0):
            raise ValueError(f"{measurement.column} is {measurement.value} +- {measurement.stderr}")
        measured[measurement.column] = measurement
    return measured


def _judged(
    found: Measurement | None, status: Status, reason: str | None, effect: Effect | None
) -> tuple[Measurement | None, Status, str | None]:
    if found is None or effect is None:
        return found, status, reason
    return (found, "ok", effect.note) if effect.stands else (None, "failed", effect.note)


def _row(common: dict[str, Any], column: Column, found: Measurement | None, status: Status, reason: str | None) -> Row:
    return Row(
        **common,
        column=column.name,
        value=None if found is None else found.value,
        stderr=None if found is None else found.stderr,
        n=None if found is None else found.n,
        unit=column.unit,
        better=column.better,
        bound=column.bound,
        curve=None if found is None else found.curve,
        status=status,
        reason=reason,
    )
