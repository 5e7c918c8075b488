"""A model whose posteriors are its data, so that any aggregate posterior can be planted: pockets, leaks, a match."""

from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor, nn

from vaebench.core.data import Dataset, Space, Split
from vaebench.core.model import FactoredModel, LatentDistribution, Latents
from vaebench.distributions.coupling import CouplingFlow, DecoupledPrior
from vaebench.distributions.gaussian import DiagonalGaussian
from vaebench.distributions.likelihoods import Gaussian, Likelihood

LATENT = 2


@final
class Stored(FactoredModel):
    """q(z|x) = N(x, exp(log_variance)): an example is its own posterior mean."""

    def __init__(self, log_variance: float, flow: CouplingFlow | None = None) -> None:
        super().__init__(Space((LATENT,), None, "density"))
        self.log_variance = nn.Parameter(torch.tensor(log_variance))
        self.flow = flow

    def prior(self, batch: int, temperature: float = 1.0) -> LatentDistribution:
        if self.flow is not None:
            return DecoupledPrior(self.flow, batch, temperature)
        zero = torch.zeros(batch, LATENT)
        return DiagonalGaussian(zero, zero)

    def posterior(self, x: Tensor) -> DiagonalGaussian:
        return DiagonalGaussian(x, self.log_variance.expand_as(x))

    def likelihood(self, latents: Latents) -> Likelihood:
        (z,) = latents
        return Gaussian(torch.cat([z, torch.zeros_like(z)], -1), self.space.shape, None)

    def embed(self, x: Tensor) -> Tensor:
        return x

    def inference_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield "log_variance", self.log_variance


def dataset(x: Tensor) -> Dataset:
    return Dataset("toy", Space((LATENT,), None, "density"), {"train": Split("train", x)}, "")


def means(count: int, mean: float, scale: float) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return mean + scale * torch.randn(count, LATENT, generator=generator)


def pocket(x: Tensor) -> Tensor:
    """Without the examples near the origin: the prior's densest place is left empty."""
    return x[x.norm(dim=1) > 1.5]


def leak(x: Tensor) -> Tensor:
    """A tenth of the examples far outside the prior."""
    moved = x.clone()
    moved[: len(x) // 10] = torch.tensor([6.0, 6.0]) + 0.1 * x[: len(x) // 10]
    return moved
