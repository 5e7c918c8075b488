"""A model whose latents are the pixels, so that reconstructions and divergences have closed forms."""

from collections.abc import Iterator
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.types import _size

from vaebench.core.data import Binarised, Dataset, Space, Split
from vaebench.core.model import FactoredModel, LatentDistribution, Latents
from vaebench.distributions.gaussian import DiagonalGaussian
from vaebench.distributions.likelihoods import Likelihood

Fault = Literal["", "nan", "bright", "constant"]
NONE = torch.Size()


@final
class Plain(Likelihood):
    """A mean that is `raw` itself, of probability 1."""

    family = "gaussian"

    @staticmethod
    def channels(shape: tuple[int, ...], levels: int | None) -> int:
        return shape[0]

    def log_prob(self, x: Tensor) -> Tensor:
        return torch.zeros(self.batch_shape)

    @property
    def mean(self) -> Tensor:
        return self.raw

    def sample(self, sample_shape: _size = NONE) -> Tensor:
        return self.raw


@final
class Other(LatentDistribution):
    """A posterior that is no Gaussian, though its draws are another's."""

    def __init__(self, base: DiagonalGaussian) -> None:
        self.base = base

    def rsample(self, samples: int) -> Latents:
        return self.base.rsample(samples)

    def log_prob(self, latents: Latents) -> Tensor:
        return self.base.log_prob(latents)


@final
class Pixels(FactoredModel):
    """q(z|x) = N(x, exp(log_variance + slope mean(x)) I), E[x|z] = z + shift, in levels; `other`: q is no Gaussian."""

    def __init__(
        self,
        space: Space,
        log_variance: float = -60.0,
        *,
        shift: float = 0.0,
        slope: float = 0.0,
        fault: Fault = "",
        other: bool = False,
    ) -> None:
        super().__init__(space)
        self.log_variance = nn.Parameter(torch.tensor(log_variance))
        self.shift, self.slope, self.fault, self.other = shift, slope, fault, other

    def prior(self, batch: int, temperature: float = 1.0) -> DiagonalGaussian:
        zero = torch.zeros(batch, self.space.dims)
        return DiagonalGaussian(zero, zero + 2 * torch.tensor(temperature).log())

    def posterior(self, x: Tensor) -> LatentDistribution:
        mean = x.flatten(1).float()
        base = DiagonalGaussian(mean, (self.log_variance + self.slope * mean.mean(1, keepdim=True)).expand_as(mean))
        return Other(base) if self.other else base

    def likelihood(self, latents: Latents) -> Plain:
        raw = latents[0] + self.shift
        if self.fault == "constant":
            raw = torch.zeros_like(raw)
        if self.fault:
            raw[0, -1, 0] = {"nan": torch.nan, "bright": 300.0, "constant": 0.0}[self.fault]
        return Plain(raw.unflatten(2, self.space.shape), self.space.shape, self.space.levels)

    def embed(self, x: Tensor) -> Tensor:
        return torch.full_like(x.flatten(1).float(), torch.nan) if self.fault == "nan" else x.flatten(1).float()

    def inference_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield "log_variance", self.log_variance


def pictures(
    space: Space, count: int = 40, low: int = 0, high: int | None = None, *, binarise: bool = False
) -> Dataset:
    """`count` random images of levels low..high-1, as both splits; no labels."""
    generator = torch.Generator().manual_seed(count)
    top = high or (256 if binarise else space.levels)
    assert top is not None
    x = torch.randint(low, top, (count, *space.shape), generator=generator, dtype=torch.uint8)
    return Dataset(
        "pictures",
        space,
        {name: Split(name, x, reading=Binarised() if binarise else None) for name in ("train", "test")},
        "",
    )
