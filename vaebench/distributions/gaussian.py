"""Gaussian latents: one vector, or a chain of groups in which each depends on those above it."""

from collections.abc import Callable
from typing import final

from torch import Tensor

from ..functional.gaussian import log_density
from . import noise


@final
class DiagonalGaussian:
    """N(mean, diag(exp(log_variance))) for B examples: `mean`, `log_variance` (B, L). A LatentDistribution."""

    def __init__(self, mean: Tensor, log_variance: Tensor) -> None:
        self.mean, self.log_variance = mean, log_variance

    def rsample(self, samples: int) -> tuple[Tensor, ...]:
        """One group of reparameterised draws: ((S, B, L),)."""
        eps = noise.standard_normal((samples, *self.mean.shape), self.mean)
        return (self.mean + (0.5 * self.log_variance).exp() * eps,)

    def log_prob(self, latents: tuple[Tensor, ...]) -> Tensor:
        """log N(z; mean, variance) summed over L: (S, B) nats."""
        return log_density(latents[0], self.mean, self.log_variance)


Conditional = Callable[[tuple[Tensor, ...]], tuple[Tensor, Tensor]]
"""From the groups above (S, B, ...) to a group's mean and log-variance, each (S or 1, B, *event)."""


@final
class TopDownGaussian:
    """prod_g N(z_g; mean_g(z_<g), diag variance_g(z_<g)) for B examples. A LatentDistribution.

    `conditionals[g]` gives group g's mean and log-variance from the groups above it.
    """

    def __init__(self, conditionals: tuple[Conditional, ...]) -> None:
        self.conditionals = conditionals

    def rsample(self, samples: int) -> tuple[Tensor, ...]:
        """Every group, top-down: (S, B, *event) each."""
        latents: tuple[Tensor, ...] = ()
        for conditional in self.conditionals:
            mean, log_variance = conditional(latents)
            eps = noise.standard_normal((samples, *mean.shape[1:]), mean)
            latents = (*latents, mean + (0.5 * log_variance).exp() * eps)
        return latents

    def log_prob(self, latents: tuple[Tensor, ...]) -> Tensor:
        """The sum of the groups' conditional log densities: (S, B) nats."""
        terms = [
            log_density(z, *conditional(latents[:g]), dims=z.ndim - 2)
            for g, (conditional, z) in enumerate(zip(self.conditionals, latents, strict=True))
        ]
        return sum(terms[1:], start=terms[0])
