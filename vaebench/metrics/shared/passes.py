"""Passes that several metrics share: posteriors, embeddings, samples of the prior."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from vaebench.core.data import Batch, Space, Split, eight_bit
from vaebench.core.metric import BLOCK, Run, Stage
from vaebench.core.model import LatentVariableModel
from vaebench.distributions.likelihoods import Likelihood
from vaebench.distributions.noise import keyed
from vaebench.functional.aggregate import Mixture

Decode = Literal["mean", "sample"]
READINGS = 4
"""How many readings of a noisy training split show what one adds to the error of what is trained on the first."""


@final
@dataclass(frozen=True)
class Posterior(Stage):
    """`mean` and `log_variance` (B, L) of the first group's q(z|x)."""

    version: ClassVar[int] = 1
    stream: ClassVar[str] = "posterior"

    def __call__(self, model: LatentVariableModel, batch: Batch, seed: int) -> Mapping[str, Tensor]:
        with keyed(seed, batch.example):
            q = model.posterior(batch.x).first().moments()
        return {"mean": q.mean, "log_variance": q.log_variance}


@final
@dataclass(frozen=True)
class Embedding(Stage):
    """`embedding` (B, F)."""

    version: ClassVar[int] = 1
    stream: ClassVar[str] = "embedding"

    def __call__(self, model: LatentVariableModel, batch: Batch, seed: int) -> Mapping[str, Tensor]:
        with keyed(seed, batch.example):
            return {"embedding": model.embed(batch.x)}


def readings(stage: Stage, name: str, split: Split, run: Run) -> Tensor:
    """(R, N, ...): the `name` that `stage` gives, of `READINGS` readings if `split` is read with noise, else of one."""
    count = READINGS if split.noisy else 1
    found = run.shared(stage, split, repeats=count)[name]
    return found.reshape(count, len(split), *found.shape[1:])


def candidates(index: Tensor) -> Split:
    """The draws `index` (N,) of the prior, as a split that `PriorLatents` and `PriorSample` map over."""
    return Split("draws of the prior", index)


def log_aggregate(z: Tensor, q: Mixture, run: Run, rest: Tensor | None = None) -> Tensor:
    """log q(z) at the points z (M, L), or at z + `rest`, as a pass of `run`: (M,) float64 nats."""
    return run.map(partial(_log_density, q=q.to(run.device)), points(z, rest), batch=BLOCK)["log_q"]


def points(z: Tensor, rest: Tensor | None = None) -> Split:
    """The points z (M, L) and what they lost to rounding, side by side, (M, 2L) float64."""
    z = z.double()
    return Split("points", torch.cat([z, torch.zeros_like(z) if rest is None else rest], 1))


def _log_density(batch: Batch, seed: int, *, q: Mixture) -> Mapping[str, Tensor]:
    return {"log_q": q.log_density(*batch.x.chunk(2, 1))}


@final
@dataclass(frozen=True)
class PriorLatents(Stage):
    """`z` (B, L), the first group of the prior draws that `candidates` names, flattened; nothing is decoded.

    `log_p` (B,) float64 is its log density, by the noise that made it.
    """

    temperature: float = 1.0

    version: ClassVar[int] = 2
    stream: ClassVar[str] = "prior"

    def __call__(self, model: LatentVariableModel, batch: Batch, seed: int) -> Mapping[str, Tensor]:
        with keyed(seed, batch.x):
            (z,), log_p = model.prior(len(batch.x), self.temperature).first().rsample_with_log_prob(1)
        return {"z": z[0], "log_p": log_p[0].double()}


@final
@dataclass(frozen=True)
class PriorSample(Stage):
    """`x` (B, *shape): the decoder's mean or a sample at the same draws, as `displayed`."""

    decode: Decode = "mean"
    temperature: float = 1.0

    version: ClassVar[int] = 1
    stream: ClassVar[str] = "prior"

    def __call__(self, model: LatentVariableModel, batch: Batch, seed: int) -> Mapping[str, Tensor]:
        with keyed(seed, batch.x):
            likelihood = model.likelihood(model.prior(len(batch.x), self.temperature).rsample(1))
            return {"x": displayed(likelihood, self.decode, model.space)[0]}


def displayed(likelihood: Likelihood, decode: Decode, space: Space) -> Tensor:
    """The mean or a sample of p(x|z), (S, B, *shape): 8-bit, 0 to 255, where the space has levels or an interval, which
    a density may leave and a picture cannot; else as it is.

    Raises ValueError for a value that is NaN, infinite or outside the space, or made from such an output, of which a
    sample may well be finite: such a model's samples are not scored.
    """
    x = likelihood.mean if decode == "mean" else likelihood.sample().to(likelihood.mean.dtype)
    if not all(bool(torch.isfinite(value).all()) for value in (likelihood.raw, x)):
        raise ValueError(f"decoder {decode} is NaN or infinite")
    if space.levels is None:
        return x if space.interval is None else eight_bit(x, space)
    if float(x.min()) < -1e-4 or float(x.max()) > space.levels - 1 + 1e-4:
        raise ValueError(f"decoder {decode} lies in [{x.min():.4g}, {x.max():.4g}], outside 0..{space.levels - 1}")
    return eight_bit(x, space)


def varied(x: Tensor, what: str) -> Tensor:
    """`x` (N, *shape) itself. Raises ValueError if all its examples are the same: a collapsed decoder is not scored."""
    if len(x) > 1 and bool((x == x[:1]).all()):
        raise ValueError(f"all {len(x)} {what} are the same example")
    return x
