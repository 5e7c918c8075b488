"""How the passes of one metric run: seeds, device, blocks, the journal, and what all metrics of a run share."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from vaebench.boards.per_example import encode
from vaebench.boards.per_example import name as file_name
from vaebench.core import device as memory
from vaebench.core.content import pass_identity, qualified
from vaebench.core.data import Batch, Dataset, Split
from vaebench.core.errors import UserError
from vaebench.core.metric import BLOCK, Metric, Resources, Stage, Trajectory, UnavailableError
from vaebench.core.model import HierarchicalModel, LatentVariableModel
from vaebench.distributions.likelihoods import Likelihood
from vaebench.distributions.noise import keyed
from vaebench.evaluation.budget import Budget
from vaebench.evaluation.entry import Entry
from vaebench.evaluation.executor import Executor, Pass, in_process
from vaebench.evaluation.foresight import Foresight
from vaebench.evaluation.journal import BlockKey, Journal
from vaebench.evaluation.progress import Progress
from vaebench.functional.random import derive

EVERY = 10  # blocks of which one is in float32 in a spliced run
CPU = torch.device("cpu")
MOST_ROWS = 4096  # draws decoded at once
DEAR = 2**18  # decoder outputs of one draw
DECODED_FLOATS = 2**21  # decoder outputs computed at once by default: what a cache of a few MB can hold


@dataclass(frozen=True)
class Settings:
    """How to run. No value depends on `max_draws`, `in_flight`, `cluster` or `journal` but for rounding.

    `seed` is that of all noise. `max_draws` are decoded at once: by default what a CPU's cache holds, or half of an
    accelerator's free memory. `in_flight` blocks are computed at once, by default one for each CPU thread; with
    `cluster`, they are computed there. A `dtype` of bfloat16 is of the networks alone: see `core.arithmetic`. Where
    `spliced`, every tenth block is in float32 instead. Finished blocks are kept in `journal`. `data` is the root of
    datasets, by default `files.default_data`; `inception` is a file of weights, or "download", by default
    `inception.default`. Where `unchecked`, models are evaluated that need not keep a promise (`admission.admit`), and
    values say so. With `foresee`, each metric tells how much work it is, for which a few examples are computed twice.
    With a `budget`, metrics are measured on as many examples as fit it, with the values that these have in a whole run.
    """

    device: torch.device = CPU
    dtype: torch.dtype = torch.float32
    seed: int = 0
    max_draws: int | None = None
    in_flight: int | None = None
    cluster: Executor | None = None
    spliced: bool = False
    journal: Journal | None = None
    data: Path | None = None
    inception: str | None = None
    unchecked: bool = False
    foresee: bool = False
    budget: Budget | None = None

    @property
    def weights_dtype(self) -> torch.dtype:
        """What weights, densities and statistics are in."""
        return torch.float32 if self.dtype == torch.bfloat16 else self.dtype

    @property
    def blocks_in_flight(self) -> int:
        """Several small products side by side use a CPU better than one product on several threads."""
        if self.in_flight is not None:
            return self.in_flight
        return torch.get_num_threads() if self.device.type == "cpu" else 1

    @property
    def executor(self) -> Executor:
        """What computes the blocks."""
        return self.cluster or partial(in_process, in_flight=self.blocks_in_flight)


def dtype_of(block: range, *, dtype: torch.dtype, spliced: bool) -> torch.dtype:
    """What the networks compute a block in: `dtype`, or where spliced float32 in every tenth."""
    return torch.float32 if spliced and block.start // BLOCK % EVERY == 0 else dtype


Keep = Callable[[str, str, bytes], None]
"""Keeps a file of a metric: the metric's name, the file's, and its content."""
Stages = dict[tuple[Stage, str, int], dict[str, Tensor]]
"""What the metrics of one run have shared so far, by stage and split."""


def discard(metric: str, name: str, content: bytes) -> None:
    """`Keep` that keeps nothing."""


@final
class NoResources:
    """`metric.Resources` of a run that has none."""

    def _none(self, what: str) -> UnavailableError:
        return UnavailableError(f"{what} is not at hand in this run")

    def dataset(self, name: str) -> Dataset:
        raise self._none(f"dataset {name!r}")

    def model(self, name: str) -> LatentVariableModel:
        raise self._none(f"model {name!r}")

    def trajectory(self) -> Trajectory:
        raise self._none("a training trajectory")

    def features(self) -> tuple[str, Callable[[Tensor], Tensor]]:
        raise self._none("a classifier")

    def inception_weights(self) -> Path:
        raise self._none("the Inception network")


@final
class MetricRun:
    """The `metric.Run` of one metric on one entry. Metrics that are given the same `stages` share passes."""

    def __init__(
        self,
        entry: Entry,
        name: str,
        metric: Metric,
        settings: Settings,
        progress: Progress,
        resources: Resources | None = None,
        keep: Keep = discard,
        stages: Stages | None = None,
    ) -> None:
        self._entry, self._name, self._metric, self._settings, self._progress = entry, name, metric, settings, progress
        self._resources = NoResources() if resources is None else resources
        self._keep, self._stages = keep, {} if stages is None else stages
        self._dataset, self._seed, self._journal = entry.dataset, settings.seed, settings.journal
        self._passes, self._cut = 0, 1
        in_flight = settings.blocks_in_flight if settings.cluster is None else None
        self._foresight = Foresight(name, metric, entry.dataset, progress, in_flight, settings.budget)
        self.share = 1.0
        """The examples that are in float32 where blocks are spliced: in the pass that has fewest"""

    @property
    def resources(self) -> Resources:
        return self._resources

    @property
    def model_name(self) -> str:
        return self._entry.name

    def warn(self, text: str) -> None:
        self._progress.warn(text)

    def keep(self, name: str, content: bytes) -> None:
        self._keep(self._name, name, content)

    def keep_values(self, values: Mapping[str, Tensor]) -> None:
        fields = parameters(self._metric)
        about = {
            "model": self._entry.name,
            "weights_sha256": self._entry.weights_sha256,
            "dataset": self._dataset.name,
            "data_fingerprint": self._dataset.fingerprint,
            "split": self._metric.split,
            "metric": self._name,
            "metric_version": self._metric.version,
            "parameters": fields,
            "seed": self._seed,
            "dtype": str(self._settings.dtype).removeprefix("torch."),
        }
        content = encode({column: value.cpu().numpy() for column, value in values.items()}, about)
        self.keep(file_name(fields, self._seed, self._entry.weights_sha256), content)

    @property
    def device(self) -> torch.device:
        return self._settings.device

    @property
    def seed(self) -> int:
        return derive(self._seed, self._name)

    def rows(self, model: LatentVariableModel) -> int:
        if self._settings.max_draws is not None:
            return self._settings.max_draws
        if self.device.type == "cuda":
            return memory.rows(model, self.device, MOST_ROWS)
        return min(MOST_ROWS, max(1, DECODED_FLOATS // probe(model).raw.numel()))

    def map(
        self,
        function: Callable[..., Mapping[str, Tensor]],
        split: Split,
        *,
        repeats: int = 1,
        batch: int = 1,
        rows: int | None = None,
        stream: str | None = None,
        block: int | None = None,
    ) -> dict[str, Tensor]:
        self._passes += 1
        self._count(repeats * len(split))
        seed = derive(self._seed, self._name, split.stream if stream is None else stream, self._passes)
        work = self._pass(function, split, seed, batch, rows)
        key = partial(self._key, work, self._name, self._metric.version, parameters(self._metric))
        return self._map(work, key, self._name, repeats * len(split), block)

    def shared(self, stage: Stage, split: Split, *, repeats: int = 1, batch: int = BLOCK) -> dict[str, Tensor]:
        self._count(repeats * len(split))
        if (place := (stage, split.identity, repeats)) not in self._stages:
            seed = derive(self._seed, "stage", stage.stream)
            work = self._pass(partial(apply, stage=stage, model=self._entry.model), split, seed, batch, None)
            key = partial(self._key, work, f"stage {qualified(type(stage))}", stage.version, parameters(stage))
            name = f"stage {type(stage).__name__}"
            self._stages[place] = self._map(work, key, name, repeats * len(split))
        return dict(self._stages[place])

    def _count(self, total: int) -> None:
        spliced = sum(min(BLOCK, total - start) for start in range(0, total, EVERY * BLOCK))
        self.share = min(self.share, spliced / total)

    def _pass(
        self, function: Callable[..., Mapping[str, Tensor]], split: Split, seed: int, batch: int, rows: int | None
    ) -> Pass:
        computed_in = partial(dtype_of, dtype=self._settings.dtype, spliced=self._settings.spliced)
        return Pass(function, split, seed, batch, rows, self._cut, self.device, computed_in)

    def _map(
        self, work: Pass, key: Callable[[str, range], BlockKey], name: str, total: int, size: int | None = None
    ) -> dict[str, Tensor]:
        size = BLOCK if size is None else size
        key = partial(key, pass_identity(work.function))
        blocks = [range(start, min(start + size, total)) for start in range(0, total, size)]
        results = {block: known for block in blocks if (known := self._known(key(block))) is not None}
        todo = [block for block in blocks if block not in results]
        trial = self._foresight(work, todo, total) if self._settings.foresee or self._settings.budget else None
        self._progress.start(name, len(blocks))
        self._progress.advance(len(results))

        def finished(block: range, values: Mapping[str, Tensor], cut: int) -> None:
            results[block] = values
            self._remember(key(block), values)
            self._progress.advance(1)
            if cut > self._cut:  # later blocks begin there
                self._cut = cut
                self._progress.warn(f"{self._name}: memory ran out; the run goes on with 1/{cut} as much at once")

        if trial is not None and trial.values is not None:
            finished(todo.pop(0), trial.values, trial.cut)
        self._settings.executor(work, todo, finished)
        return {name: torch.cat([results[block][name] for block in blocks]) for name in results[blocks[0]]}

    def _known(self, key: BlockKey) -> Mapping[str, Tensor] | None:
        """The values of a block that the journal holds."""
        if self._journal is None or (known := self._journal.get(key)) is None:
            return None
        return {name: torch.from_numpy(array) for name, array in known.items()}

    def _remember(self, key: BlockKey, values: Mapping[str, Tensor]) -> None:
        if (journal := self._journal) is not None:
            try:
                journal.put(key, {name: value.numpy() for name, value in values.items()})
            except UserError as error:
                self._progress.warn(f"{error}; the run goes on without resume")
                self._journal = None

    def _key(self, work: Pass, name: str, version: int, fields: str, function: str, block: range) -> BlockKey:
        return BlockKey(
            architecture=self._entry.architecture,
            weights_sha256=self._entry.weights_sha256,
            data_fingerprint=self._dataset.fingerprint,
            dataset=self._dataset.name,
            split=work.split.identity,
            metric=name,
            metric_version=version,
            parameters=fields,
            function=function,
            noise=work.seed,
            dtype=str(work.dtype_of(block)),
            device=self.device.type,
            block_start=block.start,
            block_stop=block.stop,
            torch=torch.__version__,
        )


def parameters(metric: Metric | Stage) -> str:
    """The fields of a metric or stage as sorted JSON."""
    return json.dumps(dataclasses.asdict(metric), sort_keys=True)


def apply(batch: Batch, seed: int, *, stage: Stage, model: LatentVariableModel) -> Mapping[str, Tensor]:
    """The pass of a stage."""
    return stage(model, batch, seed)


def dear(model: LatentVariableModel) -> bool:
    """Whether draws cost so much that preset quick takes few: of several groups of latents, or into many numbers.

    Not of a model that gives none: its checks say why.
    """
    if isinstance(model, HierarchicalModel):
        return True
    with suppress(Exception):  # what a network from outside raises is not a closed list
        return probe(model.eval()).raw.numel() >= DEAR
    return False


def probe(model: LatentVariableModel) -> Likelihood:
    """p(x|z) at one draw of the prior, always the same."""
    with torch.no_grad(), keyed(0, torch.arange(1)):
        return model.likelihood(model.prior(1).rsample(1))
