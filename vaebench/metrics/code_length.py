"""Code lengths that are achieved: images into a file by bits back, and out of it again bit for bit."""

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Self, final

import numpy as np
import torch
from torch import Tensor

from vaebench.core.data import Batch, Dataset
from vaebench.core.metric import BLOCK, Column, Measurement, Metric, Run
from vaebench.core.model import LatentVariableModel
from vaebench.functional import codes
from vaebench.functional.codes import MOST_BINS, Stack
from vaebench.functional.random import derive
from vaebench.functional.statistics import mean_stderr
from vaebench.metrics.shared.bits_back import BitsBack, obstacle
from vaebench.metrics.shared.bounds import score

MOST_DEAR_CODED = 20  # images that preset quick codes where draws are dear: their masses take longest
LEAST, MOST = -0.005, 0.02  # of the overhead: beyond, the stated ELBO is not that of what was coded
CHANCE = 3  # standard errors of the overhead that are not held against it: of few images it is known to a percent


def coded(batch: Batch, seed: int, *, model: LatentVariableModel, metric: "CodeLength", rows: int) -> dict[str, Tensor]:
    """Bits that each image adds to a file of them all, bits that it had to begin with, and -ELBO in bits: each (B,).

    Raises ValueError if what is read from the file is not what was written.
    """
    code, numbers = BitsBack(model, metric.bins), batch.example.tolist()
    begin = codes.start(derive(seed, "stack", numbers[0]), code.enough())
    stack = Stack(begin.copy())
    added = code.push(batch.x, stack, numbers)
    spared = codes.untouched(stack)
    with tempfile.TemporaryFile() as file:
        file.write(stack.words[spared:].astype("<u4").tobytes())
        file.seek(0)
        back = Stack(np.frombuffer(file.read(), dtype="<u4").astype(np.uint32))
    differ = (code.pop(len(batch.x), back) != batch.x.cpu()).flatten(1).any(1)
    if bool(differ.any()):
        raise ValueError(f"image {numbers[int(differ.nonzero()[0])]} came back otherwise")
    if not np.array_equal(back.words, begin[spared:]):
        raise ValueError(f"the bits that the file of image {numbers[0]} began with came back otherwise")
    bounds = score(batch, derive(seed, "bound"), model=model, samples=metric.samples, rows=rows)
    initial = codes.WORD * (len(begin) - spared)
    return {
        "added": torch.tensor(added, dtype=torch.float64),
        "initial": torch.full((len(added),), initial, dtype=torch.float64),
        "bound": -bounds["elbo"] / math.log(2),
    }


@final
@dataclass(frozen=True)
class CodeLength(Metric):
    """What `split` takes in files of 100 images, each decoded again and compared: without that there is no row.

    * code_length: bits per dimension that the images add, net of the bits that a file has to begin with: bits back with
      asymmetric numeral systems, latents on 2**`bins` bins of equal mass under their prior, networks in the run's
      arithmetic. A dynamically binarised split is read once.
    * code_overhead: code_length / -ELBO - 1, with the ELBO of `samples` draws of q on the same images. Decoding proves
      nothing of how p(x|z) is normalised, for the coder normalises again; outside -0.5% to 2%, by more than three of
      its standard errors, the row fails.
    * initial_bits: what the first images of a file take from it to begin with, and give back at its end.

    Source: Townsend, Bird & Barber 2019 (BB-ANS); Townsend et al. 2020 (HiLLoC) for hierarchies.
    """

    bins: int = 12
    samples: int = 100

    version: ClassVar[int] = 1
    given = ("levels", "measure", "binarisation", "mass")
    columns: ClassVar[tuple[Column, ...]] = (
        Column("code_length", "bits/dim", "lower", "upper", equation="bits that an image adds to its file / D"),
        Column("code_overhead", "fraction", "none", "estimate", equation="code_length D log 2 / -ELBO - 1"),
        Column("initial_bits", "bits", "none", "estimate", equation="bits that a file has to begin with"),
    )

    def __post_init__(self) -> None:
        if not 1 <= self.bins <= MOST_BINS:
            raise ValueError(f"bins = {self.bins} should be from 1 to {MOST_BINS}: there are 2**bins of them")
        if self.samples < 1:
            raise ValueError(f"samples = {self.samples} should be at least 1")

    def quick(self, dataset: Dataset, *, dear: bool) -> Self:
        return self.thinned(dataset, MOST_DEAR_CODED) if dear else Metric.quick(self, dataset, dear=dear)

    def unsupported(self, model: LatentVariableModel, dataset: Dataset) -> str | None:
        reason = super().unsupported(model, dataset)
        return obstacle(model) if reason is None else reason

    def measure(self, model: LatentVariableModel, dataset: Dataset, run: Run) -> Iterator[Measurement]:
        split = dataset.split(self.split)
        found = run.map(partial(coded, model=model, metric=self), split, batch=BLOCK, rows=run.rows(model))
        length = found["added"] / dataset.space.dims
        yield Measurement.mean("code_length", length)
        bound = found["bound"]
        ratio = float(found["added"].mean() / bound.mean())
        _, stderr = mean_stderr((found["added"] - ratio * bound) / bound.mean())  # of a ratio of means
        chance = CHANCE * (stderr or 0.0)
        if not LEAST - chance <= ratio - 1 <= MOST + chance:
            raise ValueError(
                f"the code is {ratio - 1:+.2%} longer than -ELBO, outside {LEAST:.1%} to {MOST:.0%}: the bound is not "
                f"that of what was coded, or 2**{self.bins} bins are too few"
            )
        yield Measurement("code_overhead", ratio - 1, stderr, len(split), df=None if stderr is None else len(split) - 1)
        yield Measurement("initial_bits", float(found["initial"].mean()), None, len(split))
        run.keep_values({"code_length": length})


plugin = {"quick": CodeLength(), "standard": CodeLength(), "paper": CodeLength()}
