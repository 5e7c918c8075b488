"""One evaluation: seeds, device, blocks, journal; failures become rows; every row carries its provenance."""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, Protocol, final

import torch
from torch import Tensor

from . import __version__
from .data import Batch, Dataset, Split
from .distributions.likelihoods import Likelihood
from .distributions.noise import keyed
from .errors import UserError
from .execution import in_process
from .functional.random import derive
from .journal import BlockKey, Journal
from .metric import Column, Measurement, Metric
from .model import LatentVariableModel
from .provenance import device_name, git, peak_memory
from .rows import Row

Outcome = Literal["ok", "skipped", "failed"]
BLOCK = 100  # examples journalled together
DECODED_FLOATS = 2**21  # decoder outputs computed at once by default: what a cache of a few MB can hold


class Progress(Protocol):
    """Where a run reports to."""

    def start(self, metric: str, blocks: int) -> None:
        """`metric` has begun a pass of so many blocks."""
        ...

    def advance(self, blocks: int) -> None:
        """So many more blocks of the pass are done."""
        ...

    def failed(self, metric: str, error: Exception) -> None:
        """`metric` ended in `error`; the other metrics go on."""
        ...

    def warn(self, text: str) -> None:
        """Something that the user should know and that stops nothing."""
        ...


@dataclass(frozen=True)
class Settings:
    """How to run: `rows` draws decoded at once (None: by size), `in_flight` blocks (None: one for each CPU thread).

    No value depends on either but for rounding.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    rows: int | None = None
    in_flight: int | None = None

    @property
    def blocks_in_flight(self) -> int:
        """Several small products side by side use a CPU better than one product on several threads."""
        if self.in_flight is not None:
            return self.in_flight
        return torch.get_num_threads() if self.device.type == "cpu" else 1


@dataclass(frozen=True)
class Subject:
    """What is evaluated: a model under its board name, and what it is: a digest of adapter and options, its weights."""

    name: str
    model: LatentVariableModel
    architecture: str
    weights_sha256: str


@final
class MetricRun:
    """The `metric.Run` of one metric on one subject and dataset."""

    def __init__(
        self,
        subject: Subject,
        dataset: Dataset,
        name: str,
        metric: Metric,
        seed: int,
        settings: Settings,
        journal: Journal | None,
        progress: Progress,
    ) -> None:
        self._subject, self._dataset, self._name, self._metric = subject, dataset, name, metric
        self._seed, self._settings, self._journal, self._progress = seed, settings, journal, progress
        self._passes = 0

    @property
    def device(self) -> torch.device:
        return self._settings.device

    def rows(self, model: LatentVariableModel) -> int:
        if self._settings.rows is not None:
            return self._settings.rows
        size = _probe(model).raw.numel()
        return min(4096, max(1, DECODED_FLOATS // size))

    def map(
        self,
        function: Callable[[Batch, int], Mapping[str, Tensor]],
        split: Split,
        *,
        repeats: int = 1,
        batch: int = 1,
    ) -> dict[str, Tensor]:
        self._passes += 1
        seed = derive(self._seed, self._name, split.name, self._passes)
        total = repeats * len(split)
        blocks = [range(start, min(start + BLOCK, total)) for start in range(0, total, BLOCK)]
        self._progress.start(self._name, len(blocks))
        work = partial(self._block, function, split, seed, batch)
        results: list[dict[str, Tensor]] = []
        for result in in_process(work, blocks, self._settings.blocks_in_flight):
            results.append(result)
            self._progress.advance(1)
        return {name: torch.cat([result[name] for result in results]) for name in results[0]}

    def _block(
        self, function: Callable[[Batch, int], Mapping[str, Tensor]], split: Split, seed: int, batch: int, block: range
    ) -> dict[str, Tensor]:
        """The values of one block, from the journal where it holds them."""
        key = self._key(split, block)
        if self._journal is not None and (known := self._journal.get(key)) is not None:
            return {name: torch.from_numpy(array) for name, array in known.items()}
        parts: dict[str, list[Tensor]] = {}
        for start in range(block.start, block.stop, batch):
            example = torch.arange(start, min(start + batch, block.stop))
            with torch.no_grad():
                for name, value in function(self._take(split, example, seed), seed).items():
                    parts.setdefault(name, []).append(value.cpu())
        values = {name: torch.cat(part) for name, part in parts.items()}
        if self._journal is not None:
            try:
                self._journal.put(key, {name: value.numpy() for name, value in values.items()})
            except UserError as error:
                self._progress.warn(f"{error}; the run goes on without resume")
                self._journal = None
        return values

    def _take(self, split: Split, example: Tensor, seed: int) -> Batch:
        """Examples `example` (of the split read over and over), on the device; `example` tells readings apart."""
        with keyed(derive(seed, "data"), example):
            x, y, _ = split.take(example % len(split))
        return Batch(x.to(self.device), None if y is None else y.to(self.device), example.to(self.device))

    def _key(self, split: Split, block: range) -> BlockKey:
        return BlockKey(
            architecture=self._subject.architecture,
            weights_sha256=self._subject.weights_sha256,
            data_fingerprint=self._dataset.fingerprint,
            dataset=self._dataset.name,
            split=split.name,
            metric=self._name,
            metric_version=self._metric.version,
            parameters=parameters(self._metric),
            seed=self._seed,
            dtype=str(self._settings.dtype),
            device=self.device.type,
            pass_number=self._passes,
            block_start=block.start,
            block_stop=block.stop,
            torch=torch.__version__,
        )


def parameters(metric: Metric) -> str:
    """The metric's fields as sorted JSON."""
    return json.dumps(dataclasses.asdict(metric), sort_keys=True)


def _probe(model: LatentVariableModel) -> Likelihood:
    """p(x|z) at one draw of the prior, always the same."""
    with torch.no_grad(), keyed(0, torch.arange(1)):
        return model.likelihood(model.prior(1).rsample(1))


def _comparability(subject: Subject, dataset: Dataset, metric: Metric) -> str:
    """What must be equal for two rows to be ranked together (PROTOCOLS decision 2), as sorted JSON."""
    space = dataset.space
    dynamic = any(split.binarise for split in dataset.splits.values())
    protocol: dict[str, Any] = {
        **dataclasses.asdict(metric),
        "likelihood": _probe(subject.model).family,
        "levels": space.levels,
        "measure": space.measure,
        "binarisation": "dynamic" if dynamic else "none",
    }
    return json.dumps(protocol, sort_keys=True)


def evaluate(
    subject: Subject,
    dataset: Dataset,
    metrics: Mapping[str, Metric],
    *,
    seed: int,
    settings: Settings,
    journal: Journal | None,
    progress: Progress,
) -> Iterator[list[Row]]:
    """The rows of each metric, as it ends: `ok`, `skipped` with a reason, or `failed` with a reason.

    A metric that fails costs its own rows only. The model is moved to the device and dtype, in evaluation mode.
    """
    subject.model.eval().to(device=settings.device, dtype=settings.dtype)
    commit, status = git("rev-parse", "HEAD"), git("status", "--porcelain", "--", "vaebench", "model_zoo")
    for name, metric in metrics.items():
        started = time.perf_counter()
        measured: dict[str, Measurement] = {}
        outcome: Outcome = "ok"
        comparability = parameters(metric)
        try:
            comparability = _comparability(subject, dataset, metric)
            if (reason := metric.unsupported(subject.model, dataset)) is not None:
                outcome = "skipped"
            else:
                run = MetricRun(subject, dataset, name, metric, seed, settings, journal, progress)
                measured = _collect(metric, subject.model, dataset, run)
        except Exception as error:
            progress.failed(name, error)
            outcome, reason = "failed", f"{type(error).__name__}: {error}"
        seconds = time.perf_counter() - started
        common = {
            "model": subject.name,
            "weights_sha256": subject.weights_sha256,
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
            "seed": seed,
            "device": device_name(settings.device),
            "dtype": str(settings.dtype).removeprefix("torch."),
            "torch": torch.__version__,
            "vaebench": __version__,
            "commit": commit,
            "dirty": None if status is None else bool(status),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
            "peak_memory": peak_memory(settings.device),
        }
        columns = [c for c in metric.columns if outcome != "ok" or c.name in measured]
        yield [_row(common, column, measured.get(column.name), outcome, reason) for column in columns]
    if journal is not None:
        journal.prune()


def _collect(metric: Metric, model: LatentVariableModel, dataset: Dataset, run: MetricRun) -> dict[str, Measurement]:
    """The measurements by column; ValueError for an undeclared or repeated column, or a value that is not finite."""
    declared, measured = {column.name for column in metric.columns}, dict[str, Measurement]()
    for measurement in metric.measure(model, dataset, run):
        if measurement.column not in declared or measurement.column in measured:
            raise ValueError(f"column {measurement.column!r} is undeclared or came twice")
        if not math.isfinite(measurement.value) or not math.isfinite(measurement.stderr or 0.0):
            raise ValueError(f"{measurement.column} is {measurement.value} +- {measurement.stderr}")
        measured[measurement.column] = measurement
    return measured


def _row(common: dict[str, Any], column: Column, found: Measurement | None, status: Outcome, reason: str | None) -> Row:
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
